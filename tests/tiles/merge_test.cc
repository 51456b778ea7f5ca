// The laws of merging partial results, in float64 and float32.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "tiles/merge.h"

namespace tilewise::tiles {
namespace {

constexpr std::int64_t kColumns = 3;

/// Entries of one row: scores and values. Their partial result is what a kernel would leave.
template <class Real>
struct Result {
  std::vector<Real> o;
  Real lse;
};

template <class Real>
Result<Real> whole(const std::vector<double>& scores, const std::vector<double>& values) {
  double maximum = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const double score : scores) maximum = std::max(maximum, score);
  std::vector<double> o(kColumns, 0.0);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    const double weight = std::exp(scores[i] - maximum);
    sum += weight;
    for (std::size_t j = 0; j < o.size(); ++j) o[j] += weight * values[i * o.size() + j];
  }
  Result<Real> result{
      {}, scores.empty() ? -std::numeric_limits<Real>::infinity() : static_cast<Real>(maximum + std::log(sum))};
  for (const double x : o) result.o.push_back(scores.empty() ? Real{0} : static_cast<Real>(x / sum));
  return result;
}

template <class Real>
Result<Real> merged(Result<Real> a, const Result<Real>& b) {
  Partial<Real> into{a.o.data(), a.lse};
  merge<Real>(into, {b.o.data(), b.lse}, kColumns);
  a.lse = into.lse;
  return a;
}

template <class Real>
void expect_same(const Result<Real>& a, const Result<Real>& b) {
  // A few roundings of each operation; o are averages of values up to 10, lse are up to 60.
  const double tolerance = 16 * static_cast<double>(std::numeric_limits<Real>::epsilon());
  if (std::isinf(b.lse)) {
    RC_ASSERT(a.lse == b.lse);
  } else {
    RC_ASSERT(std::abs(static_cast<double>(a.lse - b.lse)) <= 60 * tolerance);
  }
  for (std::size_t i = 0; i < a.o.size(); ++i) {
    // An error of lse's size in the weights moves an average by that much of the values' spread.
    RC_ASSERT(std::abs(static_cast<double>(a.o[i] - b.o[i])) <= 10 * 60 * tolerance);
  }
}

/// Up to eight entries, often none.
struct Entries {
  std::vector<double> scores, values;
};

Entries some_entries() {
  Entries found;
  const int count = *rc::gen::inRange(0, 9);
  for (int i = 0; i < count; ++i) {
    found.scores.push_back(*rc::gen::inRange(-5000, 5001) * 0.01);
    for (int j = 0; j < kColumns; ++j) found.values.push_back(*rc::gen::inRange(-1000, 1001) * 0.01);
  }
  return found;
}

Entries both(const Entries& a, const Entries& b) {
  Entries joined = a;
  joined.scores.insert(joined.scores.end(), b.scores.begin(), b.scores.end());
  joined.values.insert(joined.values.end(), b.values.begin(), b.values.end());
  return joined;
}

template <class Real>
Result<Real> whole(const Entries& entries) {
  return whole<Real>(entries.scores, entries.values);
}

/// Calls f with a null pointer of each type.
template <class Function>
void in_both_precisions(const Function& f) {
  f(static_cast<const float*>(nullptr));
  f(static_cast<const double*>(nullptr));
}

RC_GTEST_PROP(MergeLaw, PartsGiveTheWhole, ()) {
  const Entries a = some_entries(), b = some_entries();
  in_both_precisions(
      [&]<class Real>(const Real*) { expect_same(merged(whole<Real>(a), whole<Real>(b)), whole<Real>(both(a, b))); });
}

RC_GTEST_PROP(MergeLaw, OrderDoesNotMatter, ()) {
  const Entries a = some_entries(), b = some_entries();
  in_both_precisions([&]<class Real>(const Real*) {
    expect_same(merged(whole<Real>(a), whole<Real>(b)), merged(whole<Real>(b), whole<Real>(a)));
  });
}

RC_GTEST_PROP(MergeLaw, GroupingDoesNotMatter, ()) {
  const Entries first = some_entries(), second = some_entries(), third = some_entries();
  in_both_precisions([&]<class Real>(const Real*) {
    const auto a = whole<Real>(first), b = whole<Real>(second), c = whole<Real>(third);
    expect_same(merged(merged(a, b), c), merged(a, merged(b, c)));
  });
}

RC_GTEST_PROP(MergeLaw, APartThatKeepsNothingChangesNothing, ()) {
  const Entries entries = some_entries();
  in_both_precisions([&]<class Real>(const Real*) {
    const auto a = whole<Real>(entries), nothing = whole<Real>(Entries{});
    expect_same(merged(a, nothing), a);
    expect_same(merged(nothing, a), a);
  });
}

RC_GTEST_PROP(MergeLaw, ASinkIsAKeyOfValueZero, ()) {
  const Entries entries = some_entries();
  const double sink = *rc::gen::inRange(-5000, 5001) * 0.01;
  in_both_precisions([&]<class Real>(const Real*) {
    Result<Real> with_sink = whole<Real>(entries);
    Partial<Real> into{with_sink.o.data(), with_sink.lse};
    add_sink(into, static_cast<Real>(sink), kColumns);
    with_sink.lse = into.lse;
    expect_same(with_sink, whole<Real>(both(entries, {{sink}, std::vector<double>(kColumns, 0.0)})));
  });
}

}  // namespace
}  // namespace tilewise::tiles
