// A small attention problem with its float64 answer, for the kernels' tests.
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <ostream>
#include <random>
#include <vector>

#include "core/half.h"
#include "cpu/kernels.h"

namespace tilewise::cpu::testing {

inline constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
inline constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// The nearest value of a storage type, ties to even.
inline float rounded(float value, DType dtype) {
  if (dtype == DType::float16) return static_cast<float>(tilewise::Float16(double{value}));
  if (dtype != DType::bfloat16 || std::isnan(value)) return value;
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  bits = (bits + 0x7fff + (bits >> 16 & 1)) & 0xffff0000u;
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

/// The distance from 1 to the next value.
inline double epsilon_of(DType dtype) {
  return dtype == DType::bfloat16 ? 0x1p-7 : dtype == DType::float16 ? 0x1p-10 : 0x1p-23;
}

/// A matrix of float32 with gaps between its rows and NaN wherever no element is.
class Matrix {
 public:
  Matrix(std::int64_t rows, std::int64_t columns, std::int64_t gap = 5)
      : rows_(rows), columns_(columns), stride_(columns + gap), values_((rows + 3) * stride_, kNaN) {}

  float* data() { return values_.data() + stride_; }
  const float* data() const { return values_.data() + stride_; }
  float& at(std::int64_t row, std::int64_t column) { return data()[row * stride_ + column]; }
  float at(std::int64_t row, std::int64_t column) const { return data()[row * stride_ + column]; }
  std::int64_t rows() const { return rows_; }
  std::int64_t columns() const { return columns_; }
  std::int64_t stride() const { return stride_; }
  Rows view() const { return {data(), stride_, DType::float32}; }
  MutableRows mutable_view() { return {data(), stride_, DType::float32}; }

  void fill_normal(std::mt19937_64& random, float deviation = 1) {
    std::normal_distribution<float> normal;  // times a deviation, since it takes none of 0
    for (std::int64_t i = 0; i < rows_; ++i) {
      for (std::int64_t j = 0; j < columns_; ++j) at(i, j) = deviation * normal(random);
    }
  }

  void round_to(DType dtype) {
    for (float& value : values_) value = rounded(value, dtype);
  }

  /// Whether all that lies between and around the elements still holds NaN.
  bool surroundings_untouched() const {
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(values_.size()); ++i) {
      const std::int64_t row = i / stride_ - 1, column = i % stride_;
      const bool inside = row >= 0 && row < rows_ && column < columns_;
      if (!inside && !std::isnan(values_[static_cast<std::size_t>(i)])) return false;
    }
    return true;
  }

 private:
  std::int64_t rows_, columns_, stride_;
  std::vector<float> values_;
};

/// A copy of a matrix in a storage type, gaps and surroundings included.
class Stored {
 public:
  Stored(const Matrix& matrix, DType dtype) : dtype_(dtype), stride_(matrix.stride()), rows_(matrix.rows()) {
    if (dtype == DType::float32) {
      floats_.assign(matrix.data() - stride_, matrix.data() + (rows_ + 2) * stride_);
      return;
    }
    for (std::int64_t i = -stride_; i < (rows_ + 2) * stride_; ++i) halves_.push_back(bits_of(matrix.data()[i]));
  }
  Rows view() const { return {const_cast<Stored*>(this)->first(), stride_, dtype_}; }
  MutableRows mutable_view() { return {first(), stride_, dtype_}; }

  /// Back to float32, surroundings included.
  void copy_to(Matrix& matrix) const {
    for (std::int64_t i = -stride_; i < (rows_ + 2) * stride_; ++i) {
      const auto at = static_cast<std::size_t>(i + stride_);
      matrix.data()[i] = dtype_ == DType::float32 ? floats_[at] : value_of(halves_[at]);
    }
  }

 private:
  void* first() {
    return dtype_ == DType::float32 ? static_cast<void*>(floats_.data() + stride_) : halves_.data() + stride_;
  }
  std::uint16_t bits_of(float value) const {
    if (dtype_ == DType::float16) {
      return tilewise::Float16(double{value}).bits;
    }
    const float nearest = rounded(value, dtype_);
    std::uint32_t bits;
    std::memcpy(&bits, &nearest, sizeof bits);
    return static_cast<std::uint16_t>(bits >> 16);
  }
  float value_of(std::uint16_t bits) const {
    if (dtype_ == DType::float16) {
      return static_cast<float>(tilewise::Float16::from_bits(bits));
    }
    const std::uint32_t wide = std::uint32_t{bits} << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
  }

