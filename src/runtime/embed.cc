// Vectors of texts.
#include <algorithm>
#include <cmath>

#include "core/fail.h"
#include "runtime/opened_model.h"
#include "tilewise/model.h"

namespace tilewise {
namespace {

// Tokens of a step: what one pass over the weights serves. Several texts go into one. BLAS packs weights anew for each
// step, and reaches 94 rather than 89 GFLOP/s where a step has thousands of tokens (nn/linear.cc).
constexpr std::int64_t kStepTokens = 4096;

/// The tokens of a text, at most as many: the special ones behind it stay.
std::vector<std::int32_t> tokens_of(const io::Tokenizer& tokenizer, const std::string& text, std::int64_t most) {
  std::vector<std::int32_t> tokens = tokenizer.encode(text);
  if (static_cast<std::int64_t>(tokens.size()) <= most) return tokens;
  const auto bare = tokenizer.encode(text, {.add_special = false});
  // What stands before the text and what behind it, by where the bare tokens begin.
  const std::size_t added = tokens.size() - bare.size();
  const auto begin = std::search(tokens.begin(), tokens.end(), bare.begin(), bare.end());
  const std::size_t behind = added - static_cast<std::size_t>(begin - tokens.begin());
  tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(static_cast<std::size_t>(most) - behind),
               tokens.end() - static_cast<std::ptrdiff_t>(behind));
  return tokens;
}

/// The mean of the rows, in float64; of length 1 if asked for. No rows give zeros.
void pool(const float* states, std::int64_t rows, std::int64_t width, bool normalise,  // states [rows, width]
          float* out) {                                                                // out [width]
  std::vector<double> sums(static_cast<std::size_t>(width));
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t i = 0; i < width; ++i)
      sums[static_cast<std::size_t>(i)] += static_cast<double>(states[row * width + i]);
  }
  double scale = rows > 0 ? 1.0 / static_cast<double>(rows) : 0;
  if (normalise) {
    double square = 0;
    for (const double sum : sums) square += sum * scale * sum * scale;
    if (square > 0) scale /= std::sqrt(square);
  }
  for (std::int64_t i = 0; i < width; ++i) out[i] = static_cast<float>(sums[static_cast<std::size_t>(i)] * scale);
}

}  // namespace

std::vector<float> Model::embed(std::span<const std::string> texts, const EmbedOptions& options) const {
  if (info().generates) {
    fail(ErrorCode::unsupported, "embed: {}: a model of the family '{}' generates; embeddings take an encoder (bert)",
         info().path, info().architecture);
  }
  const std::int64_t most = options.most_tokens == 0 ? info().context : options.most_tokens;
  if (most < 3 || most > info().context) {
    fail_argument("most_tokens is {}; expected 3 to the model's context of {}", most, info().context);
  }
  // Texts of one length together would save nothing: steps are packed, not padded.
  std::vector<std::vector<std::int32_t>> tokens(texts.size());
  loaded_->executor().parallel_for(static_cast<std::int64_t>(texts.size()), [&](std::int64_t i, int) {
    const auto text = static_cast<std::size_t>(i);
    tokens[text] = tokens_of(loaded_->tokenizer(), texts[text], most);
  });
  const std::int64_t width = info().width, step = std::max(kStepTokens, most);
  std::vector<float> vectors(texts.size() * static_cast<std::size_t>(width));
  std::vector<float> states(static_cast<std::size_t>(step * width));
  const std::int64_t chunks = std::min<std::int64_t>(static_cast<std::int64_t>(texts.size()), step);
  if (texts.empty()) return vectors;
  nn::Encoder encoder(loaded_->transformer(), {.tokens = step, .chunks = chunks, .length = most}, loaded_->executor(),
                      loaded_->variant());
  for (std::size_t first = 0; first < texts.size();) {
    std::vector<std::int32_t> packed;
    std::vector<std::int64_t> lengths;
    std::size_t end = first;
    for (; end < texts.size() && packed.size() + tokens[end].size() <= static_cast<std::size_t>(step); ++end) {
      packed.insert(packed.end(), tokens[end].begin(), tokens[end].end());
      if (!tokens[end].empty()) lengths.push_back(static_cast<std::int64_t>(tokens[end].size()));
    }
    if (!packed.empty()) encoder.forward(packed, lengths, states.data());
    std::int64_t row = 0;
    for (std::size_t i = first; i < end; ++i) {
      const auto rows = static_cast<std::int64_t>(tokens[i].size());
      pool(states.data() + row * width, rows, width, options.normalise,
           vectors.data() + i * static_cast<std::size_t>(width));
      row += rows;
    }
    first = end;
  }
  return vectors;
}

}  // namespace tilewise
