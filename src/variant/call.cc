#include "variant/call.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "core/check_tensor.h"
#include "core/element.h"
#include "core/fail.h"

namespace tilewise::variant {
namespace {

/// Extents of a tensor, without memory of their own.
struct Extents {
  std::array<std::int64_t, kMaxRank> values{};
  std::size_t rank = 0;

  operator std::span<const std::int64_t>() const {
    return {values.data(), rank};
  }  // NOLINT(google-explicit-constructor)
};

/// An axis of a tensor in either storage, counted from its end: 0 is d, 1 the rows, 2 the heads, 3 the batch.
std::int64_t axis_from_end(const ConstTensor& tensor, int axis) {
  return tensor.extents[static_cast<std::size_t>(tensor.rank - 1 - axis)];
}

Extents extents_of(const ConstTensor& tensor) { return {tensor.extents, static_cast<std::size_t>(tensor.rank)}; }

/// The extents of `tensor` with another last axis, or, for lse, without it.
Extents with_last_axis(const ConstTensor& tensor, std::int64_t last) {
  Extents extents = extents_of(tensor);
  extents.values[extents.rank - 1] = last;
  return extents;
}
Extents without_last_axis(const ConstTensor& tensor) {
  Extents extents = extents_of(tensor);
  --extents.rank;
  return extents;
}

void check_storage(std::string_view name, const ConstTensor& tensor) {
  if (tensor.rank != 3 && tensor.rank != 4) {
    fail_argument("{} has rank {}; expected 4, [b, heads, length, d], or 3 for packed storage, [heads, tokens, d]",
                  name, tensor.rank);
  }
  check_memory(name, tensor);
  if (axis_from_end(tensor, 0) < 1) fail_argument("{} has a last axis of 0; expected at least 1", name);
}

/// Of k or v: int8 is as good as a floating dtype where it comes with scales.
void check_scales(const char* name, const ConstTensor& tensor, const char* scales_name,
                  const std::optional<ConstTensor>& scales) {
  if (tensor.dtype != DType::int8) {
    check_floating(name, tensor);
    if (scales)
      fail_argument("{} is given, but {} has dtype {}; expected it with int8 alone", scales_name, name,
                    to_string(tensor.dtype));
    return;
  }
  if (!scales) {
    fail_argument("{} is missing; expected a scale for each head and token of {}, which is int8", scales_name, name);
  }
  check_extents(scales_name, *scales, without_last_axis(tensor), "as what it scales without the last axis");
  check_elements(scales_name, *scales);
  if (scales->dtype != DType::float32)
    fail_argument("{} has dtype {}; expected float32", scales_name, to_string(scales->dtype));
}

void check_lse_dtype(std::string_view name, const ConstTensor& tensor) {
  if (tensor.dtype != DType::float32 && tensor.dtype != DType::float64)
    fail_argument("{} has dtype {}; expected float32 or float64", name, to_string(tensor.dtype));
}

/// A tensor of the given extents that the call reads.
void check_given(std::string_view name, const ConstTensor& tensor, const Extents& expected, std::string_view meaning) {
  check_extents(name, tensor, expected, meaning);
  check_floating(name, tensor);
  check_memory(name, tensor);
}

/// One that it writes.
void check_output(std::string_view name, const ConstTensor& tensor, const Extents& expected, std::string_view meaning) {
  check_given(name, tensor, expected, meaning);
  check_distinct_elements(name, tensor);
}

void check_shapes(const ForwardInputs& inputs) {
  check_storage("q", inputs.q);
  check_floating("q", inputs.q);
  check_storage("k", inputs.k);
  check_storage("v", inputs.v);
  if (axis_from_end(inputs.q, 0) != axis_from_end(inputs.k, 0)) {
    fail_argument("q has extents {} and k has {}; expected the same last axis, d_qk", extents_text(inputs.q),
                  extents_text(inputs.k));
  }
  check_extents("v", inputs.v, with_last_axis(inputs.k, axis_from_end(inputs.v, 0)), "as k but for the last axis, d_v");
  check_scales("k", inputs.k, "k_scales", inputs.k_scales);
  check_scales("v", inputs.v, "v_scales", inputs.v_scales);
  if (!inputs.block_table) return;
  const ConstTensor& table = *inputs.block_table;
  if (table.rank != 2) fail_argument("block_table has rank {}; expected 2, [b, pages of a sequence]", table.rank);
  check_memory("block_table", table);
  if (table.dtype != DType::int32) fail_argument("block_table has dtype {}; expected int32", to_string(table.dtype));
  if (inputs.k.rank != 4) {
    fail_argument("k has rank {} beside a block_table; expected 4, [pages, h_kv, page_tokens, d_qk]", inputs.k.rank);
  }
}

/// The batch that the padded ones of q and k, or the block table, agree on; -1 where both are packed.
std::int64_t batch_of(const ForwardInputs& inputs) {
  const std::int64_t of_q = inputs.q.rank == 4 ? inputs.q.extents[0] : -1;
  if (inputs.block_table) {
    const std::int64_t of_table = inputs.block_table->extents[0];
    if (of_q >= 0 && of_q != of_table) {
      fail_argument("q has extents {} and block_table has {}; expected the same first axis, b", extents_text(inputs.q),
                    extents_text(*inputs.block_table));
    }
    return of_table;
  }
  const std::int64_t of_k = inputs.k.rank == 4 ? inputs.k.extents[0] : -1;
  if (of_q >= 0 && of_k >= 0 && of_q != of_k) {
    fail_argument("q has extents {} and k has {}; expected the same first axis, b", extents_text(inputs.q),
                  extents_text(inputs.k));
  }
  return std::max(of_q, of_k);
}

/// Expects that the rows of every sequence lie within the storage of one side.
void check_rows(const char* name, const ConstTensor& tensor, const std::vector<Sequence>& sequences,
                const char* length_name, std::int64_t Sequence::*length, const char* first_name,
                std::int64_t Sequence::*first_token) {
  const std::int64_t rows = axis_from_end(tensor, 1);
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const std::int64_t count = sequences[i].*length, first = sequences[i].*first_token;
    if (tensor.rank == 4 && count > rows)
      fail_argument("sequence {}: {} is {}; expected at most the {} rows that {} holds", i, length_name, count, rows,
                    name);
    if (tensor.rank == 3 && first + count > rows) {
      fail_argument("sequence {}: {} is {} and {} is {}; expected them to end within the {} tokens of {}", i,
                    first_name, first, length_name, count, rows, name);
    }
  }
}

/// Expects a page for each of a sequence's tokens: -1 or one of k's, where they can be looked at.
void check_pages(const ForwardInputs& inputs, const std::vector<Sequence>& sequences, TableData data) {
  const ConstTensor& table = *inputs.block_table;
  const std::int64_t pages = inputs.k.extents[0], page_tokens = inputs.k.extents[2];
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& sequence = sequences[i];
    if (sequence.key_start >= sequence.s_kv) continue;
    if (page_tokens < 1) {
      fail_argument("k has extents {}; expected pages of at least 1 token, as sequence {} has {} keys",
                    extents_text(inputs.k), i, sequence.s_kv);
    }
    if ((sequence.s_kv - 1) / page_tokens >= table.extents[1]) {
      fail_argument("sequence {}: s_kv is {}; expected at most the {} pages of {} tokens that block_table holds", i,
                    sequence.s_kv, table.extents[1], page_tokens);
    }
    if (data == TableData::elsewhere) continue;
    const auto* row = static_cast<const std::int32_t*>(table.data) + static_cast<std::int64_t>(i) * table.strides[0];
    for (std::int64_t at = sequence.key_start / page_tokens; at <= (sequence.s_kv - 1) / page_tokens; ++at) {
      if (row[at] < -1 || row[at] >= pages) {
        fail_argument("block_table[{}, {}] is {}; expected a page, 0 to {}, or -1 for a hole", i, at, row[at],
                      pages - 1);
      }
    }
  }
}

