// Lists of kept tiles, made on the GPU before a kernel that walks them, on the same stream.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "cuda/device/arguments.h"
#include "cuda/plan/forward_plan.h"
#include "jit/compiler.h"
#include "jit/module.h"
#include "tiles/mask.h"
#include "variant/cuda_text.h"

namespace tilewise::cuda {

/// How many lists there are, and how long they may get.
struct ListExtent {
  std::int64_t b = 0, heads = 0, rows = 0, capacity = 0;  // heads: those with lists of their own

  std::int64_t lists() const { return b * heads * rows; }

  /// Ints that the tiles of all lists take; a count and an order of each come on top.
  std::int64_t tile_ints() const { return lists() * capacity; }
  /// Likewise turns at them, in so many orders.
  static constexpr int kOrders = 2;
  std::int64_t turn_ints() const { return kOrders * tile_ints(); }
};

/// What Visit::misses (device/walk.h) says of a list's entry: whether a mask removes all entries of 64 queries.
inline int tile_of(int entry) { return entry >> 13; }
inline bool misses(int entry, int queries) { return (entry >> (1 + 4 * queries) & 15) == 0; }

/// A program of three kernels, "classify", "order" and "number", which take ClassifyArguments; "classify" then the
/// variant's bytes, the others the number of rows. `text` may be any of the variant, with its slope or without.
jit::Program tile_program(const Variant& variant, const variant::CudaText& text, const std::vector<bool>& removes,
                          const jit::Architecture& architecture);

/// Classifies the tiles of one variant. Const and shared between threads.
class TileLister {
 public:
  /// `mask` is what planning knows of the variant's. Throws as jit::load_program; DriverError.
  TileLister(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context, const Variant& variant,
             const tiles::Mask& mask);

  /// Whether heads have lists of their own.
  bool follows_head() const { return follows_head_; }

  /// For lists of query tiles, or, `by_key`, of key tiles.
  ListExtent extent(std::int64_t b, std::int64_t h_q, std::int64_t s_q, std::int64_t s_kv, ListTile tile,
                    bool by_key) const;

  /// Queues the making of lists. `tiles` [extent.tile_ints()], `count` and `order` [extent.lists()] lie on the GPU;
  /// `turns` [extent.turn_ints()] as well, or is null where nobody asks for them.
  TileLists make(const SequenceShape* sequences, const ListExtent& extent, ListTile tile, bool by_key,
                 std::int64_t heads_per_kv, int* tiles, int* count, RowStart* order, int* turns,
                 const std::vector<std::byte>& bound, jit::StreamHandle stream) const;

  /// What the bytes of the variant are packed by: the same as for its other kernels.
  const variant::ArgumentLayout& layout() const { return text_.layout; }

 private:
  variant::CudaText text_;
  bool follows_head_;
  std::shared_ptr<const jit::Module> module_;
  jit::Kernel classify_, order_, number_;
};

}  // namespace tilewise::cuda
