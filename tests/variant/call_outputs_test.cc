// Every output of a call that does not fit, or shares memory, is refused by name, with its value and what was expected;
// so is every binding.
#include <gtest/gtest.h>

#include <string>
#include <utility>

#include "tests/variant/call_arguments.h"

namespace tilewise::variant {
namespace {

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
