// What each value of a variant depends on, so that a reading computes it once for all entries that share it.
#pragma once

#include <cstdint>
#include <vector>

#include "variant/graph.h"

namespace tilewise::variant {

/// What a value depends on besides the sequence and the head, which every class may depend on.
enum class Hoist : std::uint8_t {
  uniform,   // nothing else: lengths, offsets, parameters, literals
  query,     // the query
  key,       // the key
  diagonal,  // query - key
  entry,     // both, the score or the seed
};

/// The class of a function of values of both classes.
Hoist joined(Hoist a, Hoist b);

/// "uniform", "query", ...
const char* to_string(Hoist hoist);

/// An int that is query * (the query's coordinate) + key * (the key's coordinate) + a uniform number, modulo 2^32.
/// The query's position, index and token differ by numbers of the sequence alone, as the key's do, so each of them
/// has coefficient 1. Both coefficients are the same in every call: literals, bound at the call, are not looked into.
struct Affine {
  bool known = false;
  std::uint32_t query = 0;
  std::uint32_t key = 0;

  friend bool operator==(const Affine&, const Affine&) = default;
};

struct Dependence {
  Hoist hoist = Hoist::entry;
  Affine form;  // unknown for reals, bools and ints that are not affine
};

/// What every node depends on: the narrowest class that operands and affine forms prove. As int32 wraps, equal
/// query - key modulo 2^32 gives equal values of every diagonal node, without exception.
std::vector<Dependence> dependences(const Graph& graph);

/// The classes alone.
std::vector<Hoist> hoisting_classes(const Graph& graph);

/// Whether a value is the same for all of a sequence's entries of equal query - key. More of them are than have the
/// class: comparisons of a query's coordinate with a key's, which both grow by 1 from entry to entry, and whatever
/// operations make of such.
bool follows_diagonals(const Graph& graph, NodeId root);

}  // namespace tilewise::variant
