#include "attention/variant_gradients.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "core/element.h"
#include "core/fail.h"

namespace tilewise::attention {
namespace {

/// Numbers below 2^exponent are held as multiples of 2^(exponent - kBits).
constexpr int kBits = 60;

/// The largest number must be within this many bits of the bound, or what is far below it would lose its last bits.
constexpr int kSlack = 34;

/// Arrays up to this size are added up by each worker for itself: 32 KiB each. Larger ones are hit rarely enough at the
/// same place to be shared.
constexpr std::int64_t kMostPrivate = 2048;

/// Calls visit(number of the first element, bytes from the tensor's first) for each row along the last axis.
template <class Visit>
void for_each_row(const Tensor& tensor, Visit visit) {
  const auto last = static_cast<std::size_t>(tensor.rank - 1);
  for (std::int64_t first = 0; first < tensor.elements(); first += tensor.extents[last]) {
    std::int64_t rest = first / tensor.extents[last], offset = 0;
    for (std::size_t axis = last; axis-- > 0;) {
      offset += rest % tensor.extents[axis] * tensor.strides[axis];
      rest /= tensor.extents[axis];
    }
    visit(first, offset * size_of(tensor.dtype));
  }
}

/// Sets all elements, of any floating dtype, to 0.
void clear_elements(const Tensor& tensor) {
  const auto last = static_cast<std::size_t>(tensor.rank - 1);
  const std::int64_t bytes = size_of(tensor.dtype), step = tensor.strides[last] * bytes;
  for_each_row(tensor, [&](std::int64_t, std::int64_t offset) {
    auto* row = static_cast<char*>(tensor.data) + offset;
    if (step == bytes) return static_cast<void>(std::fill_n(row, tensor.extents[last] * bytes, char{0}));
    for (std::int64_t i = 0; i < tensor.extents[last]; ++i) std::fill_n(row + i * step, bytes, char{0});
  });
}

/// Adds `units` to a sum. The carry follows from what the low word held, so that concurrent additions lose nothing.
template <bool kShared>
void add_units(FixedSum& sum, std::int64_t units) {
  const auto low = static_cast<std::uint64_t>(units);
  std::uint64_t before = 0;
  if constexpr (kShared) {
    before = std::atomic_ref(sum.low).fetch_add(low, std::memory_order_relaxed);
  } else {
    before = sum.low;
    sum.low += low;
  }
  const std::int64_t carry = (before + low < before ? 1 : 0) + (units < 0 ? -1 : 0);
  if constexpr (kShared) {
    if (carry != 0) std::atomic_ref(sum.high).fetch_add(carry, std::memory_order_relaxed);
  } else {
    sum.high += carry;
  }
}

}  // namespace

namespace {

/// Whether each element of a table receives the gradient of one entry at most.
bool is_direct(const PlanShape& shape, const Programs& programs, std::int32_t table) {
  const auto is_of_table = [table](const variant::EntryGradient& gradient) {
    return gradient.is_table && gradient.slot == table;
  };
  if (!programs.backward_with_gradients) return false;
  const auto& gradients = programs.backward_with_gradients->gradients;
  if (std::ranges::count_if(gradients, is_of_table) != 1) return false;
  if (programs.sink_adjoint) {
    for (const variant::TableGradient& of_sink : programs.sink_adjoint->adjoint.tables) {
      if (of_sink.table == table) return false;
    }
  }
  const variant::EntryGradient& gradient = *std::ranges::find_if(gradients, is_of_table);
  return gradient.is_one_to_one && (shape.h_q == 1 || gradient.by_head) && (shape.b == 1 || gradient.by_batch);
}

}  // namespace

VariantGradients::VariantGradients(const Variant& variant, const PlanShape& shape, const Programs& programs,
                                   int workers, Arena& arena)
    : tables_(variant.tables().size()),
      workers_(workers),
      transpose_(variant::strip_operations(programs.tiles.full.options().isa).transpose) {
  for (const Table& table : variant.tables()) {
    const auto planned =
        std::ranges::find_if(shape.tables, [&](const TableShape& known) { return known.table == table; });
    std::int64_t elements = -1;
    if (planned != shape.tables.end() && table.type() == Type::real && !table.frozen_data()) {
      elements = 1;
      for (const std::int64_t extent : planned->extents) elements *= extent;
    }
    most_elements_.push_back(elements);
  }
  for (const Parameter& parameter : variant.parameters())
    most_elements_.push_back(parameter.type() == Type::real ? 1 : -1);
  for (const std::int64_t most : most_elements_) {
    GradientArray array;
    array.lists = most <= kMostPrivate ? workers : 1;
    array.is_direct = arrays_.size() < tables_ && is_direct(shape, programs, static_cast<std::int32_t>(arrays_.size()));
    if (most >= 0 && !array.is_direct) array.sums = arena.take<FixedSum>(most * array.lists);
    arrays_.push_back(array);
  }
  seen_.resize(arrays_.size() * static_cast<std::size_t>(workers));
}

void VariantGradients::start(const Variant& variant, const variant::Call& call, const BackwardOutputs& outputs) {
  for (GradientArray& array : arrays_) array.is_wanted = false;
  for (const TableGradientBinding& binding : outputs.d_tables) {
    const auto index =
        static_cast<std::size_t>(std::ranges::find(variant.tables(), binding.table) - variant.tables().begin());
    const variant::BoundTable& bound = call.bound.tables[index];
    const std::int64_t elements = bound.elements();
    if (elements > most_elements_[index]) {
      fail_argument(
          "d_tables names '{}', whose data has {} elements; expected at most the {} of PlanShape::tables, which sizes "
          "the workspace",
          binding.table.name(), elements, std::max<std::int64_t>(most_elements_[index], 0));
    }
    arrays_[index].is_wanted = true;
    arrays_[index].elements = elements;
    arrays_[index].extents = bound.extents;
    arrays_[index].rank = static_cast<std::size_t>(bound.rank);
    arrays_[index].gradient = binding.gradient;
  }
  for (const ParameterGradientBinding& binding : outputs.d_parameters) {
    const auto index = tables_ + static_cast<std::size_t>(std::ranges::find(variant.parameters(), binding.parameter) -
                                                          variant.parameters().begin());
    arrays_[index].is_wanted = true;
    arrays_[index].elements = 1;
  }
  any_wanted_ = std::ranges::any_of(arrays_, [](const GradientArray& array) { return array.is_wanted; });
  any_summed_ =
      std::ranges::any_of(arrays_, [](const GradientArray& array) { return array.is_wanted && !array.is_direct; });
}

void VariantGradients::guess(int exponent) {
  for (GradientArray& array : arrays_) array.exponent = exponent;
}

void VariantGradients::clear() {
  std::ranges::fill(seen_, Seen{});
  for (GradientArray& array : arrays_) {
    if (!array.is_wanted) continue;
    if (array.is_direct) {
      clear_elements(array.gradient);
    } else {
      std::fill_n(array.sums, array.elements * array.lists, FixedSum{});
    }
  }
}

bool VariantGradients::look_at(std::size_t array, const float* values, std::int64_t rows, std::int64_t columns,
                               std::int64_t stride, int worker) {
  float largest = 0;
  bool is_finite = true;
  for (std::int64_t row = 0; row < rows; ++row) {
    for (std::int64_t column = 0; column < columns; ++column) {
      const float magnitude = std::fabs(values[row * stride + column]);
      is_finite = is_finite && magnitude <= std::numeric_limits<float>::max();
      largest = magnitude > largest ? magnitude : largest;
    }
  }
  Seen& seen = seen_[static_cast<std::size_t>(worker) * arrays_.size() + array];
  seen.is_finite = seen.is_finite && is_finite;
  if (is_finite) seen.largest = std::max(seen.largest, largest);
  return is_finite && largest > 0 && static_cast<double>(largest) < std::ldexp(1.0, arrays_[array].exponent);
}

template <class ElementOf>
void VariantGradients::add_block(std::size_t array, const float* values, std::int64_t rows, std::int64_t columns,
                                 std::int64_t stride, int worker, const ElementOf& element_of) {
  if (!look_at(array, values, rows, columns, stride, worker)) return;
  const GradientArray& to = arrays_[array];
  const double units = std::ldexp(1.0, kBits - to.exponent);
  const auto add_all = [&]<bool kShared>(FixedSum* sums) {
    for (std::int64_t row = 0; row < rows; ++row) {
      for (std::int64_t column = 0; column < columns; ++column) {
        const float number = values[row * stride + column];
        if (number == 0) continue;
        add_units<kShared>(sums[element_of(row, column)],
                           static_cast<std::int64_t>(static_cast<double>(number) * units));
      }
    }
  };
  if (to.lists == 1 && workers_ > 1) return add_all.template operator()<true>(to.sums);
  add_all.template operator()<false>(to.sums + (to.lists == 1 ? 0 : worker) * to.elements);
}

namespace {

/// Most queries plus keys of a tile.
constexpr std::int64_t kMostSums = 512;

/// The sums of a tile's values along its queries, keys or diagonals, or of all of them. Returns how many there are.
std::int64_t sum_along(variant::Hoist hoist, const GradientTile& tile, float* sums) {
  const std::int64_t keys = tile.keys, queries = tile.queries;
  const auto add_row = [&](const float* row, float* to) {
    for (std::int64_t i = 0; i < queries; ++i) to[i] += row[i];
  };
  if (hoist == variant::Hoist::key) {
    for (std::int64_t key = 0; key < keys; ++key) {
      const float* row = tile.values + key * tile.stride;
      std::array<float, 8> partial{};  // so that additions need not wait for one another
      std::int64_t i = 0;
      for (; i + 8 <= queries; i += 8) {
        for (std::size_t j = 0; j < 8; ++j) partial[j] += row[i + static_cast<std::int64_t>(j)];
      }
      for (; i < queries; ++i) partial[0] += row[i];
      sums[key] = ((partial[0] + partial[4]) + (partial[1] + partial[5])) +
                  ((partial[2] + partial[6]) + (partial[3] + partial[7]));
    }
    return keys;
  }
  if (hoist != variant::Hoist::diagonal) {
    std::fill_n(sums, queries, 0.0f);
    for (std::int64_t key = 0; key < keys; ++key) add_row(tile.values + key * tile.stride, sums);
    if (hoist == variant::Hoist::query) return queries;
    sums[0] = static_cast<float>(std::accumulate(sums, sums + queries, 0.0));
    return 1;
  }
  // Neighbouring rows overlap by all but one column: sums of every fourth row apart, or each row would wait for the
  // stores of the one before.
  constexpr std::int64_t kApart = 4;
  const std::int64_t count = keys + queries - 1;
  std::array<std::array<float, kMostSums>, kApart> apart;
  for (auto& part : apart) std::fill_n(part.data(), count, 0.0f);
  for (std::int64_t key = 0; key < keys; ++key)
    add_row(tile.values + key * tile.stride, apart[static_cast<std::size_t>(key % kApart)].data() + keys - 1 - key);
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i);
    sums[i] = (apart[0][at] + apart[1][at]) + (apart[2][at] + apart[3][at]);
  }
  return count;
}

