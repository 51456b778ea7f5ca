#include "variant/lanes/table_read.h"

#include <algorithm>
#include <cstring>
#include <optional>
#include <type_traits>

#include "core/half.h"

namespace tilewise::variant {
namespace {

/// How an element is stored and what a read of it gives: the same numbers as the scalar reading's.
template <class Stored, class Result>
struct Element {
  using Word = Result;
  static constexpr std::int64_t kBytes = sizeof(Stored);
  static Result load(const std::byte* from) {
    Stored stored;
    std::memcpy(&stored, from, sizeof stored);  // elements need not be aligned
    return static_cast<Result>(stored);
  }
};

struct BoolElement {
  using Word = std::int32_t;
  static constexpr std::int64_t kBytes = 1;
  static std::int32_t load(const std::byte* from) { return *from == std::byte{0} ? 0 : -1; }
};

std::int32_t word_at(const Strip& strip, std::int64_t row, std::int64_t column) {
  std::int32_t word;
  const auto* words = static_cast<const std::byte*>(strip.data);
  std::memcpy(&word, words + (row * strip.outer + column * strip.inner) * static_cast<std::int64_t>(sizeof word),
              sizeof word);
  return word;
}

template <class Word>
void put(std::byte* row, std::int64_t column, Word word) {
  std::memcpy(row + column * static_cast<std::int64_t>(sizeof word), &word, sizeof word);
}

/// Strips of indices and where their elements lie.
class Indices {
 public:
  Indices(const BoundTable& table, const StripCall& call, std::int64_t element_bytes) : table_(table), call_(call) {
    for (int axis = 0; axis < table.rank; ++axis) {
      const auto a = static_cast<std::size_t>(axis);
      bytes_[a] = table.strides[a] * element_bytes;
      if (call.operands[axis].inner != 0) varying_[varying_count_++] = a;
    }
  }

  std::size_t varying_count() const { return varying_count_; }
  std::size_t first_varying() const { return varying_[0]; }
  std::int64_t bytes(std::size_t axis) const { return bytes_[axis]; }

  std::int64_t clamped(std::size_t axis, std::int64_t index) const {
    return std::clamp<std::int64_t>(index, 0, table_.extents[axis] - 1);
  }
  std::int32_t index(std::size_t axis, std::int64_t row, std::int64_t column) const {
    return word_at(call_.operands[axis], row, column);
  }

  /// The row's first element along all axes whose index repeats.
  const std::byte* row_base(std::int64_t row) const {
    const std::byte* base = table_.data;
    for (std::size_t axis = 0; axis < static_cast<std::size_t>(table_.rank); ++axis) {
      if (call_.operands[axis].inner == 0) base += clamped(axis, index(axis, row, 0)) * bytes_[axis];
    }
    return base;
  }

  /// Bytes from row_base to the element of a column.
  std::int64_t offset(std::int64_t row, std::int64_t column) const {
    std::int64_t sum = 0;
    for (std::size_t i = 0; i < varying_count_; ++i) {
      const std::size_t axis = varying_[i];
      sum += clamped(axis, index(axis, row, column)) * bytes_[axis];
    }
    return sum;
  }

