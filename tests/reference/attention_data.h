// Small problems with memory of their own, for tests of standard attention.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

#include "core/element.h"
#include "tilewise/reference.h"

namespace tilewise::reference {

/// Lengths and storage of a problem.
struct Shape {
  std::int64_t h_q = 1, h_kv = 1, d_qk = 2, d_v = 2;
  std::vector<Sequence> sequences = {{.s_q = 3, .s_kv = 4}};  // [b]
  bool queries_packed = false, keys_packed = false;
  bool heads_inside = false;  // stored as [b, s, h, d] rather than [b, h, s, d]
};

/// A tensor of attention with its memory. Rows that no sequence has hold NaN.
class Array {
 public:
  Array() = default;
  Array(std::vector<std::int64_t> extents, DType dtype, bool heads_inside);

  Tensor tensor() { return Tensor(bytes_.data(), dtype_, extents_, strides_); }
  ConstTensor view() const { return ConstTensor(bytes_.data(), dtype_, extents_, strides_); }
  std::int64_t rank() const { return static_cast<std::int64_t>(extents_.size()); }

  /// Elements in the order of memory.
  std::int64_t size() const { return static_cast<std::int64_t>(bytes_.size()) / size_of(dtype_); }
  double get(std::int64_t element) const { return load_real(bytes_.data() + element * size_of(dtype_), dtype_); }
  void set(std::int64_t element, double value) { store_real(bytes_.data() + element * size_of(dtype_), dtype_, value); }
  void fill(double value) {
    for (std::int64_t i = 0; i < size(); ++i) set(i, value);
  }

  /// Where element `column` of a row lies in memory's order; lse has no columns.
  std::int64_t place(std::int64_t sequence, std::int64_t head, std::int64_t row, std::int64_t first_token,
                     std::int64_t column = 0) const {
    const bool packed = extents_.size() == (has_columns_ ? 3u : 2u);
    const std::array<std::int64_t, 4> index = packed ? std::array<std::int64_t, 4>{head, first_token + row, column, 0}
                                                     : std::array<std::int64_t, 4>{sequence, head, row, column};
    std::int64_t offset = 0;
    for (std::size_t axis = 0; axis < extents_.size(); ++axis) offset += index[axis] * strides_[axis];
    return offset;
  }

  static Array without_columns(std::vector<std::int64_t> extents, DType dtype);

 private:
  std::vector<std::int64_t> extents_, strides_;
  std::vector<std::byte> bytes_;
  DType dtype_ = DType::float64;
  bool has_columns_ = true;
};

inline Array::Array(std::vector<std::int64_t> extents, DType dtype, bool heads_inside)
    : extents_(std::move(extents)), strides_(extents_.size()), dtype_(dtype) {
  std::vector<std::size_t> order(extents_.size());  // axes from the slowest to the fastest
  for (std::size_t axis = 0; axis < order.size(); ++axis) order[axis] = axis;
  if (heads_inside) std::swap(order[order.size() - 3], order[order.size() - 2]);
  std::int64_t stride = 1;
  for (auto axis = order.rbegin(); axis != order.rend(); ++axis) {
    strides_[*axis] = stride;
    stride *= extents_[*axis];
  }
  bytes_.resize(static_cast<std::size_t>(stride * size_of(dtype)));
  fill(std::numeric_limits<double>::quiet_NaN());
}

inline Array Array::without_columns(std::vector<std::int64_t> extents, DType dtype) {
  Array array;
  extents.push_back(1);
  array = Array(extents, dtype, false);
  array.extents_.pop_back();
  array.strides_.pop_back();
  array.has_columns_ = false;
  return array;
}

/// Everything that a forward and a backward call take.
class AttentionData {
 public:
  /// Random normal inputs and gradients; the sequences' rows only.
  AttentionData(const Shape& shape, std::uint64_t seed, DType dtype = DType::float64, DType lse_dtype = DType::float64);

  ForwardInputs inputs;  // views of q, k, v
  Array q, k, v, o, lse, d_o, d_lse, d_q, d_k, d_v;

  ForwardOutputs outputs() { return {.o = o.tensor(), .lse = lse.tensor()}; }
  BackwardInputs given() const { return {.d_o = d_o.view(), .d_lse = d_lse.view()}; }
  /// With what the forward pass left, which plans ask for.
  BackwardInputs given_with_outputs() const {
    return {.o = o.view(), .lse = lse.view(), .d_o = d_o.view(), .d_lse = d_lse.view()};
  }
  BackwardOutputs gradients() { return {.d_q = d_q.tensor(), .d_k = d_k.tensor(), .d_v = d_v.tensor()}; }

