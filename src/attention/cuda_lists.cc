// Lists of tiles on a GPU: what calls make, and what plans keep.
#include <algorithm>

#include "attention/cuda_backend.h"
#include "attention/planned_mask.h"
#include "core/round_up.h"
#include "cuda/launch/hopper_program.h"
#include "cuda/launch/kernel_text.h"
#include "cuda/plan/hopper_plan.h"

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
  const std::int64_t parts = ceil_div(longest, most);
  return parts * part_bytes > kMostBytes ? 1 : static_cast<int>(std::max<std::int64_t>(parts, 1));
}

/// The most tiles that so many rows at a time visit, one behind the other in their order.
std::int64_t most_visited(const std::vector<int>& tiles, const cuda::ListExtent& extent,
                          const std::vector<cuda::RowStart>& order, std::int64_t rows_at_work) {
  std::int64_t most = 0;
  for (std::int64_t first = 0; first < extent.rows; first += rows_at_work) {
    std::vector<bool> visited(static_cast<std::size_t>(extent.capacity));
    for (std::int64_t place = first; place < std::min(first + rows_at_work, extent.rows); ++place) {
      const cuda::RowStart& row = order[static_cast<std::size_t>(place)];
      const int* const list = tiles.data() + row.row * extent.capacity;
      for (int i = 0; i < row.count; ++i) visited[static_cast<std::size_t>(cuda::tile_of(list[i]))] = true;
    }
    most = std::max<std::int64_t>(most, std::count(visited.begin(), visited.end(), true));
  }
  return most;
}

}  // namespace

