// Bad input: each kind is a typed error that names the argument, its value and what was expected, before anything is
// written.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <limits>

#include "tests/attention/oracle.h"
#include "tests/refusal.h"
#include "tilewise/reference.h"

namespace tilewise::attention::testing {
namespace {

using reference::Array;
using reference::AttentionData;

constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

/// A call with everything that a call can have, to be spoilt in one place.
struct Call {
  explicit Call(DType dtype, bool packed = false)
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
    given = data.given();
    given.o = data.o.view();
    given.lse = data.lse.view();
    gradients = data.gradients();
    gradients.d_tables = {{bias, Tensor(d_biases.data(), DType::float32, {4, 40})}};
    gradients.d_parameters = {{gain, Tensor(&d_gain, DType::float32, {})}};
  }
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  static reference::Shape shape_of(bool packed) {
    reference::Shape shape = uniform(2, 4, 2, 30, 40, 8, 4);
    shape.queries_packed = shape.keys_packed = packed;
    shape.sequences[1].first_query_token = 30;
    shape.sequences[1].first_key_token = 40;
    return shape;
  }

  void expect_untouched() const {
    for (const Array* array : {&data.o, &data.lse, &data.d_q, &data.d_k, &data.d_v}) {
      for (std::int64_t i = 0; i < array->size(); ++i) ASSERT_EQ(array->get(i), kPoison);
    }
    for (const float value : d_biases) ASSERT_EQ(value, kPoison);
    ASSERT_EQ(d_gain, kPoison);
  }

  static constexpr float kPoison = 768;
  Table bias, kinds;
  Parameter gain;
  Variant variant;
  AttentionData data;
  std::vector<float> biases;
  std::vector<std::int32_t> kinds_data;
  std::vector<float> d_biases;
  float d_gain = kPoison;
  PlanShape planned;
  ForwardInputs inputs;
  ForwardOutputs outputs;
  BackwardInputs given;
  BackwardOutputs gradients;
};

/// What spoils a call, and what the error says.
struct Spoilt {
  const char* message;
  std::function<void(Call&)> change;
};

enum class Pass : std::uint8_t { forward, backward, both };

/// Expects that a plan, and standard attention, which shares the checks, refuse a spoilt call. `packed`: which storage.
void expect_refused(const Spoilt& spoilt, Pass pass, bool packed, bool by_reference_too = true) {
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float64}) {
    SCOPED_TRACE(std::string(spoilt.message) + ", " + to_string(dtype));
    Call call(dtype, packed);
    const Plan plan = Attention(call.variant).plan(call.planned);
    Workspace workspace(plan.workspace_bytes());
    spoilt.change(call);
    const auto forward = [&] { plan.forward(call.inputs, call.outputs, workspace); };
    const auto backward = [&] { plan.backward(call.inputs, call.given, call.gradients, workspace); };
    if (pass != Pass::backward) tilewise::expect_refused(forward, {spoilt.message});
    if (pass != Pass::forward) tilewise::expect_refused(backward, {spoilt.message});
    if (by_reference_too && pass != Pass::backward)
      tilewise::expect_refused([&] { standard_attention(call.variant, call.inputs, call.outputs); }, {spoilt.message});
    if (by_reference_too && pass != Pass::forward) {
      tilewise::expect_refused(
          [&] { standard_attention_backward(call.variant, call.inputs, call.given, call.gradients); },
          {spoilt.message});
    }
    call.expect_untouched();
  }
}

TEST(Refusals, OfNothingWhereNothingIsSpoilt) {
  for (const bool packed : {false, true}) {
    Call call(DType::float32, packed);
    const Plan plan = Attention(call.variant).plan(call.planned);
    plan.forward(call.inputs, call.outputs);
    plan.backward(call.inputs, call.given, call.gradients);
  }
}