  DType dtype_;
  std::int64_t stride_, rows_;
  std::vector<float> floats_;
  std::vector<std::uint16_t> halves_;
};

/// Which entries are kept, and what becomes of a score.
struct TestVariant {
  const char* name = "full";
  std::function<bool(std::int64_t query, std::int64_t key)> keep;  // empty: everything
  double softcap = 0;                                              // c tanh(s / c) where positive
  bool loose = false;  // the walk calls every tile partial and finds no empty ends

  bool kept(std::int64_t query, std::int64_t key) const { return !keep || keep(query, key); }
  double score(double s) const { return softcap > 0 ? softcap * std::tanh(s / softcap) : s; }
  double derivative(double s) const { return softcap > 0 ? 1 - std::tanh(s / softcap) * std::tanh(s / softcap) : 1; }
};

inline TestVariant full() { return {}; }
inline TestVariant causal(std::int64_t offset) {
  return {"causal", [offset](std::int64_t query, std::int64_t key) { return key <= query + offset; }};
}
inline TestVariant window(std::int64_t behind, std::int64_t ahead) {
  return {"window",
          [=](std::int64_t query, std::int64_t key) { return key >= query - behind && key <= query + ahead; }};
}
/// Keeps about a third of the entries, in no order, and nothing at all in every seventh row.
inline TestVariant scattered() {
  return {"scattered", [](std::int64_t query, std::int64_t key) {
            const std::uint64_t mixed = static_cast<std::uint64_t>(query * 7919 + key) * 0x9e3779b97f4a7c15u;
            return query % 7 != 3 && (mixed >> 40) % 3 == 0;
          }};
}
inline TestVariant softcapped(TestVariant variant) {
  variant.softcap = 1.5;
  return variant;
}
inline TestVariant loosely(TestVariant variant) {
  variant.loose = true;
  return variant;
}

inline std::ostream& operator<<(std::ostream& to, const TestVariant& variant) {
  return to << variant.name << (variant.loose ? " loose" : "") << " softcap " << variant.softcap;
}

struct Sizes {
  std::int64_t s_q, s_kv, d_qk, d_v;

  friend std::ostream& operator<<(std::ostream& to, const Sizes& sizes) {
    return to << "s_q " << sizes.s_q << " s_kv " << sizes.s_kv << " d_qk " << sizes.d_qk << " d_v " << sizes.d_v;
  }
};

/// One of each kind that kernels treat differently.
inline std::vector<TestVariant> every_kind(const Sizes& sizes) {
  const std::int64_t offset = sizes.s_kv - sizes.s_q;
  return {full(),        causal(0),   causal(offset),     loosely(causal(offset)),
          window(40, 3), scattered(), softcapped(full()), softcapped(window(100, 0))};
}

/// The hooks that present a TestVariant to a kernel. It must outlive the tasks that hold them.
class Hooks {
 public:
  explicit Hooks(const TestVariant& variant) : variant_(variant) {}

  TileWalk walk() const {
    if (!variant_.keep) return {};
    return {classify, &variant_};
  }
  ScoreProgram score() const {
    if (!variant_.keep && variant_.softcap == 0) return {};
    return {apply, &variant_, variant_.softcap == 0};
  }
  AdjointHook adjoint() const {
    if (variant_.softcap == 0) return {};
    return {recompute, adjoin, &variant_};
  }

 private:
  static KeySpan classify(const void* context, std::int64_t query_begin, std::int64_t query_end, std::int64_t key_begin,
                          std::int64_t key_end) {
    const auto& variant = *static_cast<const TestVariant*>(context);
    if (variant.loose) return {key_begin, key_begin, key_begin, key_end};
    KeySpan span{key_end, key_begin, key_begin, key_begin};
    std::int64_t full_run = 0;  // keys up to this one that every query keeps
    for (std::int64_t key = key_begin; key < key_end; ++key) {
      std::int64_t kept = 0;
      for (std::int64_t query = query_begin; query < query_end; ++query) kept += variant.kept(query, key);
      if (kept > 0 && span.begin == key_end) span.begin = key;
      if (kept > 0) span.end = key + 1;
      full_run = kept == query_end - query_begin ? full_run + 1 : 0;
      if (full_run > span.full_end - span.full_begin) {
        span.full_begin = key + 1 - full_run;
        span.full_end = key + 1;
      }
    }
    if (span.begin >= span.end) return {key_begin, key_begin, key_begin, key_begin};
    return span;
  }