/// Calls of other forms than the usual one may run on kernels of another family, with other tiles, as decoding does:
/// the workspace has room for the lists of all of them.
void CudaBackend::measure_lists() {
  const auto room_for = [&](const Direction& direction) {
    const cuda::ListExtent lists = list_extent(direction);
    most_tiles_ = std::max(most_tiles_, lists.tile_ints());
    most_lists_ = std::max(most_lists_, lists.lists());
  };
  for (const Form& form : decode_forms()) room_for({{kDecodeQueries, decode_plan(form)->keys}, false});
  if (!forward_) return;
  // Calls of other forms are refused.
  if (shape().dtype == DType::float8_e4m3) return room_for({forward_->usual().tile(), false});
  for (const bool is_aligned : {true, false}) {
    for (const Form& form : {Form{is_aligned}, Form{is_aligned, true, 8}, Form{is_aligned, true, 1},
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
/// call: making them takes the GPU 5 us and the host as long as two launches. As long as they are small.
void CudaBackend::keep_lists() {
  if (!can_keep_lists()) return;
  std::vector<Direction> wanted;
  if (forward_) wanted.push_back({forward_->usual().tile(), false});
  if (backward_) wanted.push_back({backward_->usual().tile(), true});
  for (const Direction& direction : wanted) {
    if (KeptLists* const kept = lists_of(direction)) find_long_rows(*kept);
  }
  for (const Form& form : decode_forms()) {
    wanted.push_back({{kDecodeQueries, decode_plan(form)->keys}, false});
    lists_of(wanted.back());
  }
  // Others were made to choose kernels by.
  kept_lists_.remove_if(
      [&](const KeptLists& kept) { return std::ranges::find(wanted, kept.direction) == wanted.end(); });
}

/// Made when they are first asked for; null where they are large.
CudaBackend::KeptLists* CudaBackend::lists_of(const Direction& direction) {
  const auto kept = std::ranges::find(kept_lists_, direction, &KeptLists::direction);
  if (kept != kept_lists_.end()) return &*kept;
  std::optional<KeptLists> made = listed(direction);
  return made ? &kept_lists_.emplace_back(std::move(*made)) : nullptr;
}

bool CudaBackend::can_keep_lists() const { return lister_ && longest_ && !binds_anything(variant()); }

std::vector<std::byte> CudaBackend::bytes_of_lists() const {
  const variant::Graph& graph = variant().data().graph;
  variant::Bound tables = variant::bind(graph, Bindings());
  for (const FrozenTable& table : frozen_) tables.tables[table.number] = table.view;
  return variant::pack_arguments(graph, tables, lister_->layout());
}

/// Whether a mask keeps so little of the usual tiles, as one of blocks of 64 does, that smaller ones take less time:
/// BigBird at 16k, d 128, 0.74 of it by tiles of 128 x 64, a window 1.14 and documents 1.17; at d 64 BigBird 0.34.
bool CudaBackend::find_small_parts() {
  cuda::ForwardShape kernel = kernel_shape({});
  if (!can_keep_lists() || context_->device().compute_capability_major != 9 ||
      !cuda::takes_small_parts(kernel, cuda::changes_scores(variant()))) {
    return false;
  }
  const double cost =
      cuda::cost_of_small_tiles(kernel, cuda::score_work(variant(), cuda::hopper_text(variant(), kernel, false)));
  const auto lists = [&] { return lists_of({cuda::forward_tile(making(kernel)), false}); };
  const KeptLists* const usual = lists();
  kernel.has_small_parts = true;
  const KeptLists* const small = lists();
  return usual && small && cost * static_cast<double>(visited_keys(*small)) < static_cast<double>(visited_keys(*usual));
}

/// Keys of the tiles that 64 queries have entries in, of all of them together.
std::int64_t CudaBackend::visited_keys(const KeptLists& kept) const {
  const cuda::ListTile tile = kept.direction.tile;
  const cuda::ListExtent extent = list_extent(kept.direction);
  const auto counts = kept.counts.values<int>(static_cast<std::size_t>(extent.lists()));
  const auto tiles = kept.tiles.values<int>(static_cast<std::size_t>(extent.tile_ints()));
  std::int64_t visits = 0;
  for (std::size_t list = 0; list < counts.size(); ++list) {
    const int* const first = tiles.data() + static_cast<std::int64_t>(list) * extent.capacity;
    for (const int* entry = first; entry != first + counts[list]; ++entry) {
      for (int queries = 0; queries < tile.queries / 64; ++queries) visits += cuda::misses(*entry, queries) ? 0 : 1;
    }
  }
  return visits * tile.keys;
}

/// Whether keys that all queries look at make some rows of a backward pass far longer than most.
bool CudaBackend::has_long_key_rows() {
  if (!shape().backward || shape().deterministic || !can_keep_lists() ||
      context_->device().compute_capability_major != 9)
    return false;
  const KeptLists* const kept = lists_of({cuda::backward_tile(making(kernel_shape({}))), true});
  return kept && long_rows(order_of(*kept), list_extent(kept->direction)) > 0;
}

/// Of lists of the plan's own lengths.
cuda::ListExtent CudaBackend::list_extent(const Direction& direction) const {
  return lister_->extent(shape().b, shape().h_q, shape().s_q, shape().s_kv, direction.tile, direction.by_key);
}

/// The rows as blocks take them; none where there is nothing to be ordered.
std::vector<cuda::RowStart> CudaBackend::order_of(const KeptLists& kept) const {
  const std::int64_t rows = kept.lists.order == nullptr ? 0 : list_extent(kept.direction).lists();
  return kept.order.values<cuda::RowStart>(static_cast<std::size_t>(rows));
}

std::optional<CudaBackend::KeptLists> CudaBackend::listed(const Direction& direction) const {
  const jit::CurrentContext current(*context_);
  constexpr std::int64_t kMostBytes = 1 << 24;
  const cuda::ListExtent extent = list_extent(direction);
  if (extent.tile_ints() > kMostBytes / static_cast<std::int64_t>(sizeof(int))) return std::nullopt;
  const auto memory = [&](std::int64_t bytes) { return cuda::DeviceMemory(context_, static_cast<std::size_t>(bytes)); };
  constexpr auto kInt = static_cast<std::int64_t>(sizeof(int)),
                 kStart = static_cast<std::int64_t>(sizeof(cuda::RowStart));
  KeptLists kept{direction,
                 memory(extent.tile_ints() * kInt),
                 memory(extent.lists() * kInt),
                 memory(extent.lists() * kStart),
                 std::nullopt,
                 {}};
  if (direction.by_key && shape().deterministic) kept.turns = memory(extent.turn_ints() * kInt);
  kept.lists = lister_->make(longest_->as<const cuda::SequenceShape>(), extent, direction.tile, direction.by_key,
                             shape().h_q / shape().h_kv, kept.tiles.as<int>(), kept.counts.as<int>(),
                             kept.order.as<cuda::RowStart>(), kept.turns ? kept.turns->as<int>() : nullptr,
                             bytes_of_lists(), nullptr);
  context_->driver().check(context_->driver().api().stream_synchronize(nullptr), "to list tiles");
  return kept;
}

/// How many heads take their rows by turns: where what blocks at work read at a time has room in the second-level
/// cache, as a window's has. Forward all heads or none, and half of the cache: what is left over in the end is then the
/// shortest rows of all heads. Deterministic backward passes the most that fit: blocks that begin together then wait
/// less for each other (documents at 16k: of the default's speed 0.81 with 3 heads, 0.89 with 8, 0.90 with 16).
void CudaBackend::find_heads_together(KeptLists& kept, const cuda::ListExtent& extent,
                                      const std::vector<cuda::RowStart>& order) const {
  if (extent.heads != 1 || kept.lists.long_rows != 0) return;
  const bool by_key = kept.direction.by_key;
  if (by_key && !shape().deterministic) return;
  const auto tiles = kept.tiles.values<int>(static_cast<std::size_t>(extent.tile_ints()));
  const std::int64_t row_bytes = (shape().d_qk + shape().d_v) * size_of(shape().dtype);
  const std::int64_t heads_per_kv = shape().h_q / shape().h_kv, l2_bytes = context_->device().l2_bytes;
  // Of all heads that share keys: backward, what is added to d_q besides.
  const std::int64_t tile_bytes =
      by_key ? kept.direction.tile.queries * (row_bytes + shape().d_qk * std::int64_t{sizeof(float)}) * heads_per_kv
             : kept.direction.tile.keys * row_bytes;
  const std::int64_t all = by_key ? shape().h_kv * shape().b : shape().h_q;
  const auto fits = [&](std::int64_t together) {
    const std::int64_t kv_heads = by_key ? together : shape().h_kv;
    const std::int64_t rows_at_work = ceil_div(context_->device().multiprocessors, together);
    return most_visited(tiles, extent, order, rows_at_work) * tile_bytes * kv_heads <=
           (by_key ? l2_bytes : l2_bytes / 2);
  };
  std::int64_t together = all;
  while (by_key && together > 1 && !fits(together)) together /= 2;
  if (together > 1 && fits(together)) kept.lists.heads_together = static_cast<int>(together);
}

/// Rows far longer than most begin first, and may be split.
void CudaBackend::find_long_rows(KeptLists& kept) {
  const cuda::ListExtent extent = list_extent(kept.direction);
  const std::vector<cuda::RowStart> order = order_of(kept);
  kept.lists.long_rows = long_rows(order, extent);
  if (!order.empty()) find_heads_together(kept, extent, order);
  if (kept.direction.by_key || !forward_->usual().takes_parts() || kept.lists.long_rows == 0) return;
  const std::int64_t queries = extent.b * shape().h_q * kept.lists.long_rows * kept.direction.tile.queries;
  kept.lists.parts = parts_of_long_rows(order, shape().h_q, context_->device().multiprocessors,
                                        queries * (shape().d_v + 1) * static_cast<std::int64_t>(sizeof(float)));
  if (kept.lists.parts > 1) partial_rows_ = std::max(partial_rows_, queries * kept.lists.parts);
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
