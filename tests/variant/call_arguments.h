// Arguments of a call that is accepted, for tests to spoil.
#pragma once

#include <functional>
#include <initializer_list>
#include <string>

#include "tests/refusal.h"
#include "tests/variant/tensor_of_its_own.h"
#include "variant/call.h"

namespace tilewise::variant {

inline Tensor tensor(std::initializer_list<std::int64_t> extents, DType dtype = DType::float64) {
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
inline Arguments packed_arguments() {
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

inline std::string forward_refusal(const Change& change, Arguments a = {}) {
  change(a);
  return refusal([&] { a.forward(); });
}
inline std::string backward_refusal(const Change& change, Arguments a = {}) {
  change(a);
  return refusal([&] { a.backward(); });
}

/// What forward and backward refuse alike.
inline void expect_refused(const Change& change, const std::string& message, const Arguments& a = {}) {
  EXPECT_EQ(forward_refusal(change, a), message);
  EXPECT_EQ(backward_refusal(change, a), message);
}

}  // namespace tilewise::variant
