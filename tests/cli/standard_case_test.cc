// Standard attention by BLAS, which the command line measures Tilewise beside, computes attention.
#include "apps/cli/standard_case.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tilewise/reference.h"

namespace tilewise::cli {
namespace {

double largest_difference(const std::vector<double>& expected, const float* computed) {
  double largest = 0;
  for (std::size_t i = 0; i < expected.size(); ++i)
    largest = std::max(largest, std::abs(expected[i] - static_cast<double>(computed[i])));
  return largest;
}

TEST(StandardCase, ComputesAttentionAndItsGradients) {
  for (const std::int64_t s : {1, 5, 128, 300}) {
    constexpr std::int64_t kH = 2, kD = 24;
    const std::unique_ptr<Executor> executor = make_thread_pool(2);
    StandardCase computed(kH, s, kD, *executor);
    computed.forward();
    computed.backward();

    const auto view = [&](const float* data) { return ConstTensor(data, DType::float32, {1, kH, s, kD}); };
    std::vector<double> o(static_cast<std::size_t>(kH * s * kD)), d_q(o), d_k(o), d_v(o);
    const auto output = [&](std::vector<double>& data) { return Tensor(data.data(), DType::float64, {1, kH, s, kD}); };
    const ForwardInputs inputs{.q = view(computed.q()), .k = view(computed.k()), .v = view(computed.v())};
    standard_attention({}, inputs, {.o = output(o)});
    standard_attention_backward({}, inputs, {.d_o = view(computed.d_o())},
                                {.d_q = output(d_q), .d_k = output(d_k), .d_v = output(d_v)});

    // Sums of up to 300 terms of size about 1 in float32: some 1e-7 each, more in gradients, whose terms are larger.
    EXPECT_LT(largest_difference(o, computed.o()), 1e-5) << s;
    EXPECT_LT(largest_difference(d_q, computed.d_q()), 1e-4) << s;
    EXPECT_LT(largest_difference(d_k, computed.d_k()), 1e-4) << s;
    EXPECT_LT(largest_difference(d_v, computed.d_v()), 1e-4) << s;
  }
}

}  // namespace
}  // namespace tilewise::cli