TEST(Refusals, OfInputsThatDoNotFitTogether) {
  const Spoilt all[] = {
      {"q has rank 2; expected 4", [](Call& call) { call.inputs.q.rank = 2; }},
      {"q has rank -1; expected 4", [](Call& call) { call.inputs.q.rank = -1; }},
      {"k has rank 9; expected 4", [](Call& call) { call.inputs.k.rank = 9; }},
      {"q has extents [2, 4, -30, 8]; expected none below 0", [](Call& call) { call.inputs.q.extents[2] = -30; }},
      {"the same last axis, d_qk", [](Call& call) { call.inputs.k.extents[3] = 7; }},
      {"the same first axis, b", [](Call& call) { call.inputs.q.extents[0] = 1; }},
      {"v has extents [2, 2, 39, 4]; expected [2, 2, 40, 4]", [](Call& call) { call.inputs.v.extents[2] = 39; }},
      {"h_q is 4, expected a positive multiple of h_kv, which is 3",
       [](Call& call) { call.inputs.k.extents[1] = call.inputs.v.extents[1] = 3; }},
      {"h_kv is 0, expected 1 to 2147483647",
       [](Call& call) { call.inputs.k.extents[1] = call.inputs.v.extents[1] = 0; }},
      {"q is null; expected memory", [](Call& call) { call.inputs.q.data = nullptr; }},
      {"v is null; expected memory", [](Call& call) { call.inputs.v.data = nullptr; }},
      {"q has dtype int32", [](Call& call) { call.inputs.q.dtype = DType::int32; }},
      {"v has dtype uint8", [](Call& call) { call.inputs.v.dtype = DType::uint8; }},
      {"k has strides [640, 320, 8, 2]; expected 1 along the last axis",
       [](Call& call) { call.inputs.k.strides[3] = 2; }},
      {"scale is nan; expected a finite number", [](Call& call) { call.inputs.scale = std::nan(""); }},
      {"scale is -inf; expected a finite number", [](Call& call) { call.inputs.scale = -kInfinity; }},
      {"sequences has 1 elements; expected 2", [](Call& call) { call.inputs.sequences = {{.s_q = 3, .s_kv = 3}}; }},
      {"sequence 1: s_q is 31; expected at most the 30 rows that q holds",
       [](Call& call) {
         call.inputs.sequences = {{.s_q = 3, .s_kv = 3}, {.s_q = 31, .s_kv = 3}};
       }},
      {"sequence 0: s_kv is -1, expected 0",
       [](Call& call) {
         call.inputs.sequences = {{.s_q = 3, .s_kv = -1}, {.s_q = 3, .s_kv = 3}};
       }},
      {"sequence 1: key_start is 5, expected 0 to s_kv, which is 4",
       [](Call& call) {
         call.inputs.sequences = {{.s_q = 3, .s_kv = 3}, {.s_q = 3, .s_kv = 4, .key_start = 5}};
       }},
      {"the queries' positions (query_offset)",
       [](Call& call) {
         call.inputs.sequences = {{.s_q = 3, .s_kv = 3, .query_offset = kMost - 1}, {.s_q = 3, .s_kv = 4}};
       }},
      {"the keys' positions (key_offset)",
       [](Call& call) {
         call.inputs.sequences = {{.s_q = 3, .s_kv = 3, .key_offset = std::numeric_limits<std::int64_t>::min()},
                                  {.s_q = 3, .s_kv = 4}};
       }},
      {"dropout_probability is 1.5; expected 0 to 1", [](Call& call) { call.inputs.dropout_probability = 1.5; }},
      {"dropout_probability is nan; expected 0 to 1",
       [](Call& call) { call.inputs.dropout_probability = std::nan(""); }},
      {"seed_offset is 4294967296", [](Call& call) { call.inputs.seed_offset = std::uint64_t{1} << 32; }},
      {"device_sequences is given to a plan for the processor",
       [](Call& call) { call.inputs.device_sequences = DeviceSequences{.b = 2}; }},
      {"device_seed is given to a plan for the processor",
       [](Call& call) { call.inputs.device_seed = ConstTensor(&call.d_gain, DType::int64, {2}); }},
  };
  for (const Spoilt& spoilt : all) expect_refused(spoilt, Pass::both, false);
}