  const Shape& shape() const { return shape_; }
  std::int64_t b() const { return static_cast<std::int64_t>(shape_.sequences.size()); }

  /// Calls visit(sequence number, sequence, head, row) for every row of one side.
  template <class Visit>
  void for_each_query(Visit visit) const {
    for (std::int64_t i = 0; i < b(); ++i) {
      const Sequence& sequence = shape_.sequences[static_cast<std::size_t>(i)];
      for (std::int64_t head = 0; head < shape_.h_q; ++head) {
        for (std::int64_t row = 0; row < sequence.s_q; ++row) visit(i, sequence, head, row);
      }
    }
  }
  template <class Visit>
  void for_each_key(Visit visit) const {
    for (std::int64_t i = 0; i < b(); ++i) {
      const Sequence& sequence = shape_.sequences[static_cast<std::size_t>(i)];
      for (std::int64_t head = 0; head < shape_.h_kv; ++head) {
        for (std::int64_t row = 0; row < sequence.s_kv; ++row) visit(i, sequence, head, row);
      }
    }
  }

  /// Element `column` of a row of the queries' side (q, o, d_o, d_q, lse, d_lse), or of the keys' (k, v, d_k, d_v).
  double at_query(const Array& array, std::int64_t i, std::int64_t head, std::int64_t row,
                  std::int64_t column = 0) const {
    return array.get(
        array.place(i, head, row, shape_.sequences[static_cast<std::size_t>(i)].first_query_token, column));
  }
  double at_key(const Array& array, std::int64_t i, std::int64_t head, std::int64_t row,
                std::int64_t column = 0) const {
    return array.get(array.place(i, head, row, shape_.sequences[static_cast<std::size_t>(i)].first_key_token, column));
  }

 private:
  Shape shape_;
};

inline AttentionData::AttentionData(const Shape& shape, std::uint64_t seed, DType dtype, DType lse_dtype)
    : shape_(shape) {
  std::int64_t s_q = 0, s_kv = 0;  // rows of the storage
  for (const Sequence& sequence : shape.sequences) {
    s_q = std::max(s_q, sequence.s_q + (shape.queries_packed ? sequence.first_query_token : 0));
    s_kv = std::max(s_kv, sequence.s_kv + (shape.keys_packed ? sequence.first_key_token : 0));
  }
  const auto extents = [&](bool packed, std::int64_t heads, std::int64_t rows) {
    return packed ? std::vector{heads, rows} : std::vector{b(), heads, rows};
  };
  const auto make = [&](bool packed, std::int64_t heads, std::int64_t rows, std::int64_t columns) {
    auto all = extents(packed, heads, rows);
    all.push_back(columns);
    return Array(all, dtype, shape.heads_inside);
  };
  q = make(shape.queries_packed, shape.h_q, s_q, shape.d_qk);
  k = make(shape.keys_packed, shape.h_kv, s_kv, shape.d_qk);
  v = make(shape.keys_packed, shape.h_kv, s_kv, shape.d_v);
  o = make(shape.queries_packed, shape.h_q, s_q, shape.d_v);
  lse = Array::without_columns(extents(shape.queries_packed, shape.h_q, s_q), lse_dtype);
  d_o = o, d_lse = lse, d_q = q, d_k = k, d_v = v;

  std::mt19937_64 engine(seed);
  std::normal_distribution<double> normal;
  for_each_query([&](std::int64_t i, const Sequence& sequence, std::int64_t head, std::int64_t row) {
    const auto draw = [&](Array& array, std::int64_t columns) {
      for (std::int64_t c = 0; c < columns; ++c)
        array.set(array.place(i, head, row, sequence.first_query_token, c), normal(engine));
    };
    draw(q, shape.d_qk), draw(d_o, shape.d_v), draw(d_lse, 1);
  });
  for_each_key([&](std::int64_t i, const Sequence& sequence, std::int64_t head, std::int64_t row) {
    if (row < sequence.key_start) return;
    const auto draw = [&](Array& array, std::int64_t columns) {
      for (std::int64_t c = 0; c < columns; ++c)
        array.set(array.place(i, head, row, sequence.first_key_token, c), normal(engine));
    };
    draw(k, shape.d_qk), draw(v, shape.d_v);
  });
  inputs = {.q = q.view(), .k = k.view(), .v = v.view(), .sequences = shape.sequences};
}

}  // namespace tilewise::reference
