#include "attention/dropout_tile.h"

#include <algorithm>

namespace tilewise::attention {

void drop_weights(const Dropout& dropout, std::uint32_t head_index, std::int64_t first_key,
                  const cpu::ScoreBlock& block, variant::DropoutFunction on_lanes) {
  const auto scale = static_cast<float>(dropout.scale());
  const std::int64_t begin = first_key + block.key_begin, end = begin + block.keys;
  if (on_lanes != nullptr && dropout.keep_below < 256) {
    return on_lanes(
        {.weights = block.values,
         .stride = block.stride,
         .keys = block.keys,
         .queries = block.queries,
         .key_begin = static_cast<std::uint32_t>(begin),
         .query_begin = static_cast<std::uint32_t>(block.query_begin),
         .head_index = head_index,
         .offset = dropout.offset,
         .key_words = {static_cast<std::uint32_t>(dropout.seed), static_cast<std::uint32_t>(dropout.seed >> 32)},
         .keep_below = dropout.keep_below,
         .scale = scale});
  }
  for (std::int64_t of_block = begin / kDropoutKeys; of_block * kDropoutKeys < end; ++of_block) {
    const std::int64_t from = std::max(begin, of_block * kDropoutKeys);
    const std::int64_t to = std::min(end, (of_block + 1) * kDropoutKeys);
    for (int query = 0; query < block.queries; ++query) {
      const auto bytes = dropout_bytes(dropout.seed, dropout.offset, static_cast<std::uint32_t>(of_block),
                                       static_cast<std::uint32_t>(block.query_begin + query), head_index);
      for (std::int64_t key = from; key < to; ++key) {
        float& weight = block.values[(key - begin) * block.stride + query];
        weight *= bytes[static_cast<std::size_t>(key % kDropoutKeys)] < dropout.keep_below ? scale : 0.0f;
      }
    }
  }
}

}  // namespace tilewise::attention
