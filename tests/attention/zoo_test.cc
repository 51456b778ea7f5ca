// Every named variant, forward and backward.
#include <gtest/gtest.h>

#include "tests/attention/oracle.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::attention::testing {
namespace {

class Zoo : public ::testing::TestWithParam<const zoo::Entry*> {
 protected:
  void expect_close(DType dtype) const {
    const Variant variant = parse_variant(std::string(GetParam()->example));
    Oracle oracle(dtype, true), decoding(dtype, false);
    // Four heads on two key heads; more keys than a tile has, and a strip's edge.
    reference::Shape shapes[] = {uniform(2, 4, 2, 49, 150, 16, 8), uniform(1, 4, 2, 131, 131, 8, 24),
                                 uniform(1, 2, 1, 97, 33, 5, 3)};
    shapes[2].sequences[0].query_offset = 0;  // positions below 0 are not for every variant
    std::uint64_t seed = 1;
    for (const reference::Shape& shape : shapes)
      oracle.run(variant, shape, bind_random(variant, problem_of(shape), seed), seed), ++seed;
    oracle.expect_close(std::string(GetParam()->name));
    for (const reference::Shape& shape : {uniform(2, 4, 2, 1, 150, 16, 8), uniform(1, 4, 2, 3, 1100, 8, 24)})
      decoding.run(variant, shape, bind_random(variant, problem_of(shape), seed), seed), ++seed;
    decoding.expect_close(std::string(GetParam()->name) + ", decoding");
  }
};

TEST_P(Zoo, IsCloseInFloat32) { expect_close(DType::float32); }
TEST_P(Zoo, IsCloseInBfloat16) { expect_close(DType::bfloat16); }
TEST_P(Zoo, IsCloseInFloat16) { expect_close(DType::float16); }

std::vector<const zoo::Entry*> all_entries() {
  std::vector<const zoo::Entry*> all;
  for (const zoo::Entry& entry : zoo::entries()) all.push_back(&entry);
  return all;
}

INSTANTIATE_TEST_SUITE_P(All, Zoo, ::testing::ValuesIn(all_entries()),
                         [](const auto& of) { return std::string(of.param->name); });

}  // namespace
}  // namespace tilewise::attention::testing