TEST(Refusals, OfPackedSequencesOutOfOrder) {
  const Spoilt all[] = {
      {"share query tokens", [](Call& call) { call.inputs.sequences[1].first_query_token = 29; }},
      {"sequence 1: first_query_token is 31 and s_q is 30; expected them to end within the 60 tokens of q",
       [](Call& call) { call.inputs.sequences[1].first_query_token = 31; }},
      {"sequence 0: the keys' tokens (first_key_token) run from -1",
       [](Call& call) { call.inputs.sequences[0].first_key_token = -1; }},
      {"first_key_token is 41", [](Call& call) { call.inputs.sequences[1].first_key_token = 41; }},
      {"(first_query_token) run from 9223372036854775807",
       [](Call& call) { call.inputs.sequences[1].first_query_token = kHuge; }},
      {"sequences is empty; packed storage expects one for each sequence",
       [](Call& call) { call.inputs.sequences.clear(); }},
  };
  for (const Spoilt& spoilt : all) expect_refused(spoilt, Pass::both, true);
  // The backward pass writes to the keys' rows, too.
  expect_refused({"share key tokens", [](Call& call) { call.inputs.sequences[1].first_key_token = 39; }},
                 Pass::backward, true);
}

TEST(Refusals, OfBindingsThatAreNotTheVariants) {
  const Table stranger("stranger", DType::float32, 1);
  const Spoilt all[] = {
      {"table 'bias' is not bound; expected one binding",
       [](Call& call) { call.inputs.tables.erase(call.inputs.tables.begin()); }},
      {"table 'bias' is bound 2 times", [](Call& call) { call.inputs.tables.push_back(call.inputs.tables[0]); }},
      {"table 'stranger' is bound, but the variant does not read it",
       [&](Call& call) {
         call.inputs.tables.push_back({stranger, ConstTensor(call.biases.data(), DType::float32, {3})});
       }},
      {"table 'bias': the data has rank 1, expected 2", [](Call& call) { call.inputs.tables[0].data.rank = 1; }},
      {"table 'bias': the data is float16, expected float32",
       [](Call& call) { call.inputs.tables[0].data.dtype = DType::float16; }},
      {"table 'bias': axis 0 has extent -4", [](Call& call) { call.inputs.tables[0].data.extents[0] = -4; }},
      {"table 'bias': axis 1 has extent 2147483648",
       [](Call& call) { call.inputs.tables[0].data.extents[1] = kMost + 1; }},
      {"table 'bias': the data is null", [](Call& call) { call.inputs.tables[0].data.data = nullptr; }},
      {"table 'kinds'", [](Call& call) { call.kinds_data[7] = 4; }},
      {"parameter 'gain' is not bound", [](Call& call) { call.inputs.parameters.clear(); }},
      {"parameter 'gain' is 3, expected 0.5 to 2", [](Call& call) { call.inputs.parameters[0].value = 3; }},
      {"parameter 'gain' is nan", [](Call& call) { call.inputs.parameters[0].value = std::nan(""); }},
  };
  for (const Spoilt& spoilt : all) expect_refused(spoilt, Pass::both, false);
  // Standard attention finds out at the entry.
  expect_refused({"table 'bias'", [](Call& call) { call.inputs.tables[0].data.extents[1] = 39; }}, Pass::forward,
                 false);
}

