// For every processor: loops over the rows of a panel, which compilers turn into what vectors there are.
#include <cmath>

#include "core/half.h"
#include "nn/isa/compiled.h"
#include "nn/isa/each_kind.h"

namespace tilewise::nn {
namespace {

template <class T>
struct Lanes {
  T of[kPanelRows];
};

struct Engine {
  using Floats = Lanes<float>;
  using Sums = Lanes<std::int32_t>;
  using Integers = Lanes<std::int32_t>;
  using Weights = Lanes<std::int16_t[4]>;  // columns as activations have them
  static constexpr int kRows = kPanelRows;
  static constexpr int kBunch = 4;

  template <class Result, class Function>
  static Result each(const Function& function) {
    Result result;
    for (int r = 0; r < kRows; ++r) result.of[r] = function(r);
    return result;
  }

  static Floats zeros() { return {}; }
  static Floats broadcast(float value) {
    return each<Floats>([&](int) { return value; });
  }
  static Floats negative(const Floats& a) {
    return each<Floats>([&](int r) { return -a.of[r]; });
  }
  static Floats multiply(const Floats& a, const Floats& b) {
    return each<Floats>([&](int r) { return a.of[r] * b.of[r]; });
  }
  static Floats fma(const Floats& a, const Floats& b, const Floats& c) {
    return each<Floats>([&](int r) { return std::fma(a.of[r], b.of[r], c.of[r]); });
  }
  static void store(const Floats& a, float* to) { std::memcpy(to, a.of, sizeof(a.of)); }
  static Floats halves(const std::byte* from) {
    return each<Floats>([&](int r) {
      Float16 half;
      std::memcpy(&half, from + 2 * r, sizeof(half));
      return static_cast<float>(half);
    });
  }
  template <bool kSigned>
  static Floats bytes(const std::byte* from) {
    return each<Floats>([&](int r) {
      const auto byte = static_cast<std::uint8_t>(from[r]);
      return static_cast<float>(kSigned ? static_cast<std::int8_t>(byte) : byte);
    });
  }

  template <int kBits, int kStep>
  static Weights weights(const std::byte* quants, int) {
    Weights w;
    const auto* stored = reinterpret_cast<const std::uint8_t*>(quants);
    for (int i = 0; i < 4 * kRows; ++i) {
      int quant = kBits == 8 ? static_cast<std::int8_t>(stored[64 * kStep + i])
                             : stored[64 * (kStep % 4) + i] >> (kStep < 4 ? 0 : 4) & 15;
      if (kBits == 5) quant |= (stored[256 + i] >> kStep & 1) << 4;
      if (kBits == 6) quant |= (stored[256 + 64 * (kStep / 4) + i] >> (2 * (kStep % 4)) & 3) << 4;
      w.of[i / 4][ActivationBlock::in_column(i % 4)] = static_cast<std::int16_t>(quant);
    }
    return w;
  }

  static void add(Sums& sums, const Weights& w, const std::int16_t* x) {
    for (int r = 0; r < kRows; ++r) {
      for (int c = 0; c < 4; ++c) sums.of[r] += w.of[r][c] * x[c];
    }
  }

  static Integers total(const Sums& sums) { return sums; }
  template <int kZeroPoint>
  static Integers less(const Integers& dots, std::int32_t total) {
    return each<Integers>([&](int r) { return dots.of[r] - kZeroPoint * total; });
  }
  static Floats to_float(const Integers& integers) {
    return each<Floats>([&](int r) { return static_cast<float>(integers.of[r]); });
  }
  static void round(const float* x, ActivationBlock& out) { round_block(x, out); }
};

}  // namespace

const QuantisedKernels& quantised_baseline() {
  static constexpr QuantisedKernels kKernels = kernels_over<Engine>(Isa::baseline);
  return kKernels;
}

}  // namespace tilewise::nn
