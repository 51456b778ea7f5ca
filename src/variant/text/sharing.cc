#include "variant/text/sharing.h"

#include <algorithm>

#include "variant/operations/operations.h"
#include "variant/text/words.h"

namespace tilewise::variant {
namespace {

// A shared part without literals is written out again up to this many nodes: query - key reads better than a name.
constexpr std::size_t kLargestRepeated = 9;

// Reading nests at most two levels for one of these; kMaxNesting of the parser leaves room.
constexpr int kDeepestInline = 60;

constexpr std::int32_t kUnused = -3;

/// The one root that uses each node, or kEverywhere, or kUnused.
std::vector<std::int32_t> users(const Graph& graph, std::span<const NodeId> roots) {
  std::vector<std::int32_t> user(graph.size(), kUnused);
  const auto add = [&](NodeId id, std::int32_t root) {
    user[id] = user[id] == kUnused || user[id] == root ? root : kEverywhere;
  };
  for (std::size_t i = 0; i < roots.size(); ++i) add(roots[i], static_cast<std::int32_t>(i));
  for (std::size_t id = graph.size(); id-- > 0;) {
    if (user[id] == kUnused) continue;
    for (NodeId operand : graph[static_cast<NodeId>(id)].inputs()) add(operand, user[id]);
  }
  return user;
}

std::vector<std::size_t> use_counts(const Graph& graph, std::span<const NodeId> roots,
                                    const std::vector<std::int32_t>& user) {
  std::vector<std::size_t> count(graph.size());
  for (NodeId root : roots) ++count[root];
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (user[id] == kUnused) continue;
    for (NodeId operand : graph[id].inputs()) ++count[operand];
  }
  return count;
}

/// What is known of a node's text.
struct Extent {
  bool has_literal = false;
  std::size_t size = 1;  // nodes written
  int depth = 0;         // operations inside of each other; a chain of operators that group from the left is one
};

/// An operator on the left that needs no parentheses goes on with its chain.
bool continues(const Graph& graph, const Node& node, std::size_t place) {
  const Node& operand = graph[node.operands[place]];
  if (place != 0 || node.kind != Kind::operation || operand.kind != Kind::operation) return false;
  return fix_of(node.index) == Fix::infix && fix_of(operand.index) == Fix::infix &&
         kInfo[static_cast<std::size_t>(operand.index)].precedence >= left_binding(node.index);
}

Extent extent_of(const Graph& graph, const Node& node, const std::vector<Extent>& extents,
                 const std::vector<std::int32_t>& home) {
  Extent extent;
  extent.has_literal = node.kind == Kind::literal;
  for (std::size_t i = 0; i < node.operand_count; ++i) {
    const NodeId operand = node.operands[i];
    extent.has_literal |= extents[operand].has_literal;
    const Extent written = home[operand] == kInline ? extents[operand] : Extent{};
    // Sizes are compared with a small number only; the cap keeps those of shared towers from overflowing.
    extent.size = std::min(extent.size + written.size, 2 * kLargestRepeated);
    extent.depth = std::max(extent.depth, written.depth + (continues(graph, node, i) ? 0 : 1));
  }
  return extent;
}

}  // namespace

std::vector<std::int32_t> named_parts(const Graph& graph, std::span<const NodeId> roots) {
  const std::vector<std::int32_t> user = users(graph, roots);
  const std::vector<std::size_t> uses = use_counts(graph, roots, user);
  std::vector<std::int32_t> home(graph.size(), kInline);
  std::vector<Extent> extents(graph.size());
  for (NodeId id = 0; id < graph.size(); ++id) {
    if (user[id] == kUnused) continue;
    extents[id] = extent_of(graph, graph[id], extents, home);
    const Extent& extent = extents[id];
    const bool is_shared = uses[id] > 1 && (extent.has_literal || extent.size > kLargestRepeated);
    if (is_shared || extent.depth >= kDeepestInline) home[id] = user[id];
  }
  return home;
}

}  // namespace tilewise::variant
