#include "attention/check_plan.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "core/element.h"
#include "core/fail.h"
#include "tilewise/tiles.h"

namespace tilewise::attention {
namespace {

using variant::Kind;

const TableShape* planned_table(const PlanShape& shape, const Table& table) {
  const auto found = std::ranges::find(shape.tables, table, &TableShape::table);
  return found == shape.tables.end() ? nullptr : &*found;
}

/// Whether each table is read without clamping.
std::vector<bool> read_unclamped(const Variant& variant) {
  const variant::Graph& graph = variant.data().graph;
  std::vector<bool> unclamped(graph.tables().size());
  for (const variant::Node& node : graph.nodes()) {
    if (node.kind == Kind::read && !node.clamped) unclamped[static_cast<std::size_t>(node.index)] = true;
  }
  return unclamped;
}

void check_floating_dtype(const char* name, DType dtype) {
  if (!is_floating(dtype))
    fail_argument("{} is {}; expected float64, float32, float16 or bfloat16", name, to_string(dtype));
}

constexpr std::int64_t kMostInt32 = std::numeric_limits<std::int32_t>::max();

/// Of a head dimension, and of the elements of a sequence's tensor or of a table: more than any machine holds, and so
/// little that no size of a workspace overflows.
constexpr std::int64_t kMostDimension = 1 << 24;
constexpr double kMostElements = 0x1p44;

void check_size(const char* name, std::int64_t size, std::int64_t least, std::int64_t most = kMostInt32) {
  if (size < least || size > most) fail_argument("{} is {}; expected {} to {}", name, size, least, most);
}

/// Expects a sequence of heads x length x dimension to be of a size that can be.
void check_product(const char* heads_name, std::int64_t heads, const char* length_name, std::int64_t length,
                   const char* dimension_name, std::int64_t dimension) {
  if (static_cast<double>(heads) * static_cast<double>(length) * static_cast<double>(dimension) < kMostElements) return;
  fail_argument("{} is {}, {} is {} and {} is {}; expected fewer than 2^44 elements of a sequence", heads_name, heads,
                length_name, length, dimension_name, dimension);
}

void check_most(const char* name, std::int64_t size, std::int64_t planned) {
  if (size > planned) fail_argument("{} is {}; the plan was made for at most {}", name, size, planned);
}

void check_same(const char* name, std::int64_t size, std::int64_t planned) {
  if (size != planned) fail_argument("{} is {}; the plan was made for {}", name, size, planned);
}

}  // namespace

void check_shape(const Variant& variant, const PlanShape& shape) {
  if (shape.dtype != DType::float8_e4m3) check_floating_dtype("dtype", shape.dtype);
  const DType kv_dtype = kv_dtype_of(shape);
  if (!is_scaled(kv_dtype)) check_floating_dtype("kv_dtype", kv_dtype);
  if (shape.dtype == DType::float8_e4m3) {
    check_floating_dtype("o_dtype", o_dtype_of(shape));
  } else if (shape.o_dtype) {
    fail_argument("o_dtype is {} and dtype is {}; expected it with float8_e4m3 alone: o is as q",
                  to_string(*shape.o_dtype), to_string(shape.dtype));
  }
  for (const auto& [name, dtype] : {std::pair{"dtype", shape.dtype}, std::pair{"kv_dtype", kv_dtype}}) {
    if (is_scaled(dtype) && shape.backward) {
      fail_argument("{0} is {1} and backward is true; expected a floating dtype, as {1} has no gradients", name,
                    to_string(dtype));
    }
  }
  check_size("b", shape.b, 0);
  check_size("h_q", shape.h_q, 1);
  check_size("h_kv", shape.h_kv, 1);
  if (shape.h_q % shape.h_kv != 0)
    fail_argument("h_q is {} and h_kv is {}; expected h_kv to divide h_q", shape.h_q, shape.h_kv);
  check_size("d_qk", shape.d_qk, 1, kMostDimension);
  check_size("d_v", shape.d_v, 1, kMostDimension);
  check_size("s_q", shape.s_q, 0);
  check_size("s_kv", shape.s_kv, 0);
  check_product("h_q", shape.h_q, "s_q", shape.s_q, "d_qk", shape.d_qk);
  check_product("h_q", shape.h_q, "s_q", shape.s_q, "d_v", shape.d_v);
  check_product("h_kv", shape.h_kv, "s_kv", shape.s_kv, "d_qk", shape.d_qk);
  check_product("h_kv", shape.h_kv, "s_kv", shape.s_kv, "d_v", shape.d_v);
  if (shape.b * shape.h_q > kMostInt32)
    fail_argument("b is {} and h_q is {}; expected b * h_q of at most {}", shape.b, shape.h_q, kMostInt32);
  if (shape.query_tokens) check_size("query_tokens", *shape.query_tokens, 0);
  if (shape.key_tokens) check_size("key_tokens", *shape.key_tokens, 0);
  for (const auto& [table, extents] : shape.tables) {
    if (std::ranges::find(variant.tables(), table) == variant.tables().end())
      fail_argument("tables names '{}', which the variant does not read; expected only its own (handles are compared)",
                    table.name());
    if (static_cast<int>(extents.size()) != table.rank())
      fail_argument("tables: '{}' has {} extents; expected its rank, {}", table.name(), extents.size(), table.rank());
    if (std::ranges::any_of(extents, [](std::int64_t extent) { return extent < 0; }))
      fail_argument("tables: '{}' has extents [{}]; expected none below 0", table.name(), fmt::join(extents, ", "));
    double elements = 1;
    for (const std::int64_t extent : extents) elements *= static_cast<double>(extent);
    if (elements >= kMostElements) {
      fail_argument("tables: '{}' has extents [{}]; expected fewer than 2^44 elements", table.name(),
                    fmt::join(extents, ", "));
    }
  }
}

void check_dtype(const char* name, const ConstTensor& tensor, DType planned) {
  if (tensor.dtype != planned)
    fail_argument("{} has dtype {}; the plan was made for {}", name, to_string(tensor.dtype), to_string(planned));
}

void check_outputs(const PlanShape& shape, const ForwardOutputs& outputs) {
  check_dtype("o", outputs.o, o_dtype_of(shape));
}

void check_outputs(const PlanShape& shape, const BackwardInputs& given, const BackwardOutputs& outputs) {
  if (given.o) check_dtype("o", *given.o, shape.dtype);
  check_dtype("d_o", given.d_o, shape.dtype);
  if (outputs.d_q) check_dtype("d_q", *outputs.d_q, shape.dtype);
  if (outputs.d_k) check_dtype("d_k", *outputs.d_k, kv_dtype_of(shape));
  if (outputs.d_v) check_dtype("d_v", *outputs.d_v, kv_dtype_of(shape));
}

void check_gradients(const PlanShape& shape, const BackwardInputs& given, const BackwardOutputs& outputs) {
  if (!given.o) fail_argument("o is missing; expected what the forward pass wrote");
  if (!given.lse) fail_argument("lse is missing; expected what the forward pass wrote: ask it for lse");
  check_outputs(shape, given, outputs);
}

void expect_on(const Workspace& workspace, const Device& device) {
  if (workspace.device() == device) return;
  fail_argument("workspace lies on {}; the plan was made for {}: make it with Workspace(bytes, device)",
                workspace.device().text(), device.text());
}

void check_planned(const PlanShape& shape, const ForwardInputs& inputs, const variant::Call& call) {
  check_dtype("q", inputs.q, shape.dtype);
  check_dtype("k", inputs.k, kv_dtype_of(shape));
  check_dtype("v", inputs.v, kv_dtype_of(shape));
  if (shape.dtype != DType::float64 && std::fabs(call.scale) > static_cast<double>(std::numeric_limits<float>::max()))
    fail_argument("scale is {}; expected a number that float32 holds, in which {} is computed", call.scale,
                  to_string(shape.dtype));
  check_same("h_q", call.problem.h_q, shape.h_q);
  check_same("h_kv", call.problem.h_kv, shape.h_kv);
  check_same("d_qk", call.d_qk, shape.d_qk);
  check_same("d_v", call.d_v, shape.d_v);
  check_most("b", call.problem.b(), shape.b);
  for (const Sequence& sequence : call.problem.sequences) {
    check_most("s_q", sequence.s_q, shape.s_q);
    check_most("s_kv", sequence.s_kv, shape.s_kv);
  }
}

std::vector<std::vector<std::int64_t>> planned_extents(const Variant& variant, const PlanShape& shape) {
  std::vector<std::vector<std::int64_t>> extents;
  for (const Table& table : variant.tables()) {
    const TableShape* planned = planned_table(shape, table);
    extents.push_back(planned != nullptr ? planned->extents
                                         : std::vector<std::int64_t>(static_cast<std::size_t>(table.rank()), 1));
  }
  return extents;
}

namespace {

/// The longest sequences of a plan. In packed storage all but the first lie at its end.
Problem planned_problem(const PlanShape& shape) {
  Problem problem = Problem::uniform(shape.b, shape.h_q, shape.h_kv, shape.s_q, shape.s_kv);
  for (std::size_t i = 0; i < problem.sequences.size(); ++i) {
    Sequence& sequence = problem.sequences[i];
    sequence.query_offset = shape.query_offset;
    if (shape.query_tokens) {
      sequence.s_q = std::min(sequence.s_q, *shape.query_tokens);
      sequence.first_query_token = i == 0 ? 0 : *shape.query_tokens - sequence.s_q;
    }
    if (shape.key_tokens) {
      sequence.s_kv = std::min(sequence.s_kv, *shape.key_tokens);
      sequence.first_key_token = i == 0 ? 0 : *shape.key_tokens - sequence.s_kv;
    }
  }
  return problem;
}

}  // namespace

bool prove_planned_reads(const Variant& variant, const PlanShape& shape) {
  const std::vector<bool> unclamped = read_unclamped(variant);
  for (std::size_t i = 0; i < unclamped.size(); ++i) {
    const Table& table = variant.tables()[i];
    if (unclamped[i] && !table.frozen_data() && planned_table(shape, table) == nullptr) {
      fail_argument(
          "tables lacks '{}', which the variant reads at indices that are not clamped; expected its extents, so that "
          "the reads can be proven to lie inside, or reads declared clamped(...)",
          table.name());
    }
  }
  if (std::ranges::find(unclamped, true) == unclamped.end()) return false;
  expect_reads_inside(variant, planned_extents(variant, shape), planned_problem(shape));
  return true;
}

void prove_reads(const Variant& variant, const PlanShape& shape, const ForwardInputs& inputs,
                 const variant::Call& call) {
  const bool is_as_planned =
      inputs.sequences.empty() && !shape.query_offset && !shape.query_tokens && !shape.key_tokens;
  const bool is_as_long = std::ranges::all_of(call.problem.sequences, [&](const Sequence& sequence) {
    return sequence.s_q == shape.s_q && sequence.s_kv == shape.s_kv;
  });
  bool are_as_large = true;
  for (const TableShape& planned : shape.tables) {
    const auto at = std::ranges::find(variant.tables(), planned.table) - variant.tables().begin();
    const variant::BoundTable& bound = call.bound.tables[static_cast<std::size_t>(at)];
    for (std::size_t axis = 0; axis < planned.extents.size(); ++axis)
      are_as_large = are_as_large && bound.extents[axis] >= planned.extents[axis];
  }
  if (is_as_planned && is_as_long && are_as_large) return;
  std::vector<std::vector<std::int64_t>> extents;
  for (const variant::BoundTable& bound : call.bound.tables)
    extents.emplace_back(bound.extents.begin(), bound.extents.begin() + bound.rank);
  expect_reads_inside(variant, extents, call.problem);
}

}  // namespace tilewise::attention
