// Tables and parameters with random data.
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "core/element.h"
#include "tests/laws/random_variant.h"
#include "variant/bindings.h"

namespace tilewise::laws {
namespace {

void store_int(std::byte* element, DType dtype, std::int64_t value) {
  if (dtype == DType::int64) {
    std::memcpy(element, &value, sizeof value);
  } else if (dtype == DType::int32) {
    const auto narrow = static_cast<std::int32_t>(value);
    std::memcpy(element, &narrow, sizeof narrow);
  } else {  // uint8, bool
    *element = static_cast<std::byte>(value);
  }
}

void store_random(Choices& choices, const Options& options, std::byte* element, DType dtype) {
  if (is_floating(dtype)) {
    store_real(element, dtype, choices.real(options.infinite, options.nan));
    const bool overflowed = std::isinf(load_real(element, dtype)) && !options.infinite;  // float16 ends at 65504
    if (overflowed) store_real(element, dtype, 1);
  } else if (dtype == DType::boolean) {
    store_int(element, dtype, static_cast<std::int64_t>(choices.below(2)));
  } else if (dtype == DType::uint8) {
    store_int(element, dtype, static_cast<std::int64_t>(choices.below(256)));
  } else {
    store_int(element, dtype, options.wild_ints ? choices.int32() : choices.between(-60, 140));
  }
}

/// A view of random extents over new memory: axes in any order in memory, padded, some backwards, rarely one repeated.
Tensor random_view(Choices& choices, DType dtype, int rank, std::vector<std::byte>& memory) {
  Tensor view;
  view.dtype = dtype;
  view.rank = rank;
  const auto axes = static_cast<std::size_t>(rank);
  std::vector<std::size_t> order(axes);
  std::iota(order.begin(), order.end(), 0);
  for (std::size_t i = axes; i > 1; --i) std::swap(order[i - 1], order[i - 1 - choices.below(i)]);
  std::int64_t elements = 1, first = 0;
  for (std::size_t axis : order) {
    const std::int64_t extent = choices.between(1, rank == 1 ? 12 : 4);
    view.extents[axis] = extent;
    view.strides[axis] = choices.once_in(16) ? 0 : elements;
    elements *= extent + (choices.once_in(4) ? 1 : 0);
    if (choices.once_in(4)) {
      first += view.strides[axis] * (extent - 1);
      view.strides[axis] = -view.strides[axis];
    }
  }
  memory.resize(static_cast<std::size_t>(elements * size_of(dtype)));
  view.data = memory.data() + first * size_of(dtype);
  return view;
}

BoundData random_table(Choices& choices, const Options& options, const std::string& name) {
  const DType dtype = options.dtypes[choices.below(options.dtypes.size())];
  const int rank = static_cast<int>(choices.between(1, kMaxRank));
  BoundData bound{Table(name, dtype, rank), {}, std::make_shared<std::vector<std::byte>>()};
  const Tensor view = random_view(choices, dtype, rank, *bound.memory);
  bound.data = view;
  Choices contents = full_tape(choices.word());  // its own tape: hundreds of values must not use up this one
  const variant::BoundTable table = variant::view_of(bound.table, bound.data);
  variant::for_each_index(table, [&](std::span<const std::int64_t> index) {
    std::byte* element = bound.memory->data() + (table.address(index) - bound.memory->data());
    store_random(contents, options, element, dtype);
  });
  if (choices.once_in(4)) bound.table = Table::frozen(name, bound.data);
  const variant::ValueSummary values = variant::summarise(table);
  if (!values.has_nan && choices.once_in(3)) {
    const double slack = choices.once_in(2) ? 1 : 0;
    bound.table = bound.table.values_in(values.low - slack, values.high + slack);
  }
  return bound;
}

ParameterBinding random_parameter(Choices& choices, const Options& options, const std::string& name) {
  const bool has_range = choices.once_in(2);
  const double slack = choices.once_in(2) ? 2.5 : 0;
  if (choices.once_in(2)) {
    const double value = choices.real();
    return {has_range ? Parameter(name, value - slack, value + slack) : Parameter(name), value};
  }
  const std::int32_t value = options.wild_ints ? choices.int32() : static_cast<std::int32_t>(choices.between(-60, 140));
  const auto moved = [value](std::int64_t by) {
    return static_cast<std::int32_t>(std::clamp<std::int64_t>(value + by, std::numeric_limits<std::int32_t>::min(),
                                                              std::numeric_limits<std::int32_t>::max()));
  };
  const auto width = static_cast<std::int64_t>(slack * 2);
  return {has_range ? Parameter::integer(name, moved(-width), moved(width)) : Parameter::integer(name),
          static_cast<double>(value)};
}

}  // namespace

Tensor BoundData::writable() const {
  Tensor view;
  view.data = memory->data() + (static_cast<const std::byte*>(data.data) - memory->data());
  view.dtype = data.dtype;
  view.rank = data.rank;
  view.extents = data.extents;
  view.strides = data.strides;
  return view;
}

Bindings World::bindings_for(const variant::Graph& graph) const {
  Bindings bindings;
  const auto reads = [](const auto& handles, const auto& handle) {
    return std::find(handles.begin(), handles.end(), handle) != handles.end();
  };
  for (const BoundData& bound : tables) {
    if (!bound.table.frozen_data() && reads(graph.tables(), bound.table))
      bindings.tables.push_back({bound.table, bound.data});
  }
  for (const ParameterBinding& bound : parameters) {
    if (reads(graph.parameters(), bound.parameter)) bindings.parameters.push_back(bound);
  }
  return bindings;
}

World random_world(Choices& choices, const Options& options) {
  World world;
  for (std::size_t i = 0, count = choices.below(4); i < count; ++i)
    world.tables.push_back(random_table(choices, options, "table" + std::to_string(i)));
  for (std::size_t i = 0, count = choices.below(4); i < count; ++i)
    world.parameters.push_back(random_parameter(choices, options, "parameter" + std::to_string(i)));
  return world;
}

}  // namespace tilewise::laws