TEST(Refusals, OfOutputs) {
  const Spoilt of_forward[] = {
      {"o has rank 3; expected 4", [](Call& call) { call.outputs.o.rank = 3; }},
      {"o has extents [2, 4, 30, 5]; expected [2, 4, 30, 4]", [](Call& call) { call.outputs.o.extents[3] = 5; }},
      {"o is null", [](Call& call) { call.outputs.o.data = nullptr; }},
      {"o has dtype bool", [](Call& call) { call.outputs.o.dtype = DType::boolean; }},
      {"o has extents [2, 4, 30, 4] and strides [480, 0, 4, 1]; expected an output whose elements share no memory",
       [](Call& call) { call.outputs.o.strides[1] = 0; }},
      {"o has extents [2, 4, 30, 4] and strides [480, 120, -3, 1]; expected an output whose elements share no memory",
       [](Call& call) { call.outputs.o.strides[2] = -3; }},
      {"lse has dtype float16; expected float32 or float64",
       [](Call& call) { call.outputs.lse->dtype = DType::float16; }},
      {"lse has extents [2, 4, 29]; expected [2, 4, 30]", [](Call& call) { call.outputs.lse->extents[2] = 29; }},
      {"lse is null", [](Call& call) { call.outputs.lse->data = nullptr; }},
      {"lse has extents [2, 4, 30] and strides [120, 29, 1]", [](Call& call) { call.outputs.lse->strides[1] = 29; }},
      {"o shares memory with lse", [](Call& call) { call.outputs.lse->data = call.outputs.o.data; }},
      {"lse shares memory with table 'bias'", [](Call& call) { call.outputs.lse->data = call.biases.data(); }},
      {"o shares memory with v", [](Call& call) { call.inputs.v.data = call.outputs.o.data; }},
  };
  for (const Spoilt& spoilt : of_forward) expect_refused(spoilt, Pass::forward, false);
  const Table stranger("stranger", DType::float32, 1);
  const Spoilt of_backward[] = {
      {"d_q has extents [2, 4, 30, 9]; expected [2, 4, 30, 8], as q",
       [](Call& call) { call.gradients.d_q->extents[3] = 9; }},
      {"d_k is null", [](Call& call) { call.gradients.d_k->data = nullptr; }},
      {"d_v has extents [2, 2, 40, 4] and strides [0, 160, 4, 1]; expected an output whose elements share no memory",
       [](Call& call) { call.gradients.d_v->strides[0] = 0; }},
      {"d_k shares memory with d_v", [](Call& call) { call.gradients.d_v->data = call.gradients.d_k->data; }},
      {"d_q shares memory with q", [](Call& call) { call.inputs.q.data = call.gradients.d_q->data; }},
      {"d_v shares memory with o", [](Call& call) { call.given.o->data = call.gradients.d_v->data; }},
      {"the gradient of table 'bias' shares memory with table 'bias'",
       [](Call& call) { call.inputs.tables[0].data.data = call.d_biases.data(); }},
      {"d_o has extents [2, 4, 30, 3]", [](Call& call) { call.given.d_o.extents[3] = 3; }},
      {"d_o is null", [](Call& call) { call.given.d_o.data = nullptr; }},
      {"d_o has dtype int8", [](Call& call) { call.given.d_o.dtype = DType::int8; }},
      {"d_lse has extents [2, 3, 30]", [](Call& call) { call.given.d_lse->extents[1] = 3; }},
      {"d_lse has dtype bfloat16", [](Call& call) { call.given.d_lse->dtype = DType::bfloat16; }},
      {"o has extents [2, 4, 30, 3]", [](Call& call) { call.given.o->extents[3] = 3; }},
      {"lse has rank 4; expected 3", [](Call& call) { call.given.lse->rank = 4; }},
      {"d_tables names 'stranger', which the variant does not read",
       [&](Call& call) { call.gradients.d_tables[0].table = stranger; }},
      {"d_tables names 'bias' more than once",
       [](Call& call) { call.gradients.d_tables.push_back(call.gradients.d_tables[0]); }},
      {"d_tables names 'kinds', whose type is int; only reals have gradients",
       [](Call& call) { call.gradients.d_tables[0].table = call.kinds; }},
      {"the gradient of table 'bias' has extents [4, 39]; expected [4, 40]",
       [](Call& call) { call.gradients.d_tables[0].gradient.extents[1] = 39; }},
      {"the gradient of table 'bias' is null", [](Call& call) { call.gradients.d_tables[0].gradient.data = nullptr; }},
      {"the gradient of table 'bias' has extents [4, 40] and strides [39, 1]",
       [](Call& call) { call.gradients.d_tables[0].gradient.strides[0] = 39; }},
      {"the gradient of parameter 'gain' has rank 1; expected 0",
       [](Call& call) { call.gradients.d_parameters[0].gradient.rank = 1; }},
      {"the gradient of parameter 'gain' has dtype int64",
       [](Call& call) { call.gradients.d_parameters[0].gradient.dtype = DType::int64; }},
  };
  for (const Spoilt& spoilt : of_backward) expect_refused(spoilt, Pass::backward, false);
}

