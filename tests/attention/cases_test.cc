// Variants that together use all that a variant can: tables of every kind, parameters, several stages, sinks.
#include <gtest/gtest.h>

#include "tests/attention/oracle.h"
#include "tests/reference/attention_cases.h"
#include "tilewise/error.h"

namespace tilewise::attention::testing {
namespace {

TEST(Cases, AreCloseForwardAndBackward) {
  std::vector<reference::Shape> shapes{reference::ordinary_shape(), uniform(2, 4, 2, 60, 131, 8, 8)};
  for (std::uint64_t seed = 1; seed <= 40; ++seed) shapes.push_back(reference::random_shape(seed));
  const std::size_t count = reference::attention_cases(shapes[0], 1).size();
  for (std::size_t i = 0; i < count; ++i) {
    Oracle oracle(DType::float32, true);
    std::string name;
    int refused = 0;
    for (std::size_t j = 0; j < shapes.size(); ++j) {
      const auto cases = reference::attention_cases(shapes[j], j);
      const reference::Case& c = cases[i];
      name = c.name;
      Bound bound;
      for (const reference::TableData& table : c.tables) {
        bound.tables.push_back({table.table(), table.view()});
        bound.shapes.push_back({table.table(), table.extents()});
      }
      bound.parameters = c.parameters;
      try {
        for (std::uint64_t seed : {1, 100, 200}) oracle.run(c.variant, shapes[j], bound, seed + j, c.scale);
      } catch (const Error& error) {
        // The tables fit the call, but not always the plan's longest sequence at aligned ends.
        ASSERT_NE(std::string(error.what()).find("table"), std::string::npos) << error.what();
        ++refused;
      }
    }
    EXPECT_LT(refused, 10) << name;
    oracle.expect_close(name);
  }
}

}  // namespace
}  // namespace tilewise::attention::testing
