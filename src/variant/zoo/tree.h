#pragma once

#include <algorithm>

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/frozen.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// When a depth-first walk enters each node and when it has left the node's subtree.
struct WalkTimes {
  std::vector<std::int32_t> enter, exit;  // [nodes]
};

///
/// `parents`: [nodes], each -1 or a number below its own index, so a subtree's size is known once its last node is.
inline WalkTimes walk(const std::vector<std::int32_t>& parents) {
  const std::size_t nodes = parents.size();
  std::vector<std::int32_t> size(nodes, 1);
  for (std::size_t node = nodes; node-- > 0;) {
    if (parents[node] >= 0) size[static_cast<std::size_t>(parents[node])] += size[node];
  }
  WalkTimes times{std::vector<std::int32_t>(nodes), std::vector<std::int32_t>(nodes)};
  std::vector<std::int32_t> next(nodes);  // when the next child of a node is entered
  std::int32_t next_root = 0;
  for (std::size_t node = 0; node < nodes; ++node) {
    std::int32_t& time = parents[node] < 0 ? next_root : next[static_cast<std::size_t>(parents[node])];
    times.enter[node] = time;
    next[node] = time + 1;
    time += size[node];
    times.exit[node] = time;
  }
  return times;
}

/// A tree of draft tokens behind a cached prefix: each sees the prefix, its ancestors and itself.
///
///     keep(key < prefix or enter[key - prefix] <= enter[query - prefix] < exit[key - prefix])
///
/// enter and exit are the times of a depth-first walk, so two comparisons decide ancestry. A query inside the prefix
/// sees it causally. Positions behind the tree see nothing and nothing sees them. Positions count the stored tokens,
/// not their depth in the tree.
///
/// `parents`: each token's parent as its index in this list, -1 for a root, always before its children.
/// `prefix`: cached positions before the tree, at least 0.
///
/// Source: SpecInfer (Miao et al. 2024); Medusa (Cai et al. 2024)
/// Example: tree([-1, 0, 0, 1, 1, 2], 32)
Variant tree(const std::vector<std::int32_t>& parents, std::int32_t prefix = 0) {
  const auto nodes = static_cast<std::int32_t>(parents.size());
  expect_at_least("tree", "the number of parents", nodes, 1);
  expect_between("tree", "prefix", prefix, 0, std::numeric_limits<std::int32_t>::max() - nodes);
  for (std::int32_t node = 0; node < nodes; ++node) {
    const std::int32_t parent = parents[static_cast<std::size_t>(node)];
    if (parent < -1 || parent >= node) {
      fail_argument("tree(): the parent of node {} is {}, expected -1 or a node before it", node, parent);
    }
  }
  const WalkTimes times = walk(parents);
  const Table enter = frozen("enter", times.enter), exit = frozen("exit", times.exit);
  return keep([&](const At& at) {
    const Expr query = at.query - prefix, key = at.key - prefix;
    const Expr entered = enter.clamped(query);
    const Expr descends = enter.clamped(key) <= entered && entered < exit.clamped(key);
    const Expr to_prefix = at.key < prefix && at.query >= at.key && query < nodes;
    return to_prefix || (inside(query, nodes) && inside(key, nodes) && descends);
  });
}

}  // namespace tilewise::zoo
