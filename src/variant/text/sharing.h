// Which parts of a graph a text names with `let`, so that reading it back shares what the graph shares.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "variant/graph.h"

namespace tilewise::variant {

/// Where a node is written.
inline constexpr std::int32_t kInline = -1;      // wherever it is used
inline constexpr std::int32_t kEverywhere = -2;  // named before all roots: more than one of them uses it

/// For each node kInline, kEverywhere, or the number of the root at whose head it is named.
///
/// Named are: what is used more than once and contains a literal, because a literal that is written twice is two; large
/// parts that are used more than once, so that a text grows no faster than its graph; and parts of what nests too deep.
std::vector<std::int32_t> named_parts(const Graph& graph, std::span<const NodeId> roots);

}  // namespace tilewise::variant
