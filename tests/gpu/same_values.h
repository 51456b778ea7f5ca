// Arrays that two ways of calling have written.
#pragma once

#include <gtest/gtest.h>

#include <cmath>

#include "tests/attention/oracle.h"

namespace tilewise::attention::testing {

/// Value for value; rows of no sequence stay NaN.
inline void expect_same(const reference::Array& a, const reference::Array& b) {
  const auto same = [](double x, double y) { return x == y || (std::isnan(x) && std::isnan(y)); };
  for (std::int64_t i = 0; i < a.size(); ++i) ASSERT_TRUE(same(a.get(i), b.get(i))) << i;
}

}  // namespace tilewise::attention::testing
