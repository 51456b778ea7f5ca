// The statistics (maximum, denominator, numerator) of a set of keys, from which softmax's output follows, and how the
// statistics of two sets become those of their union.
#pragma once

#include <cstdint>
#include <limits>
#include <span>

#include "reference/counting_machine.h"

namespace tilewise::reference {

/// For a query and a set of keys with scores s_j and value rows v_j:
///   denominator = sum_j exp(s_j - maximum)        numerator = sum_j exp(s_j - maximum) v_j
/// The quotient, softmax's output, is the same for every `maximum`: it only keeps exp in range, and does so best when
/// it is the largest s_j. Of no keys the maximum is -infinity and both sums are 0.
class Statistics {
 public:
  Statistics(Machine& machine, std::int64_t d_v) : numbers_(machine, 1, 2 + d_v) {
    maximum() = -std::numeric_limits<float>::infinity();
  }

  float& maximum() { return numbers_.row(0)[0]; }
  float maximum() const { return numbers_.row(0)[0]; }
  float& denominator() { return numbers_.row(0)[1]; }
  float denominator() const { return numbers_.row(0)[1]; }
  std::span<float> numerator() { return numbers_.row(0).subspan(2); }              // [d_v]
  std::span<const float> numerator() const { return numbers_.row(0).subspan(2); }  // [d_v]

  /// Both sums, to be scaled together.
  std::span<float> sums() { return numbers_.row(0).subspan(1); }              // [1 + d_v]: denominator, numerator
  std::span<const float> sums() const { return numbers_.row(0).subspan(1); }  // [1 + d_v]

  /// Adds one key of weight exp(s_j - maximum) and value row v [d_v].
  void add(Machine& machine, float weight, std::span<const float> v);

 private:
  Tile numbers_;  // [1, 2 + d_v]: maximum, denominator, numerator
};

/// The statistics of one query q [d_qk] and a chunk, k [keys, d_qk] and v [keys, d_v], that fast memory holds. The
/// scores stay there too, so that they are computed once although the maximum comes first.
Statistics statistics_of(Machine& machine, std::span<const float> q, const Tile& k, const Tile& v);

/// total <- the statistics of its keys and those of `part` together: both sets' sums are scaled to the common maximum
/// and added. Associative and commutative up to rounding, with the statistics of no keys as identity.
void merge(Machine& machine, Statistics& total, const Statistics& part);

}  // namespace tilewise::reference
