#include "tests/gpu/made_lists.h"

#include <algorithm>

#include "variant/bindings.h"

namespace tilewise::cuda::testing {
namespace {

template <class T>
std::vector<T> downloaded(const jit::Context& context, const DeviceMemory& memory, std::int64_t first,
                          std::int64_t count) {
  const jit::CurrentContext current(context);
  const jit::Driver& driver = context.driver();
  driver.check(driver.api().stream_synchronize(nullptr), "to run a kernel");
  std::vector<T> values(static_cast<std::size_t>(count));
  if (count > 0) {
    driver.check(
        driver.api().copy_to_host(values.data(), memory.pointer() + static_cast<std::size_t>(first) * sizeof(T),
                                  values.size() * sizeof(T)),
        "to copy from the GPU");
  }
  return values;
}

}  // namespace

MadeLists::MadeLists(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context,
                     const Variant& variant, const Bindings& bindings, const std::vector<std::byte>& bound,
                     const Problem& problem, ListTile tile, bool by_key)
    : context_(context), sequences_(DeviceMemory::of(context, sequence_shapes(problem))) {
  const variant::Graph& graph = variant.data().graph;
  const variant::SlotBounds slots = variant::bounds_of(graph, variant::bind(graph, bindings));
  tiles::Mask mask = tiles::make_mask(variant.data(), slots, tiles::universe_of(problem));
  mask.removes.assign(mask.removes.size(), true);  // what is known of this problem alone is not to help
  mask.follows_head = true;
  const TileLister lister(compiler, context, variant, mask);
  std::int64_t s_q = 0, s_kv = 0;
  for (const Sequence& sequence : problem.sequences)
    s_q = std::max(s_q, sequence.s_q), s_kv = std::max(s_kv, sequence.s_kv);
  extent_ = lister.extent(problem.b(), problem.h_q, s_q, s_kv, tile, by_key);
  const auto ints = [&](std::int64_t count) {
    return DeviceMemory(context, static_cast<std::size_t>(count) * sizeof(int));
  };
  tiles_ = ints(extent_.tile_ints()), turns_ = ints(extent_.turn_ints());
  count_ = ints(extent_.lists()), order_ = ints(4 * extent_.lists());
  view_ = lister.make(sequences_.as<const SequenceShape>(), extent_, tile, by_key, problem.h_q / problem.h_kv,
                      tiles_.as<int>(), count_.as<int>(), order_.as<RowStart>(), by_key ? turns_.as<int>() : nullptr,
                      bound, nullptr);
}

std::vector<int> MadeLists::list(std::int64_t sequence, std::int64_t head, std::int64_t row) const {
  const std::int64_t number = sequence * view_.sequence_rows + head * view_.head_rows + row;
  const int count = downloaded<int>(*context_, count_, number, 1).front();
  return downloaded<int>(*context_, tiles_, number * view_.capacity, count);
}

std::vector<int> MadeLists::turns(std::int64_t sequence, std::int64_t head, std::int64_t row,
                                  bool is_longest_first) const {
  const std::int64_t number =
      (is_longest_first ? extent_.lists() : 0) + sequence * view_.sequence_rows + head * view_.head_rows + row;
  return downloaded<int>(*context_, turns_, number * view_.capacity, view_.capacity);
}

std::vector<int> MadeLists::order(std::int64_t sequence, std::int64_t head) const {
  if (view_.order == nullptr) return std::vector<int>(static_cast<std::size_t>(extent_.rows), 0);
  const std::int64_t first = sequence * view_.sequence_rows + head * view_.head_rows;
  std::vector<int> rows;
  for (const RowStart& start : downloaded<RowStart>(*context_, order_, first, extent_.rows)) rows.push_back(start.row);
  return rows;
}

}  // namespace tilewise::cuda::testing