/// An index at an entry.
std::int32_t word_at(const GradientTile::Index& index, const GradientTile& tile, std::int64_t key, std::int64_t query) {
  switch (index.hoist) {
    case variant::Hoist::uniform: return index.words[0];
    case variant::Hoist::query: return index.words[query];
    case variant::Hoist::key: return index.words[key];
    case variant::Hoist::diagonal: return index.words[tile.keys - 1 - key + query];
    case variant::Hoist::entry: return index.words[key * index.stride + query];
  }
  return 0;
}

}  // namespace

/// Stores a tile whose entries have an element each. Those whose indices lie outside are not kept: their values are 0.
void VariantGradients::store_entries(const variant::EntryGradient& gradient, const GradientTile& tile,
                                     const Tensor& to) const {
  const std::int64_t bytes = size_of(to.dtype);
  std::int64_t first = 0, query_step = 0, key_step = 0;
  bool is_inside = true;
  for (std::size_t axis = 0; axis < gradient.indices.size(); ++axis) {
    const std::int64_t start = word_at(tile.indices[axis], tile, 0, 0);
    const std::int64_t by_query = static_cast<std::int32_t>(gradient.indices[axis].form.query);
    const std::int64_t by_key = static_cast<std::int32_t>(gradient.indices[axis].form.key);
    const std::int64_t along = by_query * (tile.queries - 1), across = by_key * (tile.keys - 1);
    is_inside = is_inside && start + std::min<std::int64_t>(along, 0) + std::min<std::int64_t>(across, 0) >= 0 &&
                start + std::max<std::int64_t>(along, 0) + std::max<std::int64_t>(across, 0) < to.extents[axis];
    first += start * to.strides[axis];
    query_step += by_query * to.strides[axis];
    key_step += by_key * to.strides[axis];
  }
  auto* base = static_cast<char*>(to.data) + first * bytes;
  if (is_inside && to.dtype == DType::float32 && key_step == 1)
    return transpose_(tile.values, tile.stride, tile.queries, tile.keys, base, query_step);
  for (std::int64_t key = 0; key < tile.keys; ++key) {
    const float* row = tile.values + key * tile.stride;
    if (is_inside && to.dtype == DType::float32 && query_step == 1) {
      std::copy_n(row, tile.queries, reinterpret_cast<float*>(base) + key * key_step);
      continue;
    }
    for (std::int64_t query = 0; query < tile.queries; ++query) {
      const auto is_there = [&](std::size_t axis) {
        const std::int32_t index = word_at(tile.indices[axis], tile, key, query);
        return index >= 0 && index < to.extents[axis];
      };
      bool is_element = is_inside || row[query] != 0;
      for (std::size_t axis = 0; axis < gradient.indices.size() && is_element && !is_inside; ++axis)
        is_element = is_there(axis);
      if (is_element)
        store_real(base + (query * query_step + key * key_step) * bytes, to.dtype, static_cast<double>(row[query]));
    }
  }
}