TEST(Refusals, OfCallsThatThePlanWasNotMadeFor) {
  const Spoilt all[] = {
      {"s_q is 30; the plan was made for at most 29", [](Call& call) { call.planned.s_q = 29; }},
      {"s_kv is 40; the plan was made for at most 39", [](Call& call) { call.planned.s_kv = 39; }},
      {"b is 2; the plan was made for at most 1", [](Call& call) { call.planned.b = 1; }},
      {"h_q is 4; the plan was made for 2", [](Call& call) { call.planned.h_q = 2; }},
      {"h_kv is 2; the plan was made for 4", [](Call& call) { call.planned.h_kv = 4; }},
      {"d_qk is 8; the plan was made for 16", [](Call& call) { call.planned.d_qk = 16; }},
      {"d_v is 4; the plan was made for 3", [](Call& call) { call.planned.d_v = 3; }},
      {"q has dtype float16; the plan was made for", [](Call& call) { call.inputs.q.dtype = DType::float16; }},
      {"v has dtype float16; the plan was made for", [](Call& call) { call.inputs.v.dtype = DType::float16; }},
  };
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float64}) {
    for (const Spoilt& spoilt : all) {
      SCOPED_TRACE(std::string(spoilt.message) + ", " + to_string(dtype));
      Call call(dtype);
      spoilt.change(call);
      const Plan plan = Attention(call.variant).plan(call.planned);
      tilewise::expect_refused([&] { plan.forward(call.inputs, call.outputs); }, {spoilt.message});
      tilewise::expect_refused([&] { plan.backward(call.inputs, call.given, call.gradients); }, {spoilt.message});
      call.expect_untouched();
    }
    Call call(dtype);
    const Plan plan = Attention(call.variant).plan(call.planned);
    call.outputs.o.dtype = DType::float16;
    tilewise::expect_refused([&] { plan.forward(call.inputs, call.outputs); }, {"o has dtype float16; the plan was"});
    call.gradients.d_k->dtype = DType::float16;
    tilewise::expect_refused([&] { plan.backward(call.inputs, call.given, call.gradients); },
                             {"d_k has dtype float16; the plan was"});
    call.expect_untouched();
  }
}

TEST(Refusals, OfGradientsThatWereNotPlanned) {
  Call call(DType::float32);
  call.planned.tables[0].extents = {4, 40};
  const Plan planned = Attention(call.variant).plan(call.planned);
  // A longer table than the plan knows of.
  std::vector<float> longer(4 * 41), d_longer(4 * 41, Call::kPoison);
  call.inputs.tables[0].data = ConstTensor(longer.data(), DType::float32, {4, 41});
  call.gradients.d_tables[0].gradient = Tensor(d_longer.data(), DType::float32, {4, 41});
  tilewise::expect_refused([&] { planned.backward(call.inputs, call.given, call.gradients); },
                           {"d_tables names 'bias', whose data has 164 elements; expected at most the 160"});
  call.expect_untouched();
  for (const float value : d_longer) ASSERT_EQ(value, Call::kPoison);
}

TEST(Refusals, OfSizesBeyondArithmetic) {
  // Extents whose product is 2^64, or 0 once it has overflowed; strides that reach beyond 2^63.
  const Spoilt all[] = {
      {"q has extents [4294967296, 4294967296, 30, 8]",
       [](Call& call) { call.inputs.q.extents[0] = call.inputs.q.extents[1] = std::int64_t{1} << 32; }},
      {"k has extents [2, 9223372036854775807, 40, 8]", [](Call& call) { call.inputs.k.extents[1] = kHuge; }},
      {"strides [-9223372036854775808, 240, 8, 1]",
       [](Call& call) { call.inputs.q.strides[0] = std::numeric_limits<std::int64_t>::min(); }},
      {"v has extents [2, 2, 40, 4] and strides [320, 9223372036854775807, 4, 1]",
       [](Call& call) { call.inputs.v.strides[1] = kHuge; }},
  };
  for (const Spoilt& spoilt : all) expect_refused(spoilt, Pass::both, false);
  expect_refused({"o has extents [2, 4, 30, 4] and strides [-9223372036854775808, 120, 4, 1]",
                  [](Call& call) { call.outputs.o.strides[0] = std::numeric_limits<std::int64_t>::min(); }},
                 Pass::forward, false);
  expect_refused(
      {"d_q has extents [2, 4, 30, 8] and strides [4611686018427387904, 4611686018427387904, 8, 1]",
       [](Call& call) { call.gradients.d_q->strides[0] = call.gradients.d_q->strides[1] = std::int64_t{1} << 62; }},
      Pass::backward, false);
}