 private:
  const BoundTable& table_;
  const StripCall& call_;
  std::array<std::int64_t, kMaxRank> bytes_{};
  std::array<std::size_t, kMaxRank> varying_{};
  std::size_t varying_count_ = 0;
};

/// Elements at base + first + i * bytes for i in [from, to).
template <class E>
void copy_run(std::byte* result, const std::byte* base, std::int64_t first, std::int64_t bytes, std::int64_t from,
              std::int64_t to) {
  if (bytes == E::kBytes) {  // the compiler makes vectors of a constant distance
    for (std::int64_t i = from; i < to; ++i) put(result, i, E::load(base + (first + i * E::kBytes)));
  } else {
    for (std::int64_t i = from; i < to; ++i) put(result, i, E::load(base + (first + i * bytes)));
  }
}

template <class E>
void fill(std::byte* result, typename E::Word word, std::int64_t from, std::int64_t to) {
  for (std::int64_t i = from; i < to; ++i) put(result, i, word);
}

/// A row whose index along one axis goes up or down by one, from `start`: clamped ends around a run.
template <class E>
void read_run(const Indices& indices, std::byte* result, const std::byte* base, std::int64_t count, std::int64_t start,
              std::int64_t step, std::int64_t extent) {
  const std::size_t axis = indices.first_varying();
  const std::int64_t bytes = indices.bytes(axis);
  // The columns inside: 0 <= start + step * i < extent.
  const std::int64_t enter = step > 0 ? -start : start - extent + 1;
  const std::int64_t leave = step > 0 ? extent - start : start + 1;
  const std::int64_t from = std::clamp<std::int64_t>(enter, 0, count), to = std::clamp(leave, from, count);
  const auto at = [&](std::int64_t column) {
    return E::load(base + indices.clamped(axis, start + step * column) * bytes);
  };
  if (from > 0) fill<E>(result, at(0), 0, from);
  copy_run<E>(result, base, start * bytes, step * bytes, from, to);
  if (to < count) fill<E>(result, at(count - 1), to, count);
}

/// Where the elements of a call lie if they are evenly spaced: (o, i) at first + o * row + i * column, in bytes.
struct Plane {
  const std::byte* first;
  std::int64_t row, column;
};

/// The call's plane, where every index is known to run on evenly and stays inside its axis.
std::optional<Plane> plane_of(const BoundTable& table, const Indices& indices,
                              const std::array<IndexStep, kMaxRank>& steps, const StripCall& call) {
  Plane plane{table.data, 0, 0};
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(table.rank); ++axis) {
    if (!steps[axis].is_known) return std::nullopt;
    const std::int64_t step = steps[axis].step, row_step = call.outer > 1 ? steps[axis].row_step : 0;
    const std::int64_t start = indices.index(axis, 0, 0);
    const std::int64_t along = step * (call.inner - 1), across = row_step * (call.outer - 1);
    const std::int64_t low = start + std::min<std::int64_t>(along, 0) + std::min<std::int64_t>(across, 0);
    const std::int64_t high = start + std::max<std::int64_t>(along, 0) + std::max<std::int64_t>(across, 0);
    if (low < 0 || high >= table.extents[axis]) return std::nullopt;  // inside, nothing wraps either
    plane.first += start * indices.bytes(axis);
    plane.row += row_step * indices.bytes(axis);
    plane.column += step * indices.bytes(axis);
  }
  return plane;
}

/// Elements whose neighbours lie along the rows of the result's columns.
template <class E>
void copy_transposed(const Plane& plane, const StripCall& call, TransposeFunction transpose) {
  auto* result = static_cast<std::byte*>(call.result.data);
  if constexpr (std::is_same_v<E, Element<float, float>> || std::is_same_v<E, Element<std::int32_t, std::int32_t>>) {
    if (plane.column % E::kBytes == 0)
      return transpose(plane.first, plane.column / E::kBytes, call.outer, call.inner, result, call.result.outer);
  }
  // Other elements become words first, a block of 16 columns x 64 rows at a time.
  constexpr std::int64_t kColumns = 16, kRows = 64;
  std::array<typename E::Word, static_cast<std::size_t>(kColumns * kRows)> words;
  for (std::int64_t row = 0; row < call.outer; row += kRows) {
    const std::int64_t rows = std::min(kRows, call.outer - row);
    for (std::int64_t column = 0; column < call.inner; column += kColumns) {
      const std::int64_t columns = std::min(kColumns, call.inner - column);
      for (std::int64_t i = 0; i < columns; ++i) {
        const std::byte* from = plane.first + (column + i) * plane.column + row * E::kBytes;
        auto* to = reinterpret_cast<std::byte*>(words.data() + i * kRows);
        copy_run<E>(to, from, 0, E::kBytes, 0, rows);
      }
      transpose(words.data(), kRows, rows, columns, result + (row * call.result.outer + column) * 4, call.result.outer);
    }
  }
}

template <class E>
void copy_plane(const Plane& plane, const StripCall& call, TransposeFunction transpose) {
  if (plane.row == E::kBytes && plane.column != E::kBytes && call.outer > 1)
    return copy_transposed<E>(plane, call, transpose);
  for (std::int64_t row = 0; row < call.outer; ++row) {
    copy_run<E>(static_cast<std::byte*>(call.result.data) + row * call.result.outer * 4, plane.first + row * plane.row,
                0, plane.column, 0, call.inner);
  }
}

/// A row whose index varies along one axis.
template <class E>
void read_row_along(const Indices& indices, const StripCall& call, std::byte* result, const std::byte* base,
                    std::int64_t row) {
  const std::size_t axis = indices.first_varying();
  const Strip& strip = call.operands[axis];  // `inner` is 1
  const auto* words = static_cast<const std::byte*>(strip.data) + row * strip.outer * 4;
  const std::int64_t bytes = indices.bytes(axis);
  for (std::int64_t i = 0; i < call.inner; ++i) {
    std::int32_t index;
    std::memcpy(&index, words + i * 4, sizeof index);
    put(result, i, E::load(base + indices.clamped(axis, index) * bytes));
  }
}

template <class E>
void read_elements(const BoundTable& table, const std::array<IndexStep, kMaxRank>& steps, const StripCall& call,
                   TransposeFunction transpose) {
  const Indices indices(table, call, E::kBytes);
  if (const auto plane = plane_of(table, indices, steps, call)) return copy_plane<E>(*plane, call, transpose);
  const std::size_t axis = indices.first_varying();
  const std::int64_t step = steps[axis].step;
  const bool runs = indices.varying_count() == 1 && steps[axis].is_known && (step == 1 || step == -1);
  for (std::int64_t row = 0; row < call.outer; ++row) {
    auto* result = static_cast<std::byte*>(call.result.data) + row * call.result.outer * 4;
    const std::byte* base = indices.row_base(row);
    if (indices.varying_count() == 0) {
      fill<E>(result, E::load(base), 0, call.inner);
      continue;
    }
    const std::int64_t start = indices.index(axis, row, 0);
    const std::int64_t last = start + step * (call.inner - 1);
    if (runs && last == static_cast<std::int32_t>(last)) {  // the run stays in int32: it does not wrap
      read_run<E>(indices, result, base, call.inner, start, step, table.extents[axis]);
    } else if (indices.varying_count() == 1) {
      read_row_along<E>(indices, call, result, base, row);
    } else {
      for (std::int64_t i = 0; i < call.inner; ++i) put(result, i, E::load(base + indices.offset(row, i)));
    }
  }
}

}  // namespace

