// The pages' memory: keys and values of every layer, and the scales of int8 ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "tilewise/kv_cache.h"

namespace tilewise::kv_cache {

/// Gives pages of memory back to the system.
struct Unmap {
  std::size_t size = 0;  // bytes
  void operator()(void* memory) const;
};

/// Zeroed memory, which the system gives as it is first written.
template <class T>
using Mapped = std::unique_ptr<T, Unmap>;

/// Keys or values of all layers. A page's rows of a layer lie together, [layers, pages, h_kv, page_tokens, d], so that
/// copying a page is one copy a layer and attention reads a head's rows of a page in order.
class PageMemory {
 public:
  /// Throws Error(out_of_memory) with the bytes. Memory is taken from the system as it is first written.
  PageMemory(const KvCacheShape& shape, std::int64_t d);

  ConstTensor layer(std::int64_t layer) const;   // [pages, h_kv, page_tokens, d]
  ConstTensor scales(std::int64_t layer) const;  // [pages, h_kv, page_tokens], float32; int8 only

  /// Stores d floats as the row of a slot.
  void store(std::int64_t layer, std::int32_t page, std::int64_t head, std::int64_t slot, const float* row);  // [d]

  /// The opposite.
  void load(std::int64_t layer, std::int32_t page, std::int64_t head, std::int64_t slot, float* row) const;  // [d]

  /// Copies a page of every layer.
  void copy(std::int32_t from, std::int32_t to);

 private:
  /// Throws as the constructor.
  template <class T>
  static Mapped<T> map(const KvCacheShape& shape, std::int64_t rows_of_page, std::int64_t row_bytes);

  std::int64_t row_of(std::int64_t layer, std::int64_t page, std::int64_t head, std::int64_t slot) const {
    return ((layer * shape_.pages + page) * shape_.h_kv + head) * shape_.page_tokens + slot;
  }

  KvCacheShape shape_;
  std::int64_t d_, row_bytes_;
  Mapped<std::byte> rows_;  // [layers, pages, h_kv, page_tokens, d]
  Mapped<float> scales_;    // [layers, pages, h_kv, page_tokens], int8 only
};

}  // namespace tilewise::kv_cache