/// Expects a tensor [extent] of numbers on the GPU.
void check_column(const char* name, const std::optional<ConstTensor>& column, std::int64_t extent, DType dtype) {
  if (!column) return;
  if (column->rank != 1 || column->extents[0] != extent || column->dtype != dtype) {
    fail_argument("{} is {} of extents {}; expected {} of extents [{}]", name, to_string(column->dtype),
                  extents_text(*column), to_string(dtype), extent);
  }
  check_memory(name, *column);
}

/// Sequences of a GPU, as long as they can be by their storage.
void set_longest(const ForwardInputs& inputs, std::int64_t batch, Problem& problem, TableData data) {
  const DeviceSequences& given = *inputs.device_sequences;
  if (data == TableData::readable)
    fail_argument("device_sequences is given to a plan for the processor; expected sequences");
  if (!inputs.sequences.empty()) fail_argument("sequences and device_sequences are both given; expected one of them");
  const std::int64_t b = batch >= 0 ? batch : given.b;
  if (given.b != b) {
    fail_argument("device_sequences has b = {}; expected {}, b of the {}", given.b, b,
                  inputs.block_table ? "block_table" : "padded tensors");
  }
  if (inputs.q.rank == 3 && !given.s_q) fail_argument("device_sequences lacks s_q; expected it with packed queries");
  if ((inputs.k.rank == 3 || inputs.block_table) && !given.s_kv)
    fail_argument("device_sequences lacks s_kv; expected it with packed or paged keys");
  using Column = std::optional<ConstTensor> DeviceSequences::*;
  constexpr std::pair<const char*, Column> kColumns[] = {
      {"device_sequences.s_q", &DeviceSequences::s_q},
      {"device_sequences.s_kv", &DeviceSequences::s_kv},
      {"device_sequences.query_offset", &DeviceSequences::query_offset},
      {"device_sequences.key_offset", &DeviceSequences::key_offset},
      {"device_sequences.key_start", &DeviceSequences::key_start},
      {"device_sequences.first_query_token", &DeviceSequences::first_query_token},
      {"device_sequences.first_key_token", &DeviceSequences::first_key_token}};
  for (const auto& [name, column] : kColumns) check_column(name, given.*column, b, DType::int32);
  const std::int64_t keys =
      inputs.block_table ? inputs.block_table->extents[1] * inputs.k.extents[2] : axis_from_end(inputs.k, 1);
  problem.set_uniform(b, axis_from_end(inputs.q, 1),
                      std::min<std::int64_t>(keys, std::numeric_limits<std::int32_t>::max()));
}

