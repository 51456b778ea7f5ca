// Every named variant, forward and backward.
#include <gtest/gtest.h>

#include "tests/attention/zoo_entries.h"

namespace tilewise::attention::testing {
namespace {

struct Zoo : ::testing::TestWithParam<const zoo::Entry*> {
  void expect_close(DType dtype) const {
    testing::expect_close(*GetParam(), dtype, {{{16, 8}, {8, 24}, {5, 3}, {16, 8}, {8, 24}}});
  }
};

TEST_P(Zoo, IsCloseInFloat32) { expect_close(DType::float32); }
TEST_P(Zoo, IsCloseInBfloat16) { expect_close(DType::bfloat16); }
TEST_P(Zoo, IsCloseInFloat16) { expect_close(DType::float16); }

INSTANTIATE_TEST_SUITE_P(All, Zoo, ::testing::ValuesIn(all_entries()),
                         [](const auto& of) { return std::string(of.param->name); });

}  // namespace
}  // namespace tilewise::attention::testing
