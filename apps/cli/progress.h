// Where a long command stands, on standard error.
#pragma once

#include <string>

namespace tilewise::cli {

/// A line that is overwritten on a terminal, and wiped out in the end. Elsewhere each step is a line, once.
class Progress {
 public:
  explicit Progress(int steps);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// The next of `steps` begins.
  void step(const std::string& what);

  /// What happens within the step; terminals only.
  void detail(const std::string& what);

 private:
  void show(const std::string& text);

  int steps_, at_ = 0;
  bool is_terminal_;
  std::string step_;
  std::size_t shown_ = 0;  // columns
};

}  // namespace tilewise::cli
