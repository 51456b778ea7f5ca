#include "tests/attention/covering.h"

#include <algorithm>
#include <numeric>
#include <random>

namespace tilewise::attention::testing {
namespace {

/// The pairs that no row holds yet.
class MissingPairs {
 public:
  explicit MissingPairs(std::span<const int> values) : values_(values.begin(), values.end()) {
    for (const int count : values_) {
      first_.push_back(all_);
      all_ += static_cast<std::size_t>(count);
    }
    missing_.assign(all_ * all_, true);
  }

  bool holds(std::size_t p, int a, std::size_t q, int b) const { return missing_[place(p, a, q, b)]; }
  void drop(std::size_t p, int a, std::size_t q, int b) {
    missing_[place(p, a, q, b)] = missing_[place(q, b, p, a)] = false;
  }

  /// Missing pairs of parameter p at value a with what a row already holds.
  int gain(const Combination& row, std::size_t p, int a) const {
    int pairs = 0;
    for (std::size_t q = 0; q < row.size(); ++q) pairs += q != p && row[q] != kOpen && holds(p, a, q, row[q]);
    return pairs;
  }

  void drop_all_of(const Combination& row) {
    for (std::size_t p = 0; p < row.size(); ++p) {
      for (std::size_t q = 0; q < p; ++q) drop(p, row[p], q, row[q]);
    }
  }

 private:
  std::size_t place(std::size_t p, int a, std::size_t q, int b) const {
    return (first_[p] + static_cast<std::size_t>(a)) * all_ + first_[q] + static_cast<std::size_t>(b);
  }

  std::vector<int> values_;
  std::vector<std::size_t> first_;  // [parameters], number of the parameter's first value among all values
  std::size_t all_ = 0;
  std::vector<bool> missing_;  // [all values, all values]
};

}  // namespace

std::vector<Combination> pairwise_rows(std::span<const int> values, std::uint64_t seed, const Allowed& allowed) {
  std::mt19937_64 random(seed);
  MissingPairs missing(values);
  std::vector<Combination> rows;
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), std::size_t{0});

  /// The value of parameter p that brings most pairs along; of equal ones a random one.
  const auto best_value = [&](Combination& row, std::size_t p) {
    int best = kOpen, most = -1;
    const int start = static_cast<int>(random() % static_cast<std::uint64_t>(values[p]));
    for (int i = 0; i < values[p]; ++i) {
      const int value = (start + i) % values[p], gain = missing.gain(row, p, value);
      if (gain <= most) continue;
      row[p] = value;
      if (allowed(row)) best = value, most = gain;
    }
    return best;
  };
  const auto complete = [&](Combination row) {
    std::ranges::shuffle(order, random);
    for (const std::size_t p : order) {
      if (row[p] == kOpen) row[p] = best_value(row, p);
    }
    missing.drop_all_of(row);
    rows.push_back(std::move(row));
  };

  for (std::size_t p = 0; p < values.size(); ++p) {
    for (std::size_t q = 0; q < p; ++q) {
      for (int a = 0; a < values[p]; ++a) {
        for (int b = 0; b < values[q]; ++b) {
          if (!missing.holds(p, a, q, b)) continue;
          Combination row(values.size(), kOpen);
          row[p] = a, row[q] = b;
          if (allowed(row)) complete(std::move(row));
        }
      }
    }
  }
  return rows;
}

}  // namespace tilewise::attention::testing
