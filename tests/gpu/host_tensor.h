// What the attention tests share: tensors on the host with NaN around their elements, and errors.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "core/half.h"
#include "tests/gpu/attention_case.h"

namespace tilewise::cuda::testing {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

inline std::uint16_t bits_of(DType dtype, float value) {
  return dtype == DType::bfloat16 ? Bfloat16(value).bits : Float16(value).bits;
}
inline float value_of(DType dtype, std::uint16_t bits) {
  return dtype == DType::bfloat16 ? static_cast<float>(Bfloat16::from_bits(bits))
                                  : static_cast<float>(Float16::from_bits(bits));
}
inline float rounded(DType dtype, double value) {
  return std::isnan(value) ? kNaN : value_of(dtype, bits_of(dtype, static_cast<float>(value)));
}

inline double scale_of(const Case& given) { return given.scale != 0 ? given.scale : 1 / std::sqrt(given.d_qk); }

/// Storage of a tensor, all NaN.
inline HostTensor storage(const Case& given, std::int64_t heads, std::int64_t d, bool of_queries) {
  std::int64_t rows = 0, longest = 0;
  for (const Sequence& sequence : given.problem.sequences) {
    const std::int64_t length = of_queries ? sequence.s_q : sequence.s_kv;
    const std::int64_t first = of_queries ? sequence.first_query_token : sequence.first_key_token;
    rows = std::max(rows, first + length);
    longest = std::max(longest, length);
  }
  HostTensor tensor;
  tensor.head = d + given.gap;
  tensor.row = heads * tensor.head;
  if (given.is_packed) {
    tensor.values.assign(static_cast<std::size_t>((rows + 1) * tensor.row), kNaN);
  } else {
    tensor.batch = longest * tensor.row;
    tensor.values.assign(static_cast<std::size_t>(given.problem.b() * tensor.batch + tensor.row), kNaN);
  }
  return tensor;
}

/// Row of a sequence's index 0.
inline std::int64_t first_row(const Case& given, const Sequence& sequence, bool of_queries) {
  if (!given.is_packed) return 0;
  return of_queries ? sequence.first_query_token : sequence.first_key_token;
}
inline std::int64_t batch_of(const Case& given, std::int64_t sequence) { return given.is_packed ? 0 : sequence; }

inline HostTensor random_tensor(const Case& given, std::int64_t heads, std::int64_t d, bool of_queries, bool is_key,
                                std::mt19937_64& random) {
  HostTensor tensor = storage(given, heads, d, of_queries);
  std::normal_distribution<double> normal;
  std::uniform_int_distribution<int> one_in_hundred(0, 99);
  for (std::int64_t b = 0; b < given.problem.b(); ++b) {
    const Sequence& sequence = given.problem.sequences[static_cast<std::size_t>(b)];
    const std::int64_t length = of_queries ? sequence.s_q : sequence.s_kv;
    // Keys before key_start stay NaN: no kernel may read them.
    for (std::int64_t s = of_queries ? 0 : sequence.key_start; s < length; ++s) {
      for (std::int64_t h = 0; h < heads; ++h) {
        for (std::int64_t i = 0; i < d; ++i) {
          double value = normal(random);
          if (given.inputs == Inputs::outliers && one_in_hundred(random) == 0) value *= 20;
          if (given.inputs == Inputs::large && is_key) value *= 1 + static_cast<double>(s) / 4;
          // The first column of q is 8, and that of k rises or falls, however the rest is.
          if ((given.inputs == Inputs::rising || given.inputs == Inputs::falling) && i == 0 && d == given.d_qk) {
            const double step = static_cast<double>(s / 64) * (given.inputs == Inputs::rising ? 4 : -4);
            value = is_key ? step * std::sqrt(given.d_qk) : of_queries ? 8 : value;
          }
          tensor.at(batch_of(given, b), h, first_row(given, sequence, of_queries) + s, i) = rounded(given.dtype, value);
        }
      }
    }
  }
  return tensor;
}

inline std::vector<std::uint16_t> bits_of(DType dtype, const HostTensor& tensor) {
  std::vector<std::uint16_t> bits;
  const std::uint16_t nan = dtype == DType::bfloat16 ? 0x7fc0 : 0x7e00;
  for (const float value : tensor.values) bits.push_back(std::isnan(value) ? nan : bits_of(dtype, value));
  return bits;
}

inline TensorView view_of(const DeviceMemory& memory, const HostTensor& tensor) {
  return {memory.as<void>(), tensor.batch, tensor.head, tensor.row};
}

inline DropoutArguments dropout_arguments(const Dropout& dropout) {
  return {dropout.seed, dropout.offset, dropout.keep_below, static_cast<float>(dropout.scale()), 0, nullptr};
}

/// Copies back what was written to `memory` into a tensor of its layout.
template <class T>
inline std::vector<T> copy_back(const jit::Context& context, const DeviceMemory& memory, std::size_t size) {
  const jit::CurrentContext current(context);
  const jit::Driver& driver = context.driver();
  driver.check(driver.api().stream_synchronize(nullptr), "to run a kernel");
  std::vector<T> values(size);
  driver.check(driver.api().copy_to_host(values.data(), memory.pointer(), size * sizeof(T)), "to copy from the GPU");
  return values;
}

/// Takes a sequence's outputs out of a tensor; what is left must all be NaN.
inline std::vector<double> take(const Case& given, HostTensor& tensor, std::int64_t d) {
  std::vector<double> values;
  for (std::int64_t b = 0; b < given.problem.b(); ++b) {
    const Sequence& sequence = given.problem.sequences[static_cast<std::size_t>(b)];
    for (std::int64_t h = 0; h < given.problem.h_q; ++h) {
      for (std::int64_t query = 0; query < sequence.s_q; ++query) {
        for (std::int64_t i = 0; i < d; ++i) {
          float& value = tensor.at(batch_of(given, b), h, first_row(given, sequence, true) + query, i);
          values.push_back(value);
          value = kNaN;
        }
      }
    }
  }
  EXPECT_TRUE(std::all_of(tensor.values.begin(), tensor.values.end(), [](float value) { return std::isnan(value); }))
      << "something was written outside of the output";
  return values;
}

struct Errors {
  double largest = 0, root_mean_square = 0;
};
inline Errors errors_of(const std::vector<double>& got, const std::vector<double>& expected) {
  Errors errors;
  for (std::size_t i = 0; i < got.size(); ++i) {
    const double error = std::abs(got[i] - expected[i]);
    errors.largest = error <= errors.largest ? errors.largest : error;  // a NaN stays
    errors.root_mean_square += error * error;
  }
  errors.root_mean_square = got.empty() ? 0 : std::sqrt(errors.root_mean_square / static_cast<double>(got.size()));
  return errors;
}

}  // namespace tilewise::cuda::testing
