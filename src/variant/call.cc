#include "variant/call.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <vector>

#include "core/element.h"
#include "core/fail.h"
#include "variant/call_outputs.h"
#include "variant/call_problem.h"
#include "variant/call_tensors.h"

namespace tilewise::variant {
namespace {

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
  check_own_memory(inputs, outputs);
}

void check_backward(const Variant& variant, const ForwardInputs& inputs, const BackwardInputs& given,
                    const BackwardOutputs& outputs, Call& call, TableData data) {
  check_inputs(variant, inputs, call, data);
  if (call.keys_paged)
    fail_argument("block_table is given to a backward pass; expected keys and values that are not paged: gather them");
  for (const auto& [name, tensor] : {std::pair{"q", inputs.q}, std::pair{"k", inputs.k}, std::pair{"v", inputs.v}}) {
    if (is_scaled(tensor.dtype))
      fail_argument("{} is {} in a backward pass; expected a floating dtype", name, to_string(tensor.dtype));
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
  check_own_memory(inputs, given, outputs);
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
