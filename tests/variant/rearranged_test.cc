// Rearranged scores: what is left to an entry, and what must stay as it is recorded.
#include "variant/rearranged.h"

#include <gtest/gtest.h>

#include <set>

#include "tilewise/zoo.h"
#include "variant/cuda_text.h"
#include "variant/hoist.h"
#include "variant/operations/operations.h"

namespace tilewise::variant {
namespace {

/// The names of the operations that an entry has to do for `root`.
std::multiset<std::string> work_of_entry(const Graph& graph, NodeId root) {
  const std::vector<Hoist> classes = hoisting_classes(graph);
  std::vector<bool> needed(graph.size(), false);
  needed[root] = true;
  std::multiset<std::string> work;
  for (NodeId id = root + 1; id-- > 0;) {
    if (!needed[id] || classes[id] != Hoist::entry) continue;
    for (const NodeId operand : graph[id].inputs()) needed[operand] = true;
    if (graph[id].kind == Kind::operation) work.emplace(kInfo[static_cast<std::size_t>(graph[id].index)].name);
  }
  return work;
}

using Work = std::multiset<std::string>;

TEST(Rearranged, LittleIsLeftToAnEntry) {
  const auto exponent_of = [](const Variant& variant) {
    const Rearranged made = rearranged(variant.data(), false);
    return work_of_entry(made.graph, made.exponent);
  };
  EXPECT_EQ(exponent_of(zoo::softcap(30)), (Work{"mul", "mul", "tanh"}));
  EXPECT_EQ(exponent_of(zoo::alibi(16)), (Work{"add", "mul"}));
  EXPECT_EQ(exponent_of(zoo::temperature(1.5)), (Work{"mul"}));
  EXPECT_EQ(exponent_of(zoo::log_n_scaling(1024)), (Work{"mul"}));
  EXPECT_EQ(exponent_of(zoo::relative_position(128)), (Work{"add", "mul"}));
}

TEST(Rearranged, SlopesThatAreFinite) {
  EXPECT_TRUE(rearranged(zoo::softcap(30).data(), true).slope_is_finite);
  EXPECT_TRUE(rearranged(zoo::alibi(16).data(), true).slope_is_finite);
  EXPECT_FALSE(rearranged(score([](Expr s, const At&) { return sqrt(s); }).data(), true).slope_is_finite);
}

// What a condition rests on is not free; what the score alone rests on is.
TEST(Rearranged, ConditionsStayAsTheyAreRecorded) {
  const Variant variant =
      score([](Expr s, const At& at) { return select(to_real(at.query - at.key) * 0.3 < 5.0, s * 0.7, s); });
  const Rearranged made = rearranged(variant.data(), false);
  const std::vector<Hoist> classes = hoisting_classes(made.graph);
  int of_condition = 0;
  for (NodeId id = 0; id < variant.data().graph.size(); ++id) {
    const Node& node = made.graph[id];
    if (node.kind != Kind::operation || node.index != number_of<Multiplication> || classes[id] == Hoist::entry)
      continue;
    EXPECT_FALSE(made.is_free[id]);
    ++of_condition;
  }
  EXPECT_EQ(of_condition, 1);
  EXPECT_TRUE(made.is_free[made.exponent]);
}

TEST(Rearranged, ArgumentsLieWhereTheExactTextHasThem) {
  for (const Variant& variant : {zoo::softcap(30), zoo::alibi(16) & zoo::window(7), zoo::t5_buckets()}) {
    const ArgumentLayout exact = cuda_text(variant).layout;
    for (const bool with_slope : {false, true}) {
      const ArgumentLayout layout = rearranged_cuda_text(variant, DType::bfloat16, with_slope).layout;
      EXPECT_EQ(layout.size, exact.size);
      EXPECT_EQ(layout.tables, exact.tables);
      EXPECT_EQ(layout.literals, exact.literals);
    }
  }
}

}  // namespace
}  // namespace tilewise::variant
