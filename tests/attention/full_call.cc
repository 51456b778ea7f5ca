#include "tests/attention/full_call.h"

#include <gtest/gtest.h>

#include "tests/refusal.h"
#include "tilewise/reference.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;

reference::Shape shape_of(bool packed) {
  reference::Shape shape = uniform(2, 4, 2, 30, 40, 8, 4);
  shape.queries_packed = shape.keys_packed = packed;
  shape.sequences[1].first_query_token = 30;
  shape.sequences[1].first_key_token = 40;
  return shape;
}

}  // namespace

FullCall::FullCall(DType dtype, bool packed)
    : bias("bias", DType::float32, 2),
      kinds(Table("kinds", DType::int32, 1).values_in(0, 3)),
      gain("gain", 0.5, 2),
      variant(score([this](Expr s, const At& at) { return s * gain + bias(at.head, at.key_index); }) &
              keep([this](const At& at) { return kinds.clamped(at.key_index) < 3; }) & dropout(0.5)),
      data(shape_of(packed), 1, dtype, DType::float32),
      biases(4 * 40),
      kinds_data(40, 1),
      d_biases(4 * 40, kPoison) {
  planned = plan_shape(data.shape(), dtype, true, {});
  planned.tables = {{bias, {4, 40}}, {kinds, {40}}};
  inputs = data.inputs;
  inputs.q = data.q.view(), inputs.k = data.k.view(), inputs.v = data.v.view();
  if (!packed) inputs.sequences.clear();
  inputs.tables = {{bias, ConstTensor(biases.data(), DType::float32, {4, 40})},
                   {kinds, ConstTensor(kinds_data.data(), DType::int32, {40})}};
  inputs.parameters = {{gain, 1}};
  for (Array* array : {&data.o, &data.lse, &data.d_q, &data.d_k, &data.d_v}) array->fill(kPoison);
  outputs = data.outputs();
  given = data.given_with_outputs();
  gradients = data.gradients();
  gradients.d_tables = {{bias, Tensor(d_biases.data(), DType::float32, {4, 40})}};
  gradients.d_parameters = {{gain, Tensor(&d_gain, DType::float32, {})}};
}

void FullCall::expect_untouched() const {
  for (const Array* array : {&data.o, &data.lse, &data.d_q, &data.d_k, &data.d_v}) {
    for (std::int64_t i = 0; i < array->size(); ++i) ASSERT_EQ(array->get(i), kPoison);
  }
  for (const float value : d_biases) ASSERT_EQ(value, kPoison);
  ASSERT_EQ(d_gain, kPoison);
}

void expect_refused(const Spoilt& spoilt, Pass pass, bool packed) {
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float64}) {
    SCOPED_TRACE(std::string(spoilt.message) + ", " + to_string(dtype));
    FullCall call(dtype, packed);
    const Plan plan = Attention(call.variant).plan(call.planned);
    Workspace workspace(plan.workspace_bytes());
    spoilt.change(call);
    const auto forward = [&] { plan.forward(call.inputs, call.outputs, workspace); };
    const auto backward = [&] { plan.backward(call.inputs, call.given, call.gradients, workspace); };
    if (pass != Pass::backward) tilewise::expect_refused(forward, {spoilt.message});
    if (pass != Pass::forward) tilewise::expect_refused(backward, {spoilt.message});
    if (pass != Pass::backward)
      tilewise::expect_refused([&] { standard_attention(call.variant, call.inputs, call.outputs); }, {spoilt.message});
    if (pass != Pass::forward) {
      tilewise::expect_refused(
          [&] { standard_attention_backward(call.variant, call.inputs, call.given, call.gradients); },
          {spoilt.message});
    }
    call.expect_untouched();
  }
}

}  // namespace tilewise::attention::testing
