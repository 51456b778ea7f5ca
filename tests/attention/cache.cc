#include "tests/attention/cache.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

namespace tilewise::attention::testing {
namespace {

constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

/// A row-major tensor of rank 4 or 3 whose axes 1 and 2 are swapped in memory.
ConstTensor swapped(const void* data, DType dtype, std::vector<std::int64_t> extents) {
  std::vector<std::int64_t> strides(extents.size(), 1);
  const std::int64_t d = extents.size() == 4 ? extents[3] : 1;
  strides[1] = d;
  strides[2] = extents[1] * d;
  strides[0] = extents[2] * strides[2];
  return ConstTensor(data, dtype, extents, strides);
}

}  // namespace

CachedRows::CachedRows(const ConstTensor& rows, bool is_int8)
    : dtype_(is_int8 ? DType::int8 : rows.dtype), extents_(rows.extents.begin(), rows.extents.end()) {
  const std::int64_t d = extents_[3], size = size_of(dtype_);
  whole_.resize(static_cast<std::size_t>(rows.elements() * size));
  if (is_int8) whole_scales_.resize(static_cast<std::size_t>(rows.elements() / d));
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < extents_[0]; ++i) {
    for (std::int64_t head = 0; head < extents_[1]; ++head) {
      for (std::int64_t row = 0; row < extents_[2]; ++row, ++at) {
        const auto* from = static_cast<const std::byte*>(element_at(rows, i, head, row));
        std::byte* to = whole_.data() + at * d * size;
        if (!is_int8) {
          std::memcpy(to, from, static_cast<std::size_t>(d * size));
          continue;
        }
        double largest = 0;
        const auto value = [&](std::int64_t c) { return load_real(from + c * size_of(rows.dtype), rows.dtype); };
        for (std::int64_t c = 0; c < d; ++c) largest = std::max(largest, std::fabs(value(c)));
        const float scale = static_cast<float>(largest / 127);  // NaN for rows of no sequence
        whole_scales_[static_cast<std::size_t>(at)] = scale;
        for (std::int64_t c = 0; c < d; ++c) {
          const double code = largest > 0 ? std::round(value(c) / static_cast<double>(scale)) : 127;
          to[c] = static_cast<std::byte>(static_cast<std::int8_t>(std::clamp(code, -127.0, 127.0)));
        }
      }
    }
  }
}

std::optional<ConstTensor> CachedRows::whole_scales() const {
  if (dtype_ != DType::int8) return {};
  return ConstTensor(whole_scales_.data(), DType::float32, std::span(extents_.data(), 3));
}

void CachedRows::page(const std::vector<Sequence>& sequences, const std::vector<std::int32_t>& table,
                      std::int64_t width, std::int64_t pages, const CacheLayout& layout) {
  const std::int64_t h_kv = extents_[1], d = extents_[3], size = size_of(dtype_), slots = pages * layout.page_tokens;
  paged_.assign(static_cast<std::size_t>(slots * h_kv * d * size),
                dtype_ == DType::int8 ? std::byte{0x7f} : std::byte{0xff});
  paged_scales_.assign(static_cast<std::size_t>(slots * h_kv), kNaN);
  const std::vector<std::int64_t> extents{pages, h_kv, layout.page_tokens, d};
  const std::vector<std::int64_t> of_scales{pages, h_kv, layout.page_tokens};
  paged_view_ =
      layout.tokens_outside ? swapped(paged_.data(), dtype_, extents) : ConstTensor(paged_.data(), dtype_, extents);
  const ConstTensor scales = layout.tokens_outside ? swapped(paged_scales_.data(), DType::float32, of_scales)
                                                   : ConstTensor(paged_scales_.data(), DType::float32, of_scales);
  if (dtype_ == DType::int8) paged_scales_view_ = scales;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    for (std::int64_t row = sequences[i].key_start; row < sequences[i].s_kv; ++row) {
      const std::int32_t page =
          table[i * static_cast<std::size_t>(width) + static_cast<std::size_t>(row / layout.page_tokens)];
      if (page < 0) continue;
      for (std::int64_t head = 0; head < h_kv; ++head) {
        const std::int64_t from = (static_cast<std::int64_t>(i) * h_kv + head) * extents_[2] + row;
        const auto* to = static_cast<const std::byte*>(element_at(paged_view_, page, head, row % layout.page_tokens));
        std::memcpy(paged_.data() + (to - paged_.data()), whole_.data() + from * d * size,
                    static_cast<std::size_t>(d * size));
        if (dtype_ != DType::int8) continue;
        const auto* scale = static_cast<const float*>(element_at(scales, page, head, row % layout.page_tokens));
        paged_scales_[static_cast<std::size_t>(scale - paged_scales_.data())] =
            whole_scales_[static_cast<std::size_t>(from)];
      }
    }
  }
}

Cache::Cache(const reference::AttentionData& data, bool is_int8, const CacheLayout& layout, std::uint64_t seed)
    : k(data.k.view(), is_int8), v(data.v.view(), is_int8) {
  const std::vector<Sequence>& sequences = data.shape().sequences;
  std::int64_t width = 0;
  for (const Sequence& sequence : sequences)
    width = std::max(width, (sequence.s_kv + layout.page_tokens - 1) / layout.page_tokens);
  width += 1;  // more than anybody needs
  const std::int64_t pages = width * data.b() + 3;
  std::vector<std::int32_t> order(static_cast<std::size_t>(pages));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 random(seed);
  std::shuffle(order.begin(), order.end(), random);
  table.assign(order.begin(), order.begin() + width * data.b());
  for (std::int64_t i = 0; i < data.b(); ++i) {
    for (const std::int64_t hole : layout.holes) {
      if (hole < width) table[static_cast<std::size_t>(i * width + hole)] = -1;
    }
    const Sequence& sequence = sequences[static_cast<std::size_t>(i)];
    for (std::int64_t page = (sequence.s_kv + layout.page_tokens - 1) / layout.page_tokens; page < width; ++page)
      table[static_cast<std::size_t>(i * width + page)] = std::numeric_limits<std::int32_t>::max();
  }
  k.page(sequences, table, width, pages, layout);
  v.page(sequences, table, width, pages, layout);
  whole = paged = data.inputs;
  whole.k = k.whole();
  whole.v = v.whole();
  whole.k_scales = k.whole_scales();
  whole.v_scales = v.whole_scales();
  paged.k = k.paged();
  paged.v = v.paged();
  paged.k_scales = k.paged_scales();
  paged.v_scales = v.paged_scales();
  paged.block_table = ConstTensor(table.data(), DType::int32, {data.b(), width});
}

}  // namespace tilewise::attention::testing