/// Heads and sequences of the call.
void set_problem(const ForwardInputs& inputs, Problem& problem, TableData data) {
  const std::int64_t batch = batch_of(inputs);
  const std::int64_t h_q = axis_from_end(inputs.q, 2), h_kv = axis_from_end(inputs.k, 2);
  const bool packed = inputs.q.rank == 3 || inputs.k.rank == 3;
  problem.h_q = h_q;
  problem.h_kv = h_kv;
  if (inputs.device_sequences) {
    set_longest(inputs, batch, problem, data);
    return problem.validate();
  }
  problem.sequences.assign(inputs.sequences.begin(), inputs.sequences.end());
  if (inputs.sequences.empty() && !packed && !inputs.block_table) {
    problem.set_uniform(batch, axis_from_end(inputs.q, 1), axis_from_end(inputs.k, 1));
  } else if (batch >= 0 && problem.b() != batch) {
    fail_argument("sequences has {} elements; expected {}, b of the {}", problem.b(), batch,
                  inputs.block_table ? "block_table" : "padded tensors");
  } else if (problem.b() == 0 && inputs.q.elements() + inputs.k.elements() > 0) {
    fail_argument("sequences is empty; packed storage expects one for each sequence in it");
  }
  problem.validate();
  check_rows("q", inputs.q, problem.sequences, "s_q", &Sequence::s_q, "first_query_token",
             &Sequence::first_query_token);
  if (inputs.block_table) return check_pages(inputs, problem.sequences, data);
  check_rows("k", inputs.k, problem.sequences, "s_kv", &Sequence::s_kv, "first_key_token", &Sequence::first_key_token);
}

/// Expects that no two sequences of packed storage share rows, since each would write them.
void check_own_rows(const char* what, const std::vector<Sequence>& sequences, std::int64_t Sequence::*length,
                    std::int64_t Sequence::*first_token) {
  const auto follows = [&](const Sequence& before, const Sequence& after) {
    return before.*first_token + before.*length <= after.*first_token;
  };
  if (std::ranges::adjacent_find(sequences, std::not_fn(follows)) == sequences.end()) return;  // as nearly always
  std::vector<std::size_t> order;
  for (std::size_t i = 0; i < sequences.size(); ++i) {
    if (sequences[i].*length > 0) order.push_back(i);
  }
  std::ranges::sort(order, {}, [&](std::size_t i) { return sequences[i].*first_token; });
  for (std::size_t at = 1; at < order.size(); ++at) {
    const Sequence &before = sequences[order[at - 1]], &after = sequences[order[at]];
    if (before.*first_token + before.*length > after.*first_token) {
      fail_argument("sequences {} and {} share {} tokens from {} on; expected tokens of their own, as both write them",
                    order[at - 1], order[at], what, after.*first_token);
    }
  }
}