  static void apply(const void* context, const ScoreBlock& block) {
    const auto& variant = *static_cast<const TestVariant*>(context);
    for (int key = 0; key < block.keys; ++key) {
      for (int query = 0; query < block.queries; ++query) {
        float& value = block.values[key * block.stride + query];
        const bool kept = variant.kept(block.query_begin + query, block.key_begin + key);
        EXPECT_TRUE(kept || block.partial) << "a removed entry in a block called full";
        value = kept ? static_cast<float>(variant.score(value)) : -kInfinity;
      }
    }
  }

  static void recompute(const void* context, const AdjointBlock& block) {
    ScoreBlock results = block.scores;
    std::copy_n(block.scores.values, block.scores.keys * block.scores.stride, block.results);
    results.values = block.results;
    apply(context, results);
  }

  static void adjoin(const void* context, const AdjointBlock& block) {
    const auto& variant = *static_cast<const TestVariant*>(context);
    for (int key = 0; key < block.scores.keys; ++key) {
      for (int query = 0; query < block.scores.queries; ++query) {
        const std::int64_t at = key * block.scores.stride + query;
        block.d_scores[key * block.d_stride + query] *= static_cast<float>(variant.derivative(block.scores.values[at]));
      }
    }
  }

  const TestVariant& variant_;
};

/// Floats for a kernel, aligned, full of NaN or of `fill`, with a guard behind them.
class Workspace {
 public:
  explicit Workspace(std::int64_t floats, float fill = kNaN)
      : values_(static_cast<std::size_t>(floats) + 32, fill), floats_(static_cast<std::size_t>(floats)) {
    for (std::size_t i = offset() + floats_; i < values_.size(); ++i) values_[i] = kGuard;
  }
  float* data() { return values_.data() + offset(); }
  bool guard_untouched() const {
    for (std::size_t i = offset() + floats_; i < values_.size(); ++i) {
      if (values_[i] != kGuard) return false;
    }
    return true;
  }

 private:
  static constexpr float kGuard = 12345;
  std::size_t offset() const { return (64 - reinterpret_cast<std::uintptr_t>(values_.data()) % 64) % 64 / 4; }
  std::vector<float> values_;
  std::size_t floats_;
};

/// Differences from expected values, gathered over any number of outputs.
struct Difference {
  double largest = 0, square = 0, magnitude = 0;
  std::int64_t count = 0;

  /// actual(i) is compared with expected[i].
  template <class Expected, class Actual>
  void add(const std::vector<Expected>& expected, const Actual& actual) {
    for (std::size_t i = 0; i < expected.size(); ++i) {
      const auto e = static_cast<double>(expected[i]), a = static_cast<double>(actual(static_cast<std::int64_t>(i)));
      // Equal infinities differ by nothing; a NaN where none is expected differs by infinity.
      double gap = e == a ? 0 : std::abs(e - a);
      if (std::isnan(gap)) gap = std::isnan(a) && std::isnan(e) ? 0 : static_cast<double>(kInfinity);
      largest = std::max(largest, gap);
      square += gap * gap;
      if (std::isfinite(e)) magnitude = std::max(magnitude, std::abs(e));
      ++count;
    }
  }
  double rms() const { return count == 0 ? 0 : std::sqrt(square / static_cast<double>(count)); }
};

/// The kernel's differences from float64 beside those of standard attention in the kernel's own precision.
struct Comparison {
  Difference kernel, standard;

  /// `usual` is rounded to the outputs' storage type first.
  template <class Actual>
  void add(const std::vector<double>& exact, const std::vector<double>& usual, const Actual& actual,
           DType dtype = DType::float32) {
    kernel.add(exact, actual);
    standard.add(
        exact, [&](std::int64_t i) { return rounded(static_cast<float>(usual[static_cast<std::size_t>(i)]), dtype); });
  }

  /// The rule of exactness: no worse than `factor` times standard attention, give or take two units in the last place
  /// of the output's largest value. `epsilon` is the output type's.
  void expect_close(const char* what, double factor, double epsilon) const {
    const double slack = 2 * epsilon * kernel.magnitude;
    EXPECT_LE(kernel.largest, factor * standard.largest + slack) << what << ", largest error";
    EXPECT_LE(kernel.rms(), factor * standard.rms() + slack) << what << ", RMS error";
  }
};

/// Seeds whose errors are judged together: the largest of a handful of rounding errors is chance.
inline std::uint64_t seeds(std::int64_t entries) { return entries < 400 ? 10 : entries < 4000 ? 3 : 1; }

}  // namespace tilewise::cpu::testing
