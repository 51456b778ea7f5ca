// A call with everything that a call can have, to be spoilt in one place and then refused.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <vector>

#include "tests/attention/oracle.h"

namespace tilewise::attention::testing {

inline constexpr std::int64_t kHuge = std::numeric_limits<std::int64_t>::max();
inline constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();

/// Two sequences, four heads over two, 30 queries, 40 keys, d = 8/4, two tables, a parameter and dropout.
struct FullCall {
  explicit FullCall(DType dtype, bool packed = false);
  FullCall(const FullCall&) = delete;
  FullCall& operator=(const FullCall&) = delete;

  /// That no output holds anything but poison.
  void expect_untouched() const;

  static constexpr float kPoison = 768;
  Table bias, kinds;
  Parameter gain;
  Variant variant;
  reference::AttentionData data;
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
  std::function<void(FullCall&)> change;
};

enum class Pass : std::uint8_t { forward, backward, both };

/// Expects that a plan, and standard attention, which shares the checks, refuse a spoilt call of every dtype, before
/// anything is written. `packed`: which storage.
void expect_refused(const Spoilt& spoilt, Pass pass, bool packed);

}  // namespace tilewise::attention::testing