void VariantGradients::add(const variant::EntryGradient& gradient, const GradientTile& tile, int worker) {
  const std::size_t array = array_of(gradient), rank = gradient.is_table ? arrays_[array].rank : 0;
  const GradientArray& to = arrays_[array];
  if (to.elements == 0) return;
  if (to.is_direct) return store_entries(gradient, tile, to.gradient);
  const auto element = [&](const auto& index_of) {
    std::int64_t place = 0;
    for (std::size_t axis = 0; axis < rank; ++axis) {
      const std::int64_t index = std::clamp<std::int64_t>(index_of(tile.indices[axis]), 0, to.extents[axis] - 1);
      place = place * to.extents[axis] + index;
    }
    return place;
  };
  if (gradient.hoist == variant::Hoist::entry || tile.keys + tile.queries > kMostSums) {
    return add_block(
        array, tile.values, tile.keys, tile.queries, tile.stride, worker, [&](std::int64_t key, std::int64_t query) {
          return element([&](const GradientTile::Index& index) { return word_at(index, tile, key, query); });
        });
  }
  std::array<float, kMostSums> sums;
  const std::int64_t count = sum_along(gradient.hoist, tile, sums.data());
  add_block(array, sums.data(), 1, count, count, worker, [&](std::int64_t, std::int64_t at) {
    return element(
        [&](const GradientTile::Index& index) { return index.words[index.hoist == variant::Hoist::uniform ? 0 : at]; });
  });
}

