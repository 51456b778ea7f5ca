// A sample under way: its tokens, what of them the cache holds, and what was told of its text.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "io/tokenizer/tokenizer.h"
#include "runtime/step_model.h"
#include "runtime/text_gate.h"
#include "runtime/unseen_keys.h"
#include "tilewise/generate.h"

namespace tilewise::runtime {

/// The text of a sample as its tokens come.
class SampleText {
 public:
  /// The tokenizer may be null: then there is no text.
  SampleText(const io::Tokenizer* tokenizer, const std::vector<std::string>& stop) : gate_(stop) {
    if (tokenizer != nullptr) detokenizer_.emplace(*tokenizer);
  }

  std::string add(std::int32_t token) { return detokenizer_ ? gate_.add(detokenizer_->add(token)) : ""; }
  std::string finish() { return detokenizer_ ? gate_.add(detokenizer_->finish()) + gate_.finish() : ""; }
  bool stopped() const { return gate_.stopped(); }

 private:
  std::optional<io::Detokenizer> detokenizer_{};
  TextGate gate_;
};

struct SampleSequence {
  std::int64_t sample = 0;
  std::vector<std::int32_t> tokens{};  // prompt and generated
  SampleText text;
  bool is_finished = false;

  // In the cache. All of it goes with a pre-emption.
  std::optional<KvSequence> cached{};
  std::int64_t computed = 0;      // tokens of which keys and values are written
  std::vector<PageRange> live{};  // full pages that are not given up
  std::unique_ptr<MovableKeys> first_keys{};

  std::int64_t most_computed = 0;  // before the last pre-emption: what comes below that is computed again

  std::int64_t pending() const { return static_cast<std::int64_t>(tokens.size()) - computed; }
};

/// A request and its samples. Until its prompt is computed for the first time there is one sequence, which the other
/// samples are forks of.
struct Task {
  RequestId id{};
  Request request{};
  std::vector<SampleSequence> sequences{};
  bool is_forked = false;
  bool is_cancelled = false;
  bool was_admitted = false;
  RequestAccount account{};

  std::int64_t prompt_tokens() const { return static_cast<std::int64_t>(request.prompt.size()); }
  /// The tokens of one sample when it has all that was asked for, less the last, which nobody computes.
  std::int64_t most_tokens() const { return prompt_tokens() + request.most_tokens - 1; }
  bool is_finished() const {
    for (const SampleSequence& sequence : sequences) {
      if (!sequence.is_finished) return false;
    }
    return true;
  }
};

}  // namespace tilewise::runtime