double checked_scale(const ForwardInputs& inputs, std::int64_t d_qk) {
  const double scale = inputs.scale.value_or(1 / std::sqrt(static_cast<double>(d_qk)));
  if (!std::isfinite(scale)) fail_argument("scale is {}; expected a finite number", scale);
  return scale;
}

Dropout checked_dropout(const Variant& variant, const ForwardInputs& inputs, const Problem& problem) {
  if (!variant.has_dropout()) {
    if (inputs.dropout_probability) {
      fail_argument("dropout_probability is {}, but the variant has no dropout; compose it with dropout(...)",
                    *inputs.dropout_probability);
    }
    return {};
  }
  const double probability = inputs.dropout_probability.value_or(variant.data().dropout_probability);
  if (!(probability >= 0 && probability <= 1)) fail_argument("dropout_probability is {}; expected 0 to 1", probability);
  constexpr std::uint64_t kMax32 = std::numeric_limits<std::uint32_t>::max();
  if (inputs.seed_offset > kMax32)
    fail_argument("seed_offset is {}; expected 0 to {}: take a new seed after that", inputs.seed_offset, kMax32);
  if (problem.b() > 0 &&
      static_cast<std::uint64_t>(problem.h_q) > (kMax32 + 1) / static_cast<std::uint64_t>(problem.b()))
    fail_argument("b is {} and h_q is {}; dropout expects b * h_q of at most 2^32", problem.b(), problem.h_q);
  return {1 - probability, inputs.seed, static_cast<std::uint32_t>(inputs.seed_offset)};
}

void check_inputs(const Variant& variant, const ForwardInputs& inputs, Call& call, TableData data) {
  check_shapes(inputs);
  set_problem(inputs, call.problem, data);
  call.queries_packed = inputs.q.rank == 3;
  call.keys_packed = inputs.k.rank == 3;
  call.keys_paged = inputs.block_table.has_value();
  call.block_table = inputs.block_table.value_or(ConstTensor());
  call.page_tokens = call.keys_paged ? inputs.k.extents[2] : 0;
  call.d_qk = axis_from_end(inputs.q, 0);
  call.d_v = axis_from_end(inputs.v, 0);
  call.scale = checked_scale(inputs, call.d_qk);
  bind(variant.data().graph, inputs.tables, inputs.parameters, call.bound, data);
  call.dropout = checked_dropout(variant, inputs, call.problem);
  if (inputs.device_seed && data == TableData::readable)
    fail_argument("device_seed is given to a plan for the processor; expected seed and seed_offset");
  check_column("device_seed", inputs.device_seed, 2, DType::int64);
  if (call.queries_packed && !inputs.device_sequences) {
    check_own_rows("query", call.problem.sequences, &Sequence::s_q, &Sequence::first_query_token);
  }
}

/// The gradients that a call asks for: each handle the variant's own, each once.
template <class Handle, class Gradient>
void check_handles(const char* what, const std::vector<Handle>& known, const std::vector<Gradient>& asked,
                   Handle Gradient::*member) {
  for (const Gradient& gradient : asked) {
    const Handle& handle = gradient.*member;
    const auto is_handle = [&](const Gradient& other) { return other.*member == handle; };
    if (std::ranges::find(known, handle) == known.end()) {
      fail_argument("d_{}s names '{}', which the variant does not read; expected only its own (handles are compared)",
                    what, handle.name());
    }
    if (std::ranges::count_if(asked, is_handle) > 1)
      fail_argument("d_{}s names '{}' more than once; expected once", what, handle.name());
    if (handle.type() != Type::real) {
      fail_argument("d_{}s names '{}', whose type is {}; only reals have gradients", what, handle.name(),
                    to_string(handle.type()));
    }
  }
}

