// Bad arguments of a call: each kind is a typed error that names the argument, its value and what was expected, before
// anything is written.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/attention/full_call.h"

namespace tilewise::attention::testing {
namespace {

TEST(Refusals, OfNothingWhereNothingIsSpoilt) {
  for (const bool packed : {false, true}) {
    FullCall call(DType::float32, packed);
    const Plan plan = Attention(call.variant).plan(call.planned);
    plan.forward(call.inputs, call.outputs);
    plan.backward(call.inputs, call.given, call.gradients);
  }
}

TEST(Refusals, OfInputsThatDoNotFitTogether) {
  const Spoilt all[] = {
      {"q has rank 2; expected 4", [](FullCall& call) { call.inputs.q.rank = 2; }},
      {"q has rank -1; expected 4", [](FullCall& call) { call.inputs.q.rank = -1; }},
      {"k has rank 9; expected 4", [](FullCall& call) { call.inputs.k.rank = 9; }},
      {"q has extents [2, 4, -30, 8]; expected none below 0", [](FullCall& call) { call.inputs.q.extents[2] = -30; }},
      {"the same last axis, d_qk", [](FullCall& call) { call.inputs.k.extents[3] = 7; }},
      {"the same first axis, b", [](FullCall& call) { call.inputs.q.extents[0] = 1; }},
      {"v has extents [2, 2, 39, 4]; expected [2, 2, 40, 4]", [](FullCall& call) { call.inputs.v.extents[2] = 39; }},
      {"h_q is 4, expected a positive multiple of h_kv, which is 3",
       [](FullCall& call) { call.inputs.k.extents[1] = call.inputs.v.extents[1] = 3; }},
      {"h_kv is 0, expected 1 to 2147483647",
       [](FullCall& call) { call.inputs.k.extents[1] = call.inputs.v.extents[1] = 0; }},
      {"q is null; expected memory", [](FullCall& call) { call.inputs.q.data = nullptr; }},
      {"v is null; expected memory", [](FullCall& call) { call.inputs.v.data = nullptr; }},
      {"q has dtype int32", [](FullCall& call) { call.inputs.q.dtype = DType::int32; }},
      {"v has dtype uint8", [](FullCall& call) { call.inputs.v.dtype = DType::uint8; }},
      {"k has strides [640, 320, 8, 2]; expected 1 along the last axis",
       [](FullCall& call) { call.inputs.k.strides[3] = 2; }},
      {"scale is nan; expected a finite number", [](FullCall& call) { call.inputs.scale = std::nan(""); }},
      {"scale is -inf; expected a finite number", [](FullCall& call) { call.inputs.scale = -kInfinity; }},
      {"sequences has 1 elements; expected 2", [](FullCall& call) { call.inputs.sequences = {{.s_q = 3, .s_kv = 3}}; }},
      {"sequence 1: s_q is 31; expected at most the 30 rows that q holds",
       [](FullCall& call) {
         call.inputs.sequences = {{.s_q = 3, .s_kv = 3}, {.s_q = 31, .s_kv = 3}};
       }},
      {"sequence 0: s_kv is -1, expected 0",
       [](FullCall& call) {
         call.inputs.sequences = {{.s_q = 3, .s_kv = -1}, {.s_q = 3, .s_kv = 3}};
       }},
      {"sequence 1: key_start is 5, expected 0 to s_kv, which is 4",
       [](FullCall& call) {
         call.inputs.sequences = {{.s_q = 3, .s_kv = 3}, {.s_q = 3, .s_kv = 4, .key_start = 5}};
       }},
      {"the queries' positions (query_offset)",
       [](FullCall& call) {
         call.inputs.sequences = {{.s_q = 3, .s_kv = 3, .query_offset = kMost - 1}, {.s_q = 3, .s_kv = 4}};
       }},
      {"the keys' positions (key_offset)",
       [](FullCall& call) {
         call.inputs.sequences = {{.s_q = 3, .s_kv = 3, .key_offset = std::numeric_limits<std::int64_t>::min()},
                                  {.s_q = 3, .s_kv = 4}};
       }},
      {"dropout_probability is 1.5; expected 0 to 1", [](FullCall& call) { call.inputs.dropout_probability = 1.5; }},
      {"dropout_probability is nan; expected 0 to 1",
       [](FullCall& call) { call.inputs.dropout_probability = std::nan(""); }},
      {"seed_offset is 4294967296", [](FullCall& call) { call.inputs.seed_offset = std::uint64_t{1} << 32; }},
      {"device_sequences is given to a plan for the processor",
       [](FullCall& call) { call.inputs.device_sequences = DeviceSequences{.b = 2}; }},
      {"device_seed is given to a plan for the processor",
       [](FullCall& call) { call.inputs.device_seed = ConstTensor(&call.d_gain, DType::int64, {2}); }},
  };
  for (const Spoilt& spoilt : all) expect_refused(spoilt, Pass::both, false);
}

TEST(Refusals, OfPackedSequencesOutOfOrder) {
  const Spoilt all[] = {
      {"share query tokens", [](FullCall& call) { call.inputs.sequences[1].first_query_token = 29; }},
      {"sequence 1: first_query_token is 31 and s_q is 30; expected them to end within the 60 tokens of q",
       [](FullCall& call) { call.inputs.sequences[1].first_query_token = 31; }},
      {"sequence 0: the keys' tokens (first_key_token) run from -1",
       [](FullCall& call) { call.inputs.sequences[0].first_key_token = -1; }},
      {"first_key_token is 41", [](FullCall& call) { call.inputs.sequences[1].first_key_token = 41; }},
      {"(first_query_token) run from 9223372036854775807",
       [](FullCall& call) { call.inputs.sequences[1].first_query_token = kHuge; }},
      {"sequences is empty; packed storage expects one for each sequence",
       [](FullCall& call) { call.inputs.sequences.clear(); }},
  };
  for (const Spoilt& spoilt : all) expect_refused(spoilt, Pass::both, true);
  // The backward pass writes to the keys' rows, too.
  expect_refused({"share key tokens", [](FullCall& call) { call.inputs.sequences[1].first_key_token = 39; }},
                 Pass::backward, true);
}

TEST(Refusals, OfBindingsThatAreNotTheVariants) {
  const Table stranger("stranger", DType::float32, 1);
  const Spoilt all[] = {
      {"table 'bias' is not bound; expected one binding",
       [](FullCall& call) { call.inputs.tables.erase(call.inputs.tables.begin()); }},
      {"table 'bias' is bound 2 times", [](FullCall& call) { call.inputs.tables.push_back(call.inputs.tables[0]); }},
      {"table 'stranger' is bound, but the variant does not read it",
       [&](FullCall& call) {
         call.inputs.tables.push_back({stranger, ConstTensor(call.biases.data(), DType::float32, {3})});
       }},
      {"table 'bias': the data has rank 1, expected 2", [](FullCall& call) { call.inputs.tables[0].data.rank = 1; }},
      {"table 'bias': the data is float16, expected float32",
       [](FullCall& call) { call.inputs.tables[0].data.dtype = DType::float16; }},
      {"table 'bias': axis 0 has extent -4", [](FullCall& call) { call.inputs.tables[0].data.extents[0] = -4; }},
      {"table 'bias': axis 1 has extent 2147483648",
       [](FullCall& call) { call.inputs.tables[0].data.extents[1] = kMost + 1; }},
      {"table 'bias': the data is null", [](FullCall& call) { call.inputs.tables[0].data.data = nullptr; }},
      {"table 'kinds'", [](FullCall& call) { call.kinds_data[7] = 4; }},
      {"parameter 'gain' is not bound", [](FullCall& call) { call.inputs.parameters.clear(); }},
      {"parameter 'gain' is 3, expected 0.5 to 2", [](FullCall& call) { call.inputs.parameters[0].value = 3; }},
      {"parameter 'gain' is nan", [](FullCall& call) { call.inputs.parameters[0].value = std::nan(""); }},
  };
  for (const Spoilt& spoilt : all) expect_refused(spoilt, Pass::both, false);
  // Standard attention finds out at the entry.
  expect_refused({"table 'bias'", [](FullCall& call) { call.inputs.tables[0].data.extents[1] = 39; }}, Pass::forward,
                 false);
}

TEST(Refusals, OfOutputs) {
  const Spoilt of_forward[] = {
      {"o has rank 3; expected 4", [](FullCall& call) { call.outputs.o.rank = 3; }},
      {"o has extents [2, 4, 30, 5]; expected [2, 4, 30, 4]", [](FullCall& call) { call.outputs.o.extents[3] = 5; }},
      {"o is null", [](FullCall& call) { call.outputs.o.data = nullptr; }},
      {"o has dtype bool", [](FullCall& call) { call.outputs.o.dtype = DType::boolean; }},
      {"o has extents [2, 4, 30, 4] and strides [480, 0, 4, 1]; expected an output whose elements share no memory",
       [](FullCall& call) { call.outputs.o.strides[1] = 0; }},
      {"o has extents [2, 4, 30, 4] and strides [480, 120, -3, 1]; expected an output whose elements share no memory",
       [](FullCall& call) { call.outputs.o.strides[2] = -3; }},
      {"lse has dtype float16; expected float32 or float64",
       [](FullCall& call) { call.outputs.lse->dtype = DType::float16; }},
      {"lse has extents [2, 4, 29]; expected [2, 4, 30]", [](FullCall& call) { call.outputs.lse->extents[2] = 29; }},
      {"lse is null", [](FullCall& call) { call.outputs.lse->data = nullptr; }},
      {"lse has extents [2, 4, 30] and strides [120, 29, 1]",
       [](FullCall& call) { call.outputs.lse->strides[1] = 29; }},
      {"o shares memory with lse", [](FullCall& call) { call.outputs.lse->data = call.outputs.o.data; }},
      {"lse shares memory with table 'bias'", [](FullCall& call) { call.outputs.lse->data = call.biases.data(); }},
      {"o shares memory with v", [](FullCall& call) { call.inputs.v.data = call.outputs.o.data; }},
  };
  for (const Spoilt& spoilt : of_forward) expect_refused(spoilt, Pass::forward, false);
  const Table stranger("stranger", DType::float32, 1);
  const Spoilt of_backward[] = {
      {"d_q has extents [2, 4, 30, 9]; expected [2, 4, 30, 8], as q",
       [](FullCall& call) { call.gradients.d_q->extents[3] = 9; }},
      {"d_k is null", [](FullCall& call) { call.gradients.d_k->data = nullptr; }},
      {"d_v has extents [2, 2, 40, 4] and strides [0, 160, 4, 1]; expected an output whose elements share no memory",
       [](FullCall& call) { call.gradients.d_v->strides[0] = 0; }},
      {"d_k shares memory with d_v", [](FullCall& call) { call.gradients.d_v->data = call.gradients.d_k->data; }},
      {"d_q shares memory with q", [](FullCall& call) { call.inputs.q.data = call.gradients.d_q->data; }},
      {"d_v shares memory with o", [](FullCall& call) { call.given.o->data = call.gradients.d_v->data; }},
      {"the gradient of table 'bias' shares memory with table 'bias'",
       [](FullCall& call) { call.inputs.tables[0].data.data = call.d_biases.data(); }},
      {"d_o has extents [2, 4, 30, 3]", [](FullCall& call) { call.given.d_o.extents[3] = 3; }},
      {"d_o is null", [](FullCall& call) { call.given.d_o.data = nullptr; }},
      {"d_o has dtype int8", [](FullCall& call) { call.given.d_o.dtype = DType::int8; }},
      {"d_lse has extents [2, 3, 30]", [](FullCall& call) { call.given.d_lse->extents[1] = 3; }},
      {"d_lse has dtype bfloat16", [](FullCall& call) { call.given.d_lse->dtype = DType::bfloat16; }},
      {"o has extents [2, 4, 30, 3]", [](FullCall& call) { call.given.o->extents[3] = 3; }},
      {"lse has rank 4; expected 3", [](FullCall& call) { call.given.lse->rank = 4; }},
      {"d_tables names 'stranger', which the variant does not read",
       [&](FullCall& call) { call.gradients.d_tables[0].table = stranger; }},
      {"d_tables names 'bias' more than once",
       [](FullCall& call) { call.gradients.d_tables.push_back(call.gradients.d_tables[0]); }},
      {"d_tables names 'kinds', whose type is int; only reals have gradients",
       [](FullCall& call) { call.gradients.d_tables[0].table = call.kinds; }},
      {"the gradient of table 'bias' has extents [4, 39]; expected [4, 40]",
       [](FullCall& call) { call.gradients.d_tables[0].gradient.extents[1] = 39; }},
      {"the gradient of table 'bias' is null",
       [](FullCall& call) { call.gradients.d_tables[0].gradient.data = nullptr; }},
      {"the gradient of table 'bias' has extents [4, 40] and strides [39, 1]",
       [](FullCall& call) { call.gradients.d_tables[0].gradient.strides[0] = 39; }},
      {"the gradient of parameter 'gain' has rank 1; expected 0",
       [](FullCall& call) { call.gradients.d_parameters[0].gradient.rank = 1; }},
      {"the gradient of parameter 'gain' has dtype int64",
       [](FullCall& call) { call.gradients.d_parameters[0].gradient.dtype = DType::int64; }},
  };
  for (const Spoilt& spoilt : of_backward) expect_refused(spoilt, Pass::backward, false);
}

TEST(Refusals, OfSizesBeyondArithmetic) {
  // Extents whose product is 2^64, or 0 once it has overflowed; strides that reach beyond 2^63.
  const Spoilt all[] = {
      {"q has extents [4294967296, 4294967296, 30, 8]",
       [](FullCall& call) { call.inputs.q.extents[0] = call.inputs.q.extents[1] = std::int64_t{1} << 32; }},
      {"k has extents [2, 9223372036854775807, 40, 8]", [](FullCall& call) { call.inputs.k.extents[1] = kHuge; }},
      {"strides [-9223372036854775808, 240, 8, 1]",
       [](FullCall& call) { call.inputs.q.strides[0] = std::numeric_limits<std::int64_t>::min(); }},
      {"v has extents [2, 2, 40, 4] and strides [320, 9223372036854775807, 4, 1]",
       [](FullCall& call) { call.inputs.v.strides[1] = kHuge; }},
  };
  for (const Spoilt& spoilt : all) expect_refused(spoilt, Pass::both, false);
  expect_refused({"o has extents [2, 4, 30, 4] and strides [-9223372036854775808, 120, 4, 1]",
                  [](FullCall& call) { call.outputs.o.strides[0] = std::numeric_limits<std::int64_t>::min(); }},
                 Pass::forward, false);
  expect_refused(
      {"d_q has extents [2, 4, 30, 8] and strides [4611686018427387904, 4611686018427387904, 8, 1]",
       [](FullCall& call) { call.gradients.d_q->strides[0] = call.gradients.d_q->strides[1] = std::int64_t{1} << 62; }},
      Pass::backward, false);
}

}  // namespace
}  // namespace tilewise::attention::testing
