// Scores where a conjunction of comparisons holds, -inf elsewhere, in one pass over a tile. Part of a source that is
// compiled once for each instruction set, so all of it has internal linkage.
#pragma once

#include "variant/lanes/strip_rows.h"

namespace tilewise::variant {
namespace {

/// Operands: scores, a keep, and three ints of each term, see FusedOperations::kept. What terms compare with lies in
/// registers, a column of vectors at a time: a row then costs a broadcast, a difference and a comparison a term.
template <int kTerms, int kInverted>
class KeptRows {
 public:
  explicit KeptRows(const StripCall& call) : call_(call) {}

  HWY_INLINE void run() const {
    std::int64_t column = 0;
    for (; column + kLanes <= call_.inner; column += kLanes) run_column<true>(column);
    if (column < call_.inner) run_column<false>(column);
  }

 private:
  /// Rows of an operand from a column on; a repeated word counts as a vector of it.
  template <class T>
  struct Column {
    const T* from;
    std::int64_t outer;

    HWY_INLINE Column(const Strip& strip, std::int64_t column)
        : from(static_cast<const T*>(strip.data) + strip.inner * column), outer(strip.outer) {}
  };

  template <bool kWhole, class T>
  HWY_INLINE auto load(const T* from, std::int64_t inner, std::int64_t left) const {
    if (kWhole || inner == 0) return hn::LoadU(tag_of(T{}), from);
    return load_some(from, left);
  }

  template <bool kWhole>
  HWY_INLINE void run_column(std::int64_t at) const {
    const std::int64_t left = call_.inner - at;
    const Strip *scores = call_.operands, *keeps = scores + 1, *terms = keeps + 1;
    constexpr int kRoom = kTerms > 0 ? kTerms : 1;  // there are no arrays of nothing
    const std::int32_t* x[kRoom] = {};
    std::int64_t step[kRoom] = {};
    hn::Vec<decltype(kTags.i)> y[kRoom], z[kRoom];
    for (int t = 0; t < kTerms; ++t) {
      x[t] = static_cast<const std::int32_t*>(terms[3 * t].data);
      step[t] = terms[3 * t].outer;
      const auto of_queries = [&](const Strip& strip) {
        return load<kWhole>(static_cast<const std::int32_t*>(strip.data) + strip.inner * at, strip.inner, left);
      };
      y[t] = of_queries(terms[3 * t + 1]);
      z[t] = of_queries(terms[3 * t + 2]);
    }
    Column<float> score(*scores, at);
    Column<std::int32_t> keep(*keeps, at);
    const std::int64_t keep_inner = keeps->inner, result_outer = call_.result.outer;
    auto* result = static_cast<std::int32_t*>(call_.result.data) + at;
    for (std::int64_t row = 0; row < call_.outer; ++row) {
      auto kept = hn::MaskFromVec(load<kWhole>(keep.from, keep_inner, left));
      for (int t = 0; t < kTerms; ++t) {
        const auto is_less = hn::Lt(hn::Sub(hn::Set(kTags.i, *x[t]), y[t]), z[t]);
        kept = t < kTerms - kInverted ? hn::And(kept, is_less) : hn::AndNot(is_less, kept);
        x[t] += step[t];
      }
      const auto all = load<kWhole>(score.from, 1, left);
      const auto left_over = hn::IfThenElse(hn::RebindMask(kTags.f, kept), all, hn::Set(kTags.f, -kLaneInfinity));
      if constexpr (kWhole) {
        store(left_over, result);
      } else {
        store_some(left_over, result, left);
      }
      score.from += score.outer;
      keep.from += keep.outer;
      result += result_outer;
    }
  }

  const StripCall& call_;
};

template <int kTerms, int kInverted>
void run_kept(const StripCall& call) {
  KeptRows<kTerms, kInverted>(call).run();
}

}  // namespace
}  // namespace tilewise::variant
