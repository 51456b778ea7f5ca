// An attention problem with random inputs, its answers by standard attention, and a kernel's answer.
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/dropout.h"
#include "cuda/launch/hopper_backward.h"
#include "jit/compiler.h"
#include "tilewise/problem.h"
#include "tilewise/variant.h"

namespace tilewise::cuda::testing {

/// How random inputs are drawn.
enum class Inputs {
  normal,
  outliers,  // one in a hundred is 20 times as large
  large,     // scores of a thousand and more, rising along the keys: every tile outgrows the one before
  rising,    // scores that rise by about 30 from each 64 keys to the next
  falling,   // likewise fall
};

struct Case {
  std::string name;
  Variant variant;
  Bindings bindings;
  Problem problem;
  int d_qk = 64, d_v = 64;
  DType dtype = DType::bfloat16;
  double scale = 0;  // 0: 1 / sqrt(d_qk)
  Inputs inputs = Inputs::normal;
  bool is_packed = false;
  int gap = 8;              // elements between rows, NaN: no multiple of 8 makes rows unaligned
  bool with_lists = false;  // tile lists from the host; else all tiles are visited, which only suits no keeps
  std::optional<Dropout> dropout;
  bool portable = false;                         // the portable kernels, also where the GPU has others
  std::optional<ForwardPlan> plan;               // the portable kernel with this plan
  std::optional<BackwardPlan> backward_plan;     // likewise backward
  int d_q_parts = 0;                             // of a deterministic backward pass
  std::optional<HopperForwardPlan> hopper_plan;  // the kernel for 9.0 with this one
  std::optional<HopperBackwardPlan> hopper_backward_plan;
  unsigned seed = 1;
};

/// A case with a name for messages, the lists that its variant asks for, and sizes.
Case case_of(std::string name, const Variant& variant, const Problem& problem, int d_qk, int d_v);

/// A tensor's elements on the host, [b, h, s, d] with b outermost ([tokens, h, d] where packed), rounded to the dtype.
struct HostTensor {
  std::vector<float> values;  // [elements], NaN where no element is
  long long batch = 0, head = 0, row = 0;

  float& at(std::int64_t b, std::int64_t h, std::int64_t s, std::int64_t d) {
    return values[static_cast<std::size_t>(b * batch + h * head + s * row + d)];
  }
  float at(std::int64_t b, std::int64_t h, std::int64_t s, std::int64_t d) const {
    return const_cast<HostTensor&>(*this).at(b, h, s, d);
  }
};

struct CaseInputs {
  HostTensor q, k, v;
};
CaseInputs make_inputs(const Case& given);

/// o in the order (b, h_q, s_q, d_v) and lse in the order (b, h_q, s_q), over the sequences' own lengths.
struct Answer {
  std::vector<double> o, lse;
};

/// Standard attention: in float64, or as a kernel of that dtype would do it without tiles (float32 scores and sums,
/// weights and outputs rounded to the dtype), which shows what error the dtype itself makes.
Answer standard_attention(const Case& given, const CaseInputs& inputs, bool in_float64);

/// A launch's extent; tensors are just as large as the sequences need.
ForwardExtent extent_of(const Case& given);

/// Whether the kernels for compute capability 9.0 run here.
bool is_hopper(const jit::Context& context);

/// The kernel's answer; also fails the test where something outside of o and lse was written.
Answer kernel_attention(const std::shared_ptr<const jit::Context>& context, jit::Compiler& compiler, const Case& given,
                        const CaseInputs& inputs);

/// Runs the case and compares: with e_std the error of standard attention in the kernel's precision, max |e| <= 2 max
/// |e_std| + 2 ulp of the largest output, root mean squares likewise; lse within 2^-10 of it or of 1, or as e_std has.
void expect_right(const std::shared_ptr<const jit::Context>& context, jit::Compiler& compiler, const Case& given);

/// Likewise for several kernels, with what they are held to made once.
struct Expectation {
  CaseInputs inputs;
  Answer exact, standard;
};
Expectation expectation_of(const Case& given);
void expect_right(const std::shared_ptr<const jit::Context>& context, jit::Compiler& compiler, const Case& given,
                  const Expectation& expected);

}  // namespace tilewise::cuda::testing
