#include "attention/dropout_tile.h"

#include <algorithm>

namespace tilewise::attention {

void drop_weights(const Dropout& dropout, std::uint32_t head_index, std::int64_t first_key,
                  const cpu::ScoreBlock& block) {
  const auto scale = static_cast<float>(dropout.scale());
  const std::int64_t begin = first_key + block.key_begin, end = begin + block.keys;
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
