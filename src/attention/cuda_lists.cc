// Lists of tiles on a GPU: what calls make, and what plans keep.
#include <algorithm>

#include "attention/cuda_backend.h"
#include "attention/planned_mask.h"

namespace tilewise::attention {
namespace {

/// Rows of a sequence, the first ones in their order, whose lists are more than four times as long as the mean; 0 where
/// heads have lists of their own. `order` [lists].
int long_rows(const std::vector<cuda::RowStart>& order, const cuda::ListExtent& extent) {
  if (extent.heads != 1) return 0;
  std::int64_t visits = 0;
  for (const cuda::RowStart& row : order) visits += row.count;
  std::int64_t most = 0;
  for (auto first = order.begin(); first != order.end(); first += extent.rows) {
    const auto end = std::find_if(first, first + extent.rows, [&](const cuda::RowStart& row) {
      return row.count * static_cast<std::int64_t>(order.size()) <= 4 * visits;
    });
    most = std::max<std::int64_t>(most, end - first);
  }
  return static_cast<int>(most);
}

/// Into how many parts the lists of the long rows go, so that the longest takes a block no more than a quarter of what
/// a multiprocessor has to do in all, which is half of a block's share, or 16 tiles. 1 where that is so anyway, or
/// where partial results would take more than 64 MiB: `part_bytes` for one part of each.
int parts_of_long_rows(const std::vector<cuda::RowStart>& order, std::int64_t h_q, int multiprocessors,
                       std::int64_t part_bytes) {
  constexpr std::int64_t kLeastTiles = 16, kMostBytes = 1 << 26;
  std::int64_t visits = 0, longest = 0;
  for (const cuda::RowStart& row : order) visits += row.count, longest = std::max<std::int64_t>(longest, row.count);
  const std::int64_t most = std::max(visits * h_q / (4 * multiprocessors), kLeastTiles);
  const std::int64_t parts = (longest + most - 1) / most;
  return parts * part_bytes > kMostBytes ? 1 : static_cast<int>(std::max<std::int64_t>(parts, 1));
}

}  // namespace

/// Calls of other forms than the usual one may run on kernels of another family, with other tiles, as decoding does:
/// the workspace has room for the lists of all of them.
void CudaBackend::measure_lists() {
  const auto room_for = [&](const Direction& direction) {
    const cuda::ListExtent lists =
        lister_->extent(shape().b, shape().h_q, shape().s_q, shape().s_kv, direction.tile, direction.by_key);
    most_tiles_ = std::max(most_tiles_, lists.tile_ints());
    most_lists_ = std::max(most_lists_, lists.lists());
  };
  for (const Form& form : decode_forms()) room_for({{kDecodeQueries, decode_plan(form)->keys}, false});
  if (!forward_) return;
  // Calls of other forms are refused.
  if (shape().dtype == DType::float8_e4m3) return room_for({forward_->usual().tile(), false});
  for (const bool is_aligned : {true, false}) {
    for (const Form& form : {Form{is_aligned}, Form{is_aligned, true, true}, Form{is_aligned, true, false},
                             Form{.is_aligned = is_aligned, .has_max_score = true}})
      room_for({cuda::forward_tile(making(kernel_shape(form))), false});
    if (!backward_) continue;
    for (const bool has_gradients : {false, true}) {
      const cuda::ForwardShape kernel = kernel_shape({.is_aligned = is_aligned, .has_gradients = has_gradients});
      room_for({cuda::backward_tile(making(kernel)), true});
    }
  }
}

/// Where what is kept follows from the plan alone, for calls of its own lengths, lists are made here and not by each
/// call: making them takes 6 us. As long as they are small.
void CudaBackend::keep_lists() {
  if (!lister_ || !longest_ || binds_anything(variant())) return;
  const variant::Graph& graph = variant().data().graph;
  variant::Bound tables = variant::bind(graph, Bindings());
  for (const FrozenTable& table : frozen_) tables.tables[table.number] = table.view;
  const std::vector<std::byte> bound = variant::pack_arguments(graph, tables, lister_->layout());
  if (forward_) keep_lists({forward_->usual().tile(), false}, bound);
  if (backward_) keep_lists({backward_->usual().tile(), true}, bound);
}

void CudaBackend::keep_lists(const Direction& direction, const std::vector<std::byte>& bound) {
  const jit::CurrentContext current(*context_);
  constexpr std::int64_t kMostBytes = 1 << 24;
  const cuda::ListExtent extent =
      lister_->extent(shape().b, shape().h_q, shape().s_q, shape().s_kv, direction.tile, direction.by_key);
  if (extent.tile_ints() > kMostBytes / static_cast<std::int64_t>(sizeof(int))) return;
  const auto memory = [&](std::int64_t bytes) { return cuda::DeviceMemory(context_, static_cast<std::size_t>(bytes)); };
  constexpr auto kInt = static_cast<std::int64_t>(sizeof(int)),
                 kStart = static_cast<std::int64_t>(sizeof(cuda::RowStart));
  KeptLists kept{direction,
                 memory(extent.tile_ints() * kInt),
                 memory(extent.lists() * kInt),
                 memory(extent.lists() * kStart),
                 std::nullopt,
                 {}};
  if (direction.by_key && shape().deterministic) kept.turns = memory(extent.tile_ints() * kInt);
  kept.lists =
      lister_->make(longest_->as<const cuda::SequenceShape>(), extent, direction.tile, direction.by_key,
                    shape().h_q / shape().h_kv, kept.tiles.as<int>(), kept.counts.as<int>(),
                    kept.order.as<cuda::RowStart>(), kept.turns ? kept.turns->as<int>() : nullptr, bound, nullptr);
  context_->driver().check(context_->driver().api().stream_synchronize(nullptr), "to list tiles");
  const std::int64_t rows = kept.lists.order == nullptr ? 0 : extent.lists();
  const auto order = kept.order.values<cuda::RowStart>(static_cast<std::size_t>(rows));
  kept.lists.long_rows = long_rows(order, extent);
  if (!direction.by_key && forward_->usual().takes_parts() && kept.lists.long_rows > 0) {
    const std::int64_t queries = extent.b * shape().h_q * kept.lists.long_rows * direction.tile.queries;
    kept.lists.parts = parts_of_long_rows(order, shape().h_q, context_->device().multiprocessors,
                                          queries * (shape().d_v + 1) * static_cast<std::int64_t>(sizeof(float)));
    if (kept.lists.parts > 1) partial_rows_ = std::max(partial_rows_, queries * kept.lists.parts);
  }
  kept_lists_.push_back(std::move(kept));
}

/// A call's lists: the plan's, or their making is queued.
cuda::TileLists CudaBackend::list_tiles(const CudaState& state, const CudaMemory& memory, const Direction& direction,
                                        const cuda::ForwardExtent& extent, jit::StreamHandle stream) const {
  if (longest_ && memory.sequences == longest_->as<const cuda::SequenceShape>()) {
    for (const KeptLists& kept : kept_lists_) {
      if (kept.direction == direction) return kept.lists;
    }
  }
  const cuda::ListExtent lists =
      lister_->extent(extent.b, extent.h_q, extent.s_q, extent.s_kv, direction.tile, direction.by_key);
  return lister_->make(memory.sequences, lists, direction.tile, direction.by_key, extent.h_q / extent.h_kv,
                       memory.tiles, memory.tile_counts, memory.tile_order,
                       direction.by_key ? memory.tile_turns : nullptr, state.bound, stream);
}

}  // namespace tilewise::attention