/// What an error would call an argument, without memory of its own; long names are cut off.
class Name {
 public:
  Name(fmt::format_string<const std::string&> pattern, const std::string& name)
      : size_(std::min(fmt::format_to_n(text_.data(), text_.size(), pattern, name).size, text_.size())) {}
  std::string_view text() const { return {text_.data(), size_}; }

 private:
  std::array<char, 200> text_{};
  std::size_t size_;
};

void check_variant_gradients(const Variant& variant, const Bound& bound, const BackwardOutputs& outputs) {
  check_handles("table", variant.tables(), outputs.d_tables, &TableGradientBinding::table);
  check_handles("parameter", variant.parameters(), outputs.d_parameters, &ParameterGradientBinding::parameter);
  for (const auto& [table, gradient] : outputs.d_tables) {
    if (table.frozen_data())
      fail_argument("d_tables names '{}', which is frozen; bind it to have its gradient", table.name());
    const auto index = std::ranges::find(variant.tables(), table) - variant.tables().begin();
    const BoundTable& data = bound.tables[static_cast<std::size_t>(index)];
    const Name name("the gradient of table '{}'", table.name());
    check_output(name.text(), gradient, {data.extents, static_cast<std::size_t>(data.rank)}, "as the bound data");
  }
  for (const auto& [parameter, gradient] : outputs.d_parameters) {
    check_output(Name("the gradient of parameter '{}'", parameter.name()).text(), gradient, {}, "a single number");
  }
}

}  // namespace

void check_forward(const Variant& variant, const ForwardInputs& inputs, const ForwardOutputs& outputs, Call& call,
                   TableData data) {
  check_inputs(variant, inputs, call, data);
  check_output("o", outputs.o, with_last_axis(inputs.q, call.d_v), "as q but for the last axis, d_v");
  if (outputs.lse) {
    check_output("lse", *outputs.lse, without_last_axis(inputs.q), "as q without the last axis");
    check_lse_dtype("lse", *outputs.lse);
  }
  if (outputs.max_score) {
    check_output("max_score", *outputs.max_score, Extents{{call.problem.h_q}, 1}, "a number for each query head");
    if (outputs.max_score->dtype != DType::float32)
      fail_argument("max_score has dtype {}; expected float32", to_string(outputs.max_score->dtype));
  }
}

void check_backward(const Variant& variant, const ForwardInputs& inputs, const BackwardInputs& given,
                    const BackwardOutputs& outputs, Call& call, TableData data) {
  check_inputs(variant, inputs, call, data);
  if (call.keys_paged)
    fail_argument("block_table is given to a backward pass; expected keys and values that are not paged: gather them");
  if (inputs.k_scales || inputs.v_scales) {
    fail_argument("{} is int8 in a backward pass; expected a floating dtype", inputs.k_scales ? "k" : "v");
  }
  const Extents as_o = with_last_axis(inputs.q, call.d_v), as_lse = without_last_axis(inputs.q);
  if (given.o) check_given("o", *given.o, as_o, "as q but for the last axis, d_v");
  check_given("d_o", given.d_o, as_o, "as q but for the last axis, d_v");
  for (const auto& [name, tensor] : {std::pair{"lse", given.lse}, std::pair{"d_lse", given.d_lse}}) {
    if (!tensor) continue;
    check_given(name, *tensor, as_lse, "as q without the last axis");
    check_lse_dtype(name, *tensor);
  }
  if (outputs.d_q) check_output("d_q", *outputs.d_q, extents_of(inputs.q), "as q");
  if (outputs.d_k) check_output("d_k", *outputs.d_k, extents_of(inputs.k), "as k");
  if (outputs.d_v) check_output("d_v", *outputs.d_v, extents_of(inputs.v), "as v");
  if (call.keys_packed && (outputs.d_k || outputs.d_v) && !inputs.device_sequences) {
    check_own_rows("key", call.problem.sequences, &Sequence::s_kv, &Sequence::first_key_token);
  }
  check_variant_gradients(variant, call.bound, outputs);
}

Call check_forward(const Variant& variant, const ForwardInputs& inputs, const ForwardOutputs& outputs) {
  Call call;
  check_forward(variant, inputs, outputs, call);
  return call;
}

Call check_backward(const Variant& variant, const ForwardInputs& inputs, const BackwardInputs& given,
                    const BackwardOutputs& outputs) {
  Call call;
  check_backward(variant, inputs, given, outputs, call);
  return call;
}

}  // namespace tilewise::variant
