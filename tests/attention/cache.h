// Keys and values as a cache holds them: in pages in no order, int8 with scales, beside the same in one piece.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "tests/attention/oracle.h"

namespace tilewise::attention::testing {

/// How a cache is laid out.
struct CacheLayout {
  std::int64_t page_tokens = 16;
  bool tokens_outside = false;  // [pages, page_tokens, h_kv, d] in memory, rather than [pages, h_kv, page_tokens, d]
  std::vector<std::int64_t> holes{};  // pages of every sequence that are not there
};

/// One of k and v: rows of a tensor [b, h_kv, s_kv, d], perhaps in int8, in one piece and in pages. Slots that no row
/// is in hold NaN; in int8, which has none, their largest value with a scale of NaN.
class CachedRows {
 public:
  /// Copies `rows` as they are, or quantised where `is_int8`.
  CachedRows(const ConstTensor& rows, bool is_int8);

  /// Lays the rows of the sequences out in pages, as `table` [b, pages of a sequence] says.
  void page(const std::vector<Sequence>& sequences, const std::vector<std::int32_t>& table, std::int64_t width,
            std::int64_t pages, const CacheLayout& layout);

  ConstTensor whole() const { return ConstTensor(whole_.data(), dtype_, extents_); }
  std::optional<ConstTensor> whole_scales() const;
  const ConstTensor& paged() const { return paged_view_; }
  const std::optional<ConstTensor>& paged_scales() const { return paged_scales_view_; }

 private:
  DType dtype_;
  std::vector<std::int64_t> extents_;
  std::vector<std::byte> whole_, paged_;
  std::vector<float> whole_scales_, paged_scales_;
  ConstTensor paged_view_;
  std::optional<ConstTensor> paged_scales_view_;
};

/// The keys and values of a call, three ways: `whole` reads them in one piece, `paged` from pages.
struct Cache {
  Cache(const reference::AttentionData& data, bool is_int8, const CacheLayout& layout, std::uint64_t seed);

  CachedRows k, v;
  std::vector<std::int32_t> table;  // [b, pages of a sequence]
  ForwardInputs whole, paged;
};

}  // namespace tilewise::attention::testing
