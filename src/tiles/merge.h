// Merging attention over disjoint sets of keys: what splits of a cache, pages and devices of a ring share.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>

namespace tilewise::tiles {

/// A row's result over some of its keys, normalised over those alone.
template <class Real>
struct Partial {
  Real* o;   // [d_v]
  Real lse;  // natural log of the sum of exp(score); -inf where nothing was kept, and then o is 0
};

/// Turns `into` into the result over both sets of keys: associative and commutative within rounding. Dropout does not
/// show in lse, so partial results with and without it merge alike.
/// Milakov and Gimelshein, "Online normalizer calculation for softmax" (2018), section 3.
template <class Real>
void merge(Partial<Real>& into, const Partial<const Real>& other, std::int64_t d_v) {
  constexpr Real kLowest = -std::numeric_limits<Real>::infinity();
  if (other.lse == kLowest) return;
  const Real reference = into.lse > other.lse ? into.lse : other.lse;
  const Real own = into.lse == kLowest ? Real{0} : std::exp(into.lse - reference);
  const Real added = std::exp(other.lse - reference), sum = own + added;
  for (std::int64_t i = 0; i < d_v; ++i) into.o[i] = into.o[i] * (own / sum) + other.o[i] * (added / sum);
  into.lse = reference + std::log(sum);
}

/// Adds a sink, a logit that joins the denominator only: the last step, after all keys.
template <class Real>
void add_sink(Partial<Real>& into, Real sink, std::int64_t d_v) {
  constexpr Real kLowest = -std::numeric_limits<Real>::infinity();
  if (sink == kLowest) return;
  const Real reference = into.lse > sink ? into.lse : sink;
  const Real own = into.lse == kLowest ? Real{0} : std::exp(into.lse - reference);
  const Real sum = own + std::exp(sink - reference);
  for (std::int64_t i = 0; i < d_v; ++i) into.o[i] *= own / sum;
  into.lse = reference + std::log(sum);
}

}  // namespace tilewise::tiles
