// The public Model.
#include "tilewise/model.h"

#include <algorithm>
#include <cmath>

#include "core/fail.h"
#include "runtime/opened_model.h"
#include "runtime/sampler.h"
#include "runtime/text_pass.h"

namespace tilewise {
namespace {

struct Windows {
  std::int64_t window, overlap;
};

Windows checked(const PerplexityOptions& options, std::int64_t context) {
  constexpr std::int64_t kWindow = 1024;
  Windows windows{options.window == 0 ? std::min(kWindow, context) : options.window, 0};
  if (windows.window < 2 || windows.window > context) {
    fail_argument("window is {}; expected 2 to the model's context of {}", windows.window, context);
  }
  windows.overlap = options.overlap.value_or(windows.window / 2);
  if (windows.overlap < 0 || windows.overlap >= windows.window) {
    fail_argument("overlap is {}; expected 0 to {}, less than the window", windows.overlap, windows.window - 1);
  }
  return windows;
}

}  // namespace

Model Model::open(const std::string& path, const ModelOptions& options) {
  return Model(std::make_shared<const runtime::OpenedModel>(path, options));
}

const ModelInfo& Model::info() const { return loaded_->info(); }

std::vector<std::int32_t> Model::encode(std::string_view text, const EncodeTextOptions& options) const {
  return loaded_->tokenizer().encode(text,
                                     {.add_special = options.add_special, .parse_control = options.parse_control});
}

std::string Model::decode(std::span<const std::int32_t> tokens, bool with_control) const {
  return loaded_->tokenizer().decode(tokens, with_control);
}

std::vector<std::int32_t> Model::encode_chat(std::span<const ChatMessage> messages) const {
  return loaded_->encode_chat(messages);
}

bool Model::ends(std::int32_t token) const {
  return std::ranges::find(loaded_->end_tokens(), token) != loaded_->end_tokens().end();
}

void Model::logits(std::span<const std::int32_t> tokens, std::span<float> logits) const {
  loaded_->expect_generates("logits");
  loaded_->expect_tokens(tokens);
  const std::int64_t count = static_cast<std::int64_t>(tokens.size()), vocabulary = info().vocabulary;
  if (count > info().context) {
    fail_argument("the text has {} tokens and the model's context {}; shorten it", count, info().context);
  }
  if (static_cast<std::int64_t>(logits.size()) != count * vocabulary) {
    fail_argument("logits has {} elements; expected {} tokens * {}", logits.size(), count, vocabulary);
  }
  if (count == 0) return;
  runtime::TextPass pass(*loaded_, count);
  pass.run(tokens, [&](std::int64_t first, std::int64_t rows, const float* values) {
    std::copy_n(values, rows * vocabulary, logits.begin() + first * vocabulary);
  });
}

std::vector<double> Model::log_probabilities(std::span<const std::int32_t> tokens,
                                             const PerplexityOptions& options) const {
  loaded_->expect_generates("log_probabilities");
  loaded_->expect_tokens(tokens);
  const Windows windows = checked(options, info().context);
  const auto count = static_cast<std::int64_t>(tokens.size());
  std::vector<double> found(tokens.size(), 0.0);
  if (count < 2) return found;
  runtime::TextPass pass(*loaded_, std::min(count, windows.window));
  const auto vocabulary = static_cast<std::size_t>(info().vocabulary);
  for (std::int64_t begin = 0, known = 1; known < count; begin = known - windows.overlap) {
    // A window that overlaps by nothing still shows its first token's predecessor, or that could not be foretold.
    begin = std::max<std::int64_t>(std::min(begin, known - 1), 0);
    const std::int64_t end = std::min(count, begin + windows.window);
    const auto window = tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    pass.run(window, [&](std::int64_t first, std::int64_t rows, const float* logits) {
      loaded_->executor().parallel_for(rows, [&](std::int64_t row, int) {
        const std::int64_t next = begin + first + row + 1;
        if (next < known || next >= end) return;
        const std::span<const float> values(logits + static_cast<std::size_t>(row) * vocabulary, vocabulary);
        found[static_cast<std::size_t>(next)] =
            runtime::log_probability(values, tokens[static_cast<std::size_t>(next)]);
      });
    });
    known = end;
  }
  return found;
}

Perplexity Model::perplexity(std::span<const std::int32_t> tokens, const PerplexityOptions& options) const {
  const std::vector<double> each = log_probabilities(tokens, options);
  Perplexity result{.tokens = std::max<std::int64_t>(static_cast<std::int64_t>(each.size()) - 1, 0), .perplexity = 1};
  for (const double log_probability : each) result.log_probability += log_probability;
  if (result.tokens > 0) result.perplexity = std::exp(-result.log_probability / static_cast<double>(result.tokens));
  return result;
}

}  // namespace tilewise
