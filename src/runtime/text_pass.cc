#include "runtime/text_pass.h"

#include <algorithm>

#include "core/round_up.h"

namespace tilewise::runtime {
namespace {

// Tokens at a time: enough for products of matrices to run at speed; their logits take 12 MB for a vocabulary of 49152.
constexpr std::int64_t kPiece = 64;
constexpr std::int64_t kPageTokens = 16;

std::int64_t pages_of(std::int64_t tokens) { return std::max<std::int64_t>(ceil_div(tokens, kPageTokens), 1); }

}  // namespace

TextPass::TextPass(const OpenedModel& model, std::int64_t most_tokens)
    : model_(&model),
      cache_(model.transformer()->cache_shape(pages_of(most_tokens), model.cache_dtype(), kPageTokens)),
      decoder_(model.transformer(), cache_.shape(), {.tokens = kPiece, .chunks = 1, .length = most_tokens},
               model.executor(), model.variant()),
      logits_(static_cast<std::size_t>(kPiece * model.info().vocabulary)) {}

void TextPass::run(std::span<const std::int32_t> tokens, const Visit& visit) {
  const KvSequence sequence = cache_.start();
  const auto count = static_cast<std::int64_t>(tokens.size());
  for (std::int64_t first = 0; first < count; first += kPiece) {
    const std::int64_t rows = std::min(kPiece, count - first);
    const auto piece = tokens.subspan(static_cast<std::size_t>(first), static_cast<std::size_t>(rows));
    cache_.append(sequence, piece);
    const nn::Chunk chunk{sequence, piece, first, nn::Logits::all};
    decoder_.forward({&chunk, 1}, cache_, logits_.data());
    visit(first, rows, logits_.data());
  }
  cache_.finish(sequence);
}

}  // namespace tilewise::runtime
