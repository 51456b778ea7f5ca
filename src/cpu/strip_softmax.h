// What the forward pass keeps of a strip of queries between tiles, and its softmax: online, the rescaling deferred (see
// kRescaleGrowth).
#pragma once

#include <cstdint>

#include "cpu/exp2.h"
#include "cpu/kernels.h"
#include "cpu/subnormals.h"
#include "cpu/units.h"

namespace tilewise::cpu {

template <class Engine>
class StripSoftmax {
 public:
  using Lanes = typename Engine::Lanes;
  using Vec = typename Lanes::Vec;
  static constexpr int kVectors = Engine::kVectors;
  static constexpr int kStrip = Engine::kStrip;

  /// One strip of queries and what it has accumulated.
  struct Strip {
    std::int64_t begin;  // query_index of lane 0
    int count;           // queries present, <= kStrip
    float* q;            // packed by the engine
    float* o;            // [rounded d_v][kStrip], unnormalised
    float* maximum;      // [kStrip], the score that weights are relative to; -inf until an entry is kept
    float* sum;          // [kStrip], of weights
    bool is_begun;       // q is packed and o holds something
  };

  static std::int64_t o_floats(const Shape& shape) { return std::int64_t{Engine::rounded_d_v(shape.d_v)} * kStrip; }

  /// Keeps references to the task and its units.
  StripSoftmax(const ForwardTask& task, const ScoreUnits& units) : task_(task), shape_(task.shape), units_(units) {}

  static void start(Strip& strip) {
    strip.is_begun = false;
    for (int i = 0; i < kStrip; ++i) {
      strip.maximum[i] = -__builtin_inff();
      strip.sum[i] = 0;
    }
  }

  /// maximum [kVectors] is raised to each column's of scores [keys][kStrip].
  static void raise_maximum(const float* scores, int keys, Vec* maximum) {
    // In registers: through the pointer every key's maximum would wait for the store of the one before. Of even and odd
    // keys apart, since a maximum takes as long as two loads.
    Vec highest[2][kVectors];
    for (int n = 0; n < kVectors; ++n) highest[0][n] = highest[1][n] = maximum[n];
    const auto raise = [&](int key, Vec* to) __attribute__((always_inline)) {
      const float* at = scores + std::int64_t{key} * kStrip;
#pragma GCC unroll 8
      for (int n = 0; n < kVectors; ++n) to[n] = Lanes::max(Lanes::load(at + n * Lanes::kWidth), to[n]);
    };
    int key = 0;
    for (; key + 2 <= keys; key += 2) {
      raise(key, highest[0]);
      raise(key + 1, highest[1]);
    }
    if (key < keys) raise(key, highest[0]);
    for (int n = 0; n < kVectors; ++n) maximum[n] = Lanes::max(highest[0][n], highest[1][n]);
  }

  /// Raises the strip's reference to `maximum` where that grew by more than kRescaleGrowth, and rescales.
  void update_maximum(const Strip& strip, const Vec* maximum) const {
    bool grown = false;
    for (int n = 0; n < kVectors; ++n) {
      const Vec old = Lanes::load(strip.maximum + n * Lanes::kWidth);
      grown |= Lanes::any_greater(maximum[n], Lanes::add(old, Lanes::broadcast(kRescaleGrowth / units_.log2)));
    }
    if (!grown) return;
    const FlushedSubnormals<Flushed::all> flushed;
    const Exp2<Lanes> exp2(units_.log2);
    Vec factor[kVectors];
    for (int n = 0; n < kVectors; ++n) {
      const Vec old = Lanes::load(strip.maximum + n * Lanes::kWidth);
      const Vec raised = Lanes::max(maximum[n], old);
      // Where nothing was kept yet the sums are zero; the reference -inf counts as 0 to keep NaN out.
      const Vec growth = Lanes::sub(old, Lanes::zero_if_minus_infinity(raised));
      factor[n] = exp2(growth);
      Lanes::store(strip.maximum + n * Lanes::kWidth, raised);
      float* sum = strip.sum + n * Lanes::kWidth;
      Lanes::store(sum, Lanes::mul(Lanes::load(sum), factor[n]));
    }
    for (int row = 0; strip.is_begun && row < shape_.d_v; ++row) {
      for (int n = 0; n < kVectors; ++n) {
        float* o = strip.o + std::int64_t{row} * kStrip + n * Lanes::kWidth;
        Lanes::store(o, Lanes::mul(Lanes::load(o), factor[n]));
      }
    }
  }