TEST(Refusals, OfScalesThatFloat32CannotHold) {
  for (const DType dtype : {DType::float32, DType::bfloat16}) {
    Call call(dtype);
    const Plan plan = Attention(call.variant).plan(call.planned);
    call.inputs.scale = -1e39;
    tilewise::expect_refused([&] { plan.forward(call.inputs, call.outputs); }, {"scale is -1e+39"});
    tilewise::expect_refused([&] { plan.backward(call.inputs, call.given, call.gradients); }, {"scale is -1e+39"});
    call.expect_untouched();
  }
}

TEST(Refusals, OfPlansOfSizesThatNoMachineHas) {
  const Table bias("bias", DType::float32, 3);
  const Variant variant =
      score([&](Expr s, const At& at) { return s + bias.clamped(at.head, at.query_index, at.key_index); });
  const auto refuse = [&](const std::string& message, auto change) {
    for (const DType dtype : {DType::float32, DType::bfloat16}) {
      PlanShape shape{
          .dtype = dtype, .b = 2, .h_q = 4, .h_kv = 2, .d_qk = 8, .d_v = 4, .s_q = 30, .s_kv = 40, .backward = true};
      change(shape);
      tilewise::expect_refused([&] { Attention(variant).plan(shape); }, {message});
    }
  };
  refuse("b is 2147483648", [](PlanShape& shape) { shape.b = kMost + 1; });
  refuse("s_kv is 9223372036854775807", [](PlanShape& shape) { shape.s_kv = kHuge; });
  refuse("d_qk is 2147483647", [](PlanShape& shape) { shape.d_qk = kMost; });
  refuse("d_v is 2147483647", [](PlanShape& shape) { shape.d_v = kMost; });
  refuse("h_q is 2147483646", [](PlanShape& shape) { shape.h_q = kMost - 1, shape.s_q = kMost; });
  refuse("b is 2147483647 and h_q is 2147483646",
         [](PlanShape& shape) { shape.b = kMost, shape.h_q = shape.h_kv = kMost - 1; });
  refuse("tables: 'bias' has extents [2147483647, 2147483647, 2147483647]", [&](PlanShape& shape) {
    shape.tables = {{bias, {kMost, kMost, kMost}}};
  });
}

/// Says that it has no workers.
class Idle final : public Executor {
 public:
  int workers() const override { return 0; }
  void run(int, Job, void*) override {}
};

TEST(Refusals, OfAnExecutorWithoutWorkers) {
  Idle idle;
  tilewise::expect_refused([&] { Attention().plan({.s_q = 3, .s_kv = 3}, Device::cpu(idle)); },
                           {"the executor has 0 workers; expected at least 1"});
}

TEST(Refusals, LeaveAWorkspaceUsable) {
  Call call(DType::float32);
  const Plan plan = Attention(call.variant).plan(call.planned);
  Workspace workspace(plan.workspace_bytes());
  plan.forward(call.inputs, call.outputs, workspace);
  const Array expected = call.data.o;
  for (const double scale : {std::nan(""), 0.3}) {
    call.inputs.scale = scale;
    if (std::isnan(scale)) {
      EXPECT_THROW(plan.forward(call.inputs, call.outputs, workspace), Error);
      continue;
    }
    call.inputs.scale.reset();
    plan.forward(call.inputs, call.outputs, workspace);
    for (std::int64_t i = 0; i < expected.size(); ++i) ASSERT_EQ(call.data.o.get(i), expected.get(i));
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