bool VariantGradients::settle() {
  bool all_settled = true;
  for (std::size_t i = 0; i < arrays_.size(); ++i) {
    float largest = 0;
    for (std::size_t at = i; at < seen_.size(); at += arrays_.size()) largest = std::max(largest, seen_[at].largest);
    if (!arrays_[i].is_wanted || arrays_[i].is_direct || largest == 0) continue;
    int needed = 0;
    std::frexp(largest, &needed);  // largest < 2^needed
    if (needed <= arrays_[i].exponent && needed >= arrays_[i].exponent - kSlack) continue;
    arrays_[i].exponent = needed;
    all_settled = false;
  }
  return all_settled;
}

double VariantGradients::value(std::size_t array, std::int64_t element) const {
  const GradientArray& from = arrays_[array];
  for (int worker = 0; worker < workers_; ++worker) {
    if (!seen_[static_cast<std::size_t>(worker) * arrays_.size() + array].is_finite) {
      return std::numeric_limits<double>::quiet_NaN();
    }
  }
  FixedSum sum;
  for (std::int64_t list = 0; list < from.lists; ++list) {
    const FixedSum& part = from.sums[list * from.elements + element];
    sum.low += part.low;
    sum.high += part.high + (sum.low < part.low ? 1 : 0);
  }
  const long double units = std::ldexp(static_cast<long double>(sum.high), 64) + static_cast<long double>(sum.low);
  return static_cast<double>(std::ldexp(units, from.exponent - kBits));
}

void VariantGradients::store(const Variant& variant, const BackwardOutputs& outputs) const {
  for (const TableGradientBinding& binding : outputs.d_tables) {
    const auto array =
        static_cast<std::size_t>(std::ranges::find(variant.tables(), binding.table) - variant.tables().begin());
    const Tensor& to = binding.gradient;
    if (arrays_[array].is_direct) continue;
    const auto last = static_cast<std::size_t>(to.rank - 1);
    for_each_row(to, [&](std::int64_t first, std::int64_t offset) {
      auto* row = static_cast<char*>(to.data) + offset;
      for (std::int64_t i = 0; i < to.extents[last]; ++i)
        store_real(row + i * to.strides[last] * size_of(to.dtype), to.dtype, value(array, first + i));
    });
  }
  for (const ParameterGradientBinding& binding : outputs.d_parameters) {
    const auto array = tables_ + static_cast<std::size_t>(std::ranges::find(variant.parameters(), binding.parameter) -
                                                          variant.parameters().begin());
    store_real(binding.gradient.data, binding.gradient.dtype, value(array, 0));
  }
}

}  // namespace tilewise::attention