  /// scores become weights exp(score - maximum), kPacks: as pack_p leaves them; their sums are added to the strip's.
  template <bool kPacks>
  void exponentiate(const Strip& strip, float* scores, int keys) const {
    const FlushedSubnormals<Flushed::all> flushed;
    const Exp2<Lanes> exp2(units_.log2);
    Vec maximum[kVectors], sum[kVectors];
    for (int n = 0; n < kVectors; ++n) {
      maximum[n] = Lanes::zero_if_minus_infinity(Lanes::load(strip.maximum + n * Lanes::kWidth));
      sum[n] = Lanes::zero();
    }
    const auto weight = [&](int key, int n) __attribute__((always_inline)) {
      const Vec score = Lanes::load(scores + std::int64_t{key} * kStrip + n * Lanes::kWidth);
      const Vec result = exp2(Lanes::sub(score, maximum[n]));
      sum[n] = Lanes::add(sum[n], result);
      return result;
    };
    // Packed in place: a row is written once the rows that it takes have been read.
    constexpr int kRows = kPacks ? Engine::kDepth : 1;
    for (int key = 0; key < keys; key += kRows) {
#pragma GCC unroll 8
      for (int n = 0; n < kVectors; ++n) {
        Vec row = weight(key, n);
        if constexpr (kRows == 2) row = Lanes::pair(row, key + 1 < keys ? weight(key + 1, n) : Lanes::zero());
        Lanes::store(scores + std::int64_t{key / kRows} * kStrip + n * Lanes::kWidth, row);
      }
    }
    // Tiles are summed apart: one running sum over thousands of like weights would gather rounding errors of one sign.
    for (int n = 0; n < kVectors; ++n) {
      float* total = strip.sum + n * Lanes::kWidth;
      Lanes::store(total, Lanes::add(Lanes::load(total), sum[n]));
    }
  }

  /// Of rows that keep nothing o is 0 and lse the sink's logit.
  void finish_empty(const Strip& strip) const {
    for (std::int64_t query = strip.begin; query < strip.begin + strip.count; ++query) {
      if (task_.lse != nullptr) task_.lse[query] = has_sink() ? *task_.sink : -__builtin_inff();
      if (task_.maximum == nullptr) continue;
      const double reference = has_sink() ? *task_.sink / units_.natural : 0;
      task_.maximum[query - task_.query_begin] = static_cast<float>(reference);
      task_.sum[query - task_.query_begin] = has_sink() ? 1 : 0;
    }
    clear_rows(task_.o, strip.begin, strip.count, shape_.d_v);
  }

  /// Divides by the sums, with the sink, and writes o and lse.
  void finish(const Strip& strip) const {
    float factor[kStrip];
    for (int i = 0; i < kStrip; ++i) {
      const double maximum = strip.maximum[i] == -__builtin_inff() ? 0.0 : double{strip.maximum[i]} * units_.natural;
      double reference = maximum;
      float sum = strip.sum[i], shrink = 1;
      if (has_sink()) {
        const double sink = *task_.sink;
        if (sink > reference || sum == 0) reference = sink;
        shrink = sum == 0 ? 0.0f : __builtin_expf(static_cast<float>(maximum - reference));
        sum = sum * shrink + __builtin_expf(static_cast<float>(sink - reference));
      }
      factor[i] = sum == 0 ? 0.0f : shrink / sum;
      if (task_.maximum != nullptr && i < strip.count) {
        task_.maximum[strip.begin - task_.query_begin + i] = static_cast<float>(reference / units_.natural);
        task_.sum[strip.begin - task_.query_begin + i] = sum;
      }
      if (task_.lse != nullptr && i < strip.count) {
        const float lse = static_cast<float>(reference + static_cast<double>(__builtin_logf(sum)));
        task_.lse[strip.begin + i] = sum == 0 ? -__builtin_inff() : lse;
      }
    }
    Engine::unpack_o(strip.o, factor, strip.begin, strip.count, shape_.d_v, task_.o);
  }

 private:
  bool has_sink() const { return task_.sink != nullptr && *task_.sink != -__builtin_inff(); }

  const ForwardTask& task_;
  const Shape& shape_;
  const ScoreUnits& units_;
};

}  // namespace tilewise::cpu
