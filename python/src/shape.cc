#include "shape.h"

#include <algorithm>
#include <string>
#include <vector>

#include "tilewise/error.h"

namespace tilewise::python {

namespace {

std::int64_t axis_from_end(const ConstTensor& tensor, int from_end) {
  return tensor.extents[static_cast<std::size_t>(tensor.rank - from_end)];
}

void take_lengths(const ForwardInputs& inputs, PlanShape& shape) {
  const std::vector<Sequence>& sequences = inputs.sequences;
  if (inputs.q.rank == 3) shape.query_tokens = shape.s_q;
  if (inputs.k.rank == 3) shape.key_tokens = shape.s_kv;
  shape.b = static_cast<std::int64_t>(sequences.size());
  shape.s_q = shape.s_kv = 0;
  for (const Sequence& sequence : sequences) {
    shape.s_q = std::max(shape.s_q, sequence.s_q);
    shape.s_kv = std::max(shape.s_kv, sequence.s_kv);
  }
  const std::int64_t first = sequences.front().first_query_position();
  const bool are_equal =
      std::ranges::all_of(sequences, [&](const Sequence& each) { return each.first_query_position() == first; });
  if (are_equal) shape.query_offset = first;
}

}  // namespace

PlanShape shape_of(const ForwardInputs& inputs, bool backward) {
  const ConstTensor &q = inputs.q, &k = inputs.k, &v = inputs.v;
  if (q.rank < 3 || k.rank < 3 || v.rank < 3 || v.rank != k.rank) {
    throw Error(ErrorCode::invalid_argument, "q, k and v have " + std::to_string(q.rank) + ", " +
                                                 std::to_string(k.rank) + " and " + std::to_string(v.rank) +
                                                 " axes; expected 4, [batch, heads, length, dim], or 3 with packed "
                                                 "sequences");
  }
  PlanShape shape;
  shape.dtype = q.dtype;
  if (k.dtype != q.dtype) shape.kv_dtype = k.dtype;
  shape.h_q = axis_from_end(q, 3);
  shape.h_kv = axis_from_end(k, 3);
  shape.d_qk = axis_from_end(q, 1);
  shape.d_v = axis_from_end(v, 1);
  shape.s_q = axis_from_end(q, 2);
  shape.s_kv = axis_from_end(k, 2);
  shape.backward = backward;
  shape.b = std::max<std::int64_t>(q.rank == 4 ? q.extents[0] : 1, 1);
  if (!inputs.sequences.empty()) take_lengths(inputs, shape);
  for (const TableBinding& binding : inputs.tables) {
    const auto& extents = binding.data.extents;
    shape.tables.push_back({binding.table, {extents.begin(), extents.begin() + binding.data.rank}});
  }
  return shape;
}

void set_query_offset(ForwardInputs& inputs, std::int64_t query_offset) {
  if (inputs.sequences.empty() && inputs.q.rank == 4 && inputs.k.rank == 4) {
    inputs.sequences.assign(static_cast<std::size_t>(inputs.q.extents[0]),
                            {.s_q = inputs.q.extents[2], .s_kv = inputs.k.extents[2]});
  }
  for (Sequence& sequence : inputs.sequences) sequence.query_offset = query_offset;
}

}  // namespace tilewise::python