void read_table(const BoundTable& table, const std::array<IndexStep, kMaxRank>& steps, const StripCall& call,
                TransposeFunction transpose) {
  if (table.is_empty()) {
    for (std::int64_t row = 0; row < call.outer; ++row)
      std::memset(static_cast<std::byte*>(call.result.data) + row * call.result.outer * 4, 0,
                  static_cast<std::size_t>(call.inner) * 4);
    return;
  }
  switch (table.dtype) {
    case DType::float64: return read_elements<Element<double, float>>(table, steps, call, transpose);
    case DType::float32: return read_elements<Element<float, float>>(table, steps, call, transpose);
    case DType::float16: return read_elements<Element<Float16, float>>(table, steps, call, transpose);
    case DType::bfloat16: return read_elements<Element<Bfloat16, float>>(table, steps, call, transpose);
    case DType::int64: return read_elements<Element<std::int64_t, std::int32_t>>(table, steps, call, transpose);
    case DType::int32: return read_elements<Element<std::int32_t, std::int32_t>>(table, steps, call, transpose);
    case DType::int8: return read_elements<Element<std::int8_t, std::int32_t>>(table, steps, call, transpose);
    case DType::uint8: return read_elements<Element<std::uint8_t, std::int32_t>>(table, steps, call, transpose);
    case DType::boolean: return read_elements<BoolElement>(table, steps, call, transpose);
    case DType::float8_e4m3: return;  // of no table
  }
}

std::optional<Strip> strip_of_read(const BoundTable& table, const std::array<IndexStep, kMaxRank>& steps,
                                   const StripCall& call) {
  constexpr std::int64_t kWord = 4;
  if (table.is_empty() || (table.dtype != DType::float32 && table.dtype != DType::int32)) return {};
  const auto plane = plane_of(table, Indices(table, call, kWord), steps, call);
  if (!plane || (plane->column != kWord && plane->row != kWord)) return {};
  return Strip{const_cast<std::byte*>(plane->first), plane->row / kWord, plane->column / kWord};
}

ReadLines lines_of_read(const BoundTable& table, const std::array<IndexStep, kMaxRank>& steps, const StripCall& call) {
  const std::int64_t bytes = size_of(table.dtype);
  if (table.is_empty()) return {};
  const auto plane = plane_of(table, Indices(table, call, bytes), steps, call);
  if (!plane) return {};
  if (plane->column == bytes) return {plane->first, call.outer, call.inner * bytes, plane->row};
  if (plane->row == bytes) return {plane->first, call.inner, call.outer * bytes, plane->column};
  return {};
}

}  // namespace tilewise::variant
