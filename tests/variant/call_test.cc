// Every argument of a call that does not fit is refused by name, with its value and what was expected.
#include "variant/call.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "tests/refusal.h"
#include "tests/variant/tensor_of_its_own.h"
#include "tilewise/error.h"

namespace tilewise::variant {
namespace {

Tensor tensor(std::initializer_list<std::int64_t> extents, DType dtype = DType::float64) {
  return tensor_of_its_own(extents, dtype);
}

/// A call that is accepted: b = 2, 4/2 heads, s_q = 3, s_kv = 5, d_qk = 8, d_v = 6. Tests change one thing.
struct Arguments {
  Variant variant;
  ForwardInputs inputs{.q = tensor({2, 4, 3, 8}), .k = tensor({2, 2, 5, 8}), .v = tensor({2, 2, 5, 6})};
  ForwardOutputs outputs{.o = tensor({2, 4, 3, 6}), .lse = tensor({2, 4, 3}, DType::float32)};
  BackwardInputs given{.o = tensor({2, 4, 3, 6}),
                       .lse = tensor({2, 4, 3}, DType::float32),
                       .d_o = tensor({2, 4, 3, 6}),
                       .d_lse = tensor({2, 4, 3}, DType::float32)};
  BackwardOutputs gradients{.d_q = tensor({2, 4, 3, 8}), .d_k = tensor({2, 2, 5, 8}), .d_v = tensor({2, 2, 5, 6})};

