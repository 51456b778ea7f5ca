// What may be told of a text while it is still being written.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace tilewise::runtime {

/// Lets text through, except what may be the beginning of a stop string, and ends where one is complete. What comes out
/// in all does not depend on how the text is cut into pieces.
class TextGate {
 public:
  /// None of them empty.
  explicit TextGate(std::vector<std::string> stop) : stop_(std::move(stop)) {}

  /// What this piece makes certain. Nothing more once stopped().
  std::string add(std::string_view text);

  /// Nothing follows: what was held back. Nothing once stopped().
  std::string finish();

  /// A stop string was complete. The text ends before it; of several that end at one place, before the longest.
  bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stop_;
  std::string held_;  // the longest end of the text that begins a stop string
  bool stopped_ = false;
};

}  // namespace tilewise::runtime