  Call forward() const { return check_forward(variant, inputs, outputs); }
  Call backward() const { return check_backward(variant, inputs, given, gradients); }
};

/// The same with packed storage: 3 + 2 query tokens, 5 + 4 key tokens.
Arguments packed_arguments() {
  Arguments a;
  a.inputs = {
      .q = tensor({4, 5, 8}),
      .k = tensor({2, 9, 8}),
      .v = tensor({2, 9, 6}),
      .sequences = {{.s_q = 3, .s_kv = 5}, {.s_q = 2, .s_kv = 4, .first_query_token = 3, .first_key_token = 5}}};
  a.outputs = {.o = tensor({4, 5, 6}), .lse = tensor({4, 5}, DType::float32)};
  a.given = {.d_o = tensor({4, 5, 6})};
  a.gradients = {.d_q = tensor({4, 5, 8}), .d_k = tensor({2, 9, 8}), .d_v = tensor({2, 9, 6})};
  return a;
}

using Change = std::function<void(Arguments&)>;

std::string forward_refusal(const Change& change, Arguments a = {}) {
  change(a);
  return refusal([&] { a.forward(); });
}
std::string backward_refusal(const Change& change, Arguments a = {}) {
  change(a);
  return refusal([&] { a.backward(); });
}

/// What forward and backward refuse alike.
void expect_refused(const Change& change, const std::string& message, const Arguments& a = {}) {
  EXPECT_EQ(forward_refusal(change, a), message);
  EXPECT_EQ(backward_refusal(change, a), message);
}

TEST(Call, PaddedTensorsNeedNoSequences) {
  const Call call = Arguments().forward();
  EXPECT_EQ(call.problem.h_q, 4);
  EXPECT_EQ(call.problem.h_kv, 2);
  ASSERT_EQ(call.problem.b(), 2);
  EXPECT_EQ(call.problem.sequences[1].s_q, 3);
  EXPECT_EQ(call.problem.sequences[1].s_kv, 5);
  EXPECT_EQ(call.problem.sequences[1].first_key_token, 5);
  EXPECT_EQ(call.d_qk, 8);
  EXPECT_EQ(call.d_v, 6);
  EXPECT_EQ(call.scale, 1 / std::sqrt(8.0));
  EXPECT_FALSE(call.queries_packed || call.keys_packed || call.has_dropout());
  EXPECT_NO_THROW(Arguments().backward());
}

TEST(Call, PackedAndMixedStorage) {
  Arguments a = packed_arguments();
  EXPECT_TRUE(a.forward().queries_packed && a.backward().keys_packed);
  // Packed queries, padded keys of up to 7.
  a.inputs.k = tensor({2, 2, 7, 8}), a.inputs.v = tensor({2, 2, 7, 6});
  a.gradients = {};
  EXPECT_TRUE(a.forward().queries_packed);
  EXPECT_FALSE(a.backward().keys_packed);
  // No sequences and no tokens.
  Arguments none = packed_arguments();
  none.inputs = {.q = tensor({4, 0, 8}), .k = tensor({2, 0, 8}), .v = tensor({2, 0, 6})};
  none.outputs = {.o = tensor({4, 0, 6})};
  EXPECT_EQ(none.forward().problem.b(), 0);
}

TEST(Call, WrongInputsAreRefused) {
  expect_refused(
      [](Arguments& a) {
        a.inputs.q = tensor({3, 8});
      },
      "q has rank 2; expected 4, [b, heads, length, d], or 3 for packed storage, [heads, tokens, d]");
  expect_refused([](Arguments& a) { a.inputs.k = ConstTensor(); },
                 "k has rank 0; expected 4, [b, heads, length, d], or 3 for packed storage, [heads, tokens, d]");
  expect_refused([](Arguments& a) { a.inputs.q.dtype = DType::int32; },
                 "q has dtype int32; expected float64, float32, float16 or bfloat16");
  expect_refused([](Arguments& a) { a.inputs.v.data = nullptr; },
                 "v is null; expected memory for its extents [2, 2, 5, 6]");
  expect_refused([](Arguments& a) { std::swap(a.inputs.k.strides[2], a.inputs.k.strides[3]); },
                 "k has strides [80, 40, 1, 8]; expected 1 along the last axis: copy it, or view it with that axis "
                 "contiguous");
  expect_refused([](Arguments& a) { a.inputs.q.extents[1] = -4; },
                 "q has extents [2, -4, 3, 8]; expected none below 0");
  expect_refused(
      [](Arguments& a) {
        a.inputs.v = tensor({2, 2, 5, 0});
      },
      "v has a last axis of 0; expected at least 1");
}

TEST(Call, ShapesThatDoNotFitTogetherAreRefused) {
  expect_refused(
      [](Arguments& a) {
        a.inputs.k = tensor({2, 2, 5, 7});
      },
      "q has extents [2, 4, 3, 8] and k has [2, 2, 5, 7]; expected the same last axis, d_qk");
  expect_refused(
      [](Arguments& a) {
        a.inputs.v = tensor({2, 2, 4, 6});
      },
      "v has extents [2, 2, 4, 6]; expected [2, 2, 5, 6], as k but for the last axis, d_v");
  expect_refused(
      [](Arguments& a) {
        a.inputs.v = tensor({2, 5, 6});
      },
      "v has rank 3; expected 4: [2, 2, 5, 6], as k but for the last axis, d_v");
  expect_refused(
      [](Arguments& a) {
        a.inputs.k = tensor({3, 2, 5, 8}), a.inputs.v = tensor({3, 2, 5, 6});
      },
      "q has extents [2, 4, 3, 8] and k has [3, 2, 5, 8]; expected the same first axis, b");
  expect_refused(
      [](Arguments& a) {
        a.inputs.k = tensor({2, 3, 5, 8}), a.inputs.v = tensor({2, 3, 5, 6});
      },
      "h_q is 4, expected a positive multiple of h_kv, which is 3");
  expect_refused(
      [](Arguments& a) {
        a.inputs.k = tensor({2, 0, 5, 8}), a.inputs.v = tensor({2, 0, 5, 6});
      },
      "h_kv is 0, expected 1 to 2147483647");
}

TEST(Call, WrongSequencesAreRefused) {
  expect_refused([](Arguments& a) { a.inputs.sequences = {{.s_q = 3, .s_kv = 5}}; },
                 "sequences has 1 elements; expected 2, b of the padded tensors");
  expect_refused(
      [](Arguments& a) {
        a.inputs.sequences = {{.s_q = 3, .s_kv = 5}, {.s_q = 4, .s_kv = 5}};
      },
      "sequence 1: s_q is 4; expected at most the 3 rows that q holds");
  expect_refused(
      [](Arguments& a) {
        a.inputs.sequences = {{.s_q = 3, .s_kv = 6}, {.s_q = 3, .s_kv = 5}};
      },
      "sequence 0: s_kv is 6; expected at most the 5 rows that k holds");
  expect_refused(
      [](Arguments& a) {
        a.inputs.sequences = {{.s_q = -1, .s_kv = 5}, {.s_q = 3, .s_kv = 5}};
      },
      "sequence 0: s_q is -1, expected 0 to 2147483647");
  expect_refused(
      [](Arguments& a) {
        a.inputs.sequences = {{}, {.s_q = 3, .s_kv = 5, .key_start = 6}};
      },
      "sequence 1: key_start is 6, expected 0 to s_kv, which is 5");
  const Arguments packed = packed_arguments();
  expect_refused([](Arguments& a) { a.inputs.sequences.clear(); },
                 "sequences is empty; packed storage expects one for each sequence in it", packed);
  expect_refused([](Arguments& a) { a.inputs.sequences[1].first_query_token = 4; },
                 "sequence 1: first_query_token is 4 and s_q is 2; expected them to end within the 5 tokens of q",
                 packed);
  expect_refused([](Arguments& a) { a.inputs.sequences[0].s_kv = 10; },
                 "sequence 0: first_key_token is 0 and s_kv is 10; expected them to end within the 9 tokens of k",
                 packed);
  expect_refused([](Arguments& a) { a.inputs.sequences[1].first_query_token = 2; },
                 "sequences 0 and 1 share query tokens from 2 on; expected tokens of their own, as both write them",
                 packed);
}

TEST(Call, SharedKeysHaveNoGradients) {
  const Change share = [](Arguments& a) { a.inputs.sequences[1].first_key_token = 1; };
  Arguments a = packed_arguments();
  EXPECT_EQ(forward_refusal(share, a), "");
  EXPECT_EQ(backward_refusal(share, a),
            "sequences 0 and 1 share key tokens from 1 on; expected tokens of their own, as both write them");
  a.gradients.d_k = a.gradients.d_v = std::nullopt;
  EXPECT_EQ(backward_refusal(share, a), "");
}

TEST(Call, WrongScalesAreRefused) {
  for (double scale : {kInfinity, -kInfinity}) {
    EXPECT_NE(forward_refusal([&](Arguments& a) { a.inputs.scale = scale; }).find("expected a finite number"),
              std::string::npos);
  }
  expect_refused([](Arguments& a) { a.inputs.scale = std::numeric_limits<double>::quiet_NaN(); },
                 "scale is nan; expected a finite number");
  for (double scale : {0.0, -2.0}) {
    EXPECT_EQ(forward_refusal([&](Arguments& a) { a.inputs.scale = scale; }), "");
  }
}

TEST(Call, WrongDropoutIsRefused) {
  expect_refused([](Arguments& a) { a.inputs.dropout_probability = 0.5; },
                 "dropout_probability is 0.5, but the variant has no dropout; compose it with dropout(...)");
  Arguments with_dropout;
  with_dropout.variant = dropout(0.25);
  EXPECT_EQ(with_dropout.forward().dropout.keep_below, 192u);
  for (double probability : {-0.1, 1.5, std::numeric_limits<double>::quiet_NaN()}) {
    EXPECT_NE(forward_refusal([&](Arguments& a) { a.inputs.dropout_probability = probability; }, with_dropout), "");
  }
  expect_refused([](Arguments& a) { a.inputs.dropout_probability = 1.5; },
                 "dropout_probability is 1.5; expected 0 to 1", with_dropout);
  expect_refused([](Arguments& a) { a.inputs.seed_offset = std::uint64_t{1} << 32; },
                 "seed_offset is 4294967296; expected 0 to 4294967295: take a new seed after that", with_dropout);
  EXPECT_EQ(forward_refusal([](Arguments& a) { a.inputs.seed_offset = 0xFFFFFFFF; }, with_dropout), "");
  // 2^31 query heads of three sequences without tokens.
  Arguments wide = with_dropout;
  const std::int64_t heads = 0x7FFFFFFF;
  wide.inputs = {.q = tensor({3, heads, 0, 1}), .k = tensor({3, 1, 0, 1}), .v = tensor({3, 1, 0, 1})};
  wide.outputs = {.o = tensor({3, heads, 0, 1})};
  EXPECT_EQ(forward_refusal([](Arguments&) {}, wide),
            "b is 3 and h_q is 2147483647; dropout expects b * h_q of at most 2^32");
}

TEST(Call, WrongOutputsAreRefused) {
  EXPECT_EQ(forward_refusal([](Arguments& a) {
              a.outputs.o = tensor({2, 4, 3, 8});
            }),
            "o has extents [2, 4, 3, 8]; expected [2, 4, 3, 6], as q but for the last axis, d_v");
  EXPECT_EQ(forward_refusal([](Arguments& a) { a.outputs.o.dtype = DType::uint8; }),
            "o has dtype uint8; expected float64, float32, float16 or bfloat16");
  EXPECT_EQ(forward_refusal([](Arguments& a) { a.outputs.o.data = nullptr; }),
            "o is null; expected memory for its extents [2, 4, 3, 6]");
  EXPECT_EQ(forward_refusal([](Arguments& a) { a.outputs.o.strides[0] = 0; }),
            "o has extents [2, 4, 3, 6] and strides [0, 18, 6, 1]; expected an output whose elements share no memory");
  EXPECT_EQ(forward_refusal([](Arguments& a) {
              a.outputs.lse = tensor({2, 4});
            }),
            "lse has rank 2; expected 3: [2, 4, 3], as q without the last axis");
  EXPECT_EQ(forward_refusal([](Arguments& a) { a.outputs.lse->dtype = DType::bfloat16; }),
            "lse has dtype bfloat16; expected float32 or float64");
  EXPECT_EQ(forward_refusal([](Arguments& a) { a.outputs.lse = std::nullopt; }), "");
}

TEST(Call, WrongArgumentsOfBackwardAreRefused) {
  EXPECT_EQ(backward_refusal([](Arguments& a) { a.given.d_o = ConstTensor(); }),
            "d_o has rank 0; expected 4: [2, 4, 3, 6], as q but for the last axis, d_v");
  EXPECT_EQ(backward_refusal([](Arguments& a) {
              a.given.o = tensor({2, 4, 3, 5});
            }),
            "o has extents [2, 4, 3, 5]; expected [2, 4, 3, 6], as q but for the last axis, d_v");
  EXPECT_EQ(backward_refusal([](Arguments& a) {
              a.given.lse = tensor({2, 4, 2});
            }),
            "lse has extents [2, 4, 2]; expected [2, 4, 3], as q without the last axis");
  EXPECT_EQ(backward_refusal([](Arguments& a) { a.given.d_lse->dtype = DType::float16; }),
            "d_lse has dtype float16; expected float32 or float64");
  EXPECT_EQ(backward_refusal([](Arguments& a) { a.given.d_lse->data = nullptr; }),
            "d_lse is null; expected memory for its extents [2, 4, 3]");
  EXPECT_EQ(backward_refusal([](Arguments& a) {
              a.gradients.d_q = tensor({2, 4, 3, 6});
            }),
            "d_q has extents [2, 4, 3, 6]; expected [2, 4, 3, 8], as q");
  EXPECT_EQ(backward_refusal([](Arguments& a) {
              a.gradients.d_k = tensor({2, 4, 5, 8});
            }),
            "d_k has extents [2, 4, 5, 8]; expected [2, 2, 5, 8], as k");
  EXPECT_EQ(
      backward_refusal([](Arguments& a) { a.gradients.d_v->strides[1] = 6; }),
      "d_v has extents [2, 2, 5, 6] and strides [60, 6, 6, 1]; expected an output whose elements share no memory");
  EXPECT_EQ(backward_refusal([](Arguments& a) { a.given.o = a.given.lse = a.given.d_lse = std::nullopt; }), "");
}

/// Puts one tensor where the other one's last byte is.
template <class Moved, class Other>
void put_at_the_end(Moved& moved, const Other& other) {
  const auto* first = static_cast<const std::byte*>(other.data);
  moved.data = const_cast<std::byte*>(first + other.elements() * size_of(other.dtype) - 1);
}

TEST(Call, OutputsThatShareMemoryAreRefused) {
  const auto expected = [](const std::string& output, const std::string& other) {
    return output + " shares memory with " + other +
           "; expected memory of its own, for it is written while others are in use";
  };
  const Table bias("bias", DType::float64, 1);
  const Parameter gain("gain");
  Arguments a;
  a.variant = score([&](Expr s, const At& at) { return s * gain + bias.clamped(at.key); });
  a.inputs.tables = {{bias, tensor({7})}};
  a.inputs.parameters = {{gain, 1}};
  a.outputs.max_score = tensor({4}, DType::float32);
  a.gradients.d_tables = {{bias, tensor({7})}};
  a.gradients.d_parameters = {{gain, tensor({})}};
  ASSERT_EQ(forward_refusal([](Arguments&) {}, a), "");
  ASSERT_EQ(backward_refusal([](Arguments&) {}, a), "");

  // Not by a structured binding, which Clang 14 lets no lambda capture.
  for (const auto& of : {std::pair{"q", &ForwardInputs::q}, {"k", &ForwardInputs::k}, {"v", &ForwardInputs::v}}) {
    const auto input = of.second;
    const auto forward = [&](Arguments& c) { put_at_the_end(c.outputs.o, c.inputs.*input); };
    EXPECT_EQ(forward_refusal(forward, a), expected("o", of.first));
    const auto backward = [&](Arguments& c) { put_at_the_end(*c.gradients.d_v, c.inputs.*input); };
    EXPECT_EQ(backward_refusal(backward, a), expected("d_v", of.first));
  }
  EXPECT_EQ(forward_refusal([](Arguments& c) { put_at_the_end(*c.outputs.lse, c.outputs.o); }, a),
            expected("o", "lse"));
  EXPECT_EQ(forward_refusal([](Arguments& c) { put_at_the_end(*c.outputs.max_score, c.inputs.tables[0].data); }, a),
            expected("max_score", "table 'bias'"));
  EXPECT_EQ(backward_refusal([](Arguments& c) { put_at_the_end(*c.gradients.d_q, c.given.d_o); }, a),
            expected("d_q", "d_o"));
  EXPECT_EQ(backward_refusal([](Arguments& c) { put_at_the_end(*c.gradients.d_q, *c.given.o); }, a),
            expected("d_q", "o"));
  EXPECT_EQ(backward_refusal([](Arguments& c) { put_at_the_end(*c.gradients.d_k, *c.given.lse); }, a),
            expected("d_k", "lse"));
  EXPECT_EQ(backward_refusal([](Arguments& c) { put_at_the_end(*c.gradients.d_k, *c.given.d_lse); }, a),
            expected("d_k", "d_lse"));
  EXPECT_EQ(backward_refusal([](Arguments& c) { put_at_the_end(*c.gradients.d_k, *c.gradients.d_q); }, a),
            expected("d_q", "d_k"));
  EXPECT_EQ(backward_refusal([](Arguments& c) { put_at_the_end(c.gradients.d_tables[0].gradient, c.inputs.k); }, a),
            expected("the gradient of table 'bias'", "k"));
  const auto among_gradients = [](Arguments& c) {
    put_at_the_end(c.gradients.d_parameters[0].gradient, c.gradients.d_tables[0].gradient);
  };
  EXPECT_EQ(backward_refusal(among_gradients, a),
            expected("the gradient of table 'bias'", "the gradient of parameter 'gain'"));
}

TEST(Call, InputsMayShareMemoryAndOutputsABuffer) {
  const Change slices = [](Arguments& a) {
    a.inputs.v = a.inputs.k;  // as where values are a part of keys' rows
    a.inputs.v.extents[3] = 6;
    // d_q, d_k and d_v side by side for each token: [b, tokens, 8 of 4 heads, 8 of 2, 6 of 2].
    const Tensor buffer = tensor({2, 5, 60});
    std::int64_t first = 0;
    for (Tensor* gradient : {&*a.gradients.d_q, &*a.gradients.d_k, &*a.gradients.d_v}) {
      gradient->data = static_cast<double*>(buffer.data) + first;
      gradient->strides = {300, gradient->extents[3], 60, 1};
      first += gradient->extents[1] * gradient->extents[3];
    }
  };
  EXPECT_EQ(forward_refusal(slices), "");
  EXPECT_EQ(backward_refusal(slices), "");
}

TEST(Call, WrongBindingsAreRefused) {
  Table bias("bias", DType::float64, 1), other("bias", DType::float64, 1), list("list", DType::int32, 1);
  Parameter gain("gain");
  const Parameter period = Parameter::integer("period");
  const Table frozen = Table::frozen("frozen", tensor({3}));
  Arguments a;
  a.variant = score([&](Expr s, const At& at) {
    return s * gain + bias.clamped(at.key) + frozen.clamped(at.key) + to_real(list.clamped(at.key) % 2 + period);
  });
  EXPECT_NE(forward_refusal([](Arguments&) {}, a).find("table 'bias' is not bound"), std::string::npos);
  a.inputs.tables = {{bias, tensor({7})}, {list, tensor({7}, DType::int32)}};
  EXPECT_NE(backward_refusal([](Arguments&) {}, a).find("parameter 'gain' is not bound"), std::string::npos);
  a.inputs.parameters = {{gain, 1.0}, {period, 2}};
  EXPECT_EQ(forward_refusal([](Arguments&) {}, a), "");

  double number = 0;
  const Tensor single(&number, DType::float64, {});
  a.gradients.d_tables = {{bias, tensor({7}, DType::float32)}};
  a.gradients.d_parameters = {{gain, single}};
  EXPECT_EQ(backward_refusal([](Arguments&) {}, a), "");
  EXPECT_EQ(backward_refusal(
                [&](Arguments& c) {
                  c.gradients.d_tables.push_back({other, tensor({7})});
                },
                a),
            "d_tables names 'bias', which the variant does not read; expected only its own (handles are compared)");
  EXPECT_EQ(backward_refusal(
                [&](Arguments& c) {
                  c.gradients.d_tables.push_back({bias, tensor({7})});
                },
                a),
            "d_tables names 'bias' more than once; expected once");
  EXPECT_EQ(backward_refusal(
                [&](Arguments& c) {
                  c.gradients.d_tables = {{list, tensor({7})}};
                },
                a),
            "d_tables names 'list', whose type is int; only reals have gradients");
  EXPECT_EQ(backward_refusal(
                [&](Arguments& c) {
                  c.gradients.d_tables = {{frozen, tensor({3})}};
                },
                a),
            "d_tables names 'frozen', which is frozen; bind it to have its gradient");
  EXPECT_EQ(backward_refusal(
                [&](Arguments& c) {
                  c.gradients.d_tables = {{bias, tensor({6})}};
                },
                a),
            "the gradient of table 'bias' has extents [6]; expected [7], as the bound data");
  EXPECT_EQ(backward_refusal(
                [&](Arguments& c) {
                  c.gradients.d_tables = {{bias, tensor({7}, DType::int32)}};
                },
                a),
            "the gradient of table 'bias' has dtype int32; expected float64, float32, float16 or bfloat16");
  EXPECT_EQ(backward_refusal(
                [&](Arguments& c) {
                  c.gradients.d_parameters = {{gain, tensor({1})}};
                },
                a),
            "the gradient of parameter 'gain' has rank 1; expected 0: [], a single number");
  EXPECT_EQ(backward_refusal(
                [&](Arguments& c) {
                  c.gradients.d_parameters = {{period, single}};
                },
                a),
            "d_parameters names 'period', whose type is int; only reals have gradients");
  EXPECT_EQ(backward_refusal(
                [&](Arguments& c) {
                  c.gradients.d_parameters.push_back({gain, single});
                },
                a),
            "d_parameters names 'gain' more than once; expected once");
}

}  // namespace
}  // namespace tilewise::variant
