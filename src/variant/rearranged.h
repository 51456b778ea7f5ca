// A variant's scores as kernels for 16-bit inputs compute them: the same numbers by fewer operations on an entry.
//
// What multiplies or is added to the score is gathered in front of the entries, in the class of what it depends on:
// softcap's 30 tanh(scale x / 30) log2(e) is u tanh(v x) with two uniform numbers, ALiBi's is u x + a number of the
// diagonal. Reals that nothing but reals follow from are free: operations on them may be contracted, and approximate
// where inputs of 16 bits hide it. Whatever reaches a mask, a condition, an int or an index stays as it is recorded.
#pragma once

#include <vector>

#include "variant/graph.h"

namespace tilewise::variant {

/// An exponent as factor * value + Rearranged::of_query + of_diagonal, where its value depends on the product and,
/// besides, on nothing of the key's: in a tile whose diagonals all have the same value, a row's exponents differ by
/// their values alone.
struct ExponentParts {
  NodeId factor = kNoNode;  // uniform; none is 1
  NodeId value = kNoNode;   // none: the exponent is no such sum
  NodeId of_diagonal = kNoNode;
};

/// An exponent whose score is a factor times tanh(uniform * product): for products whose square is at most
/// `square_limit`, a cubic of them, as right as tanh.approx is.
struct SmallExponent {
  NodeId exponent = kNoNode;      // none: it is no such score. Without Rearranged::of_query
  NodeId square_limit = kNoNode;  // uniform
};

struct Rearranged {
  /// The variant's, its nodes, tables, parameters and slots as they were, and behind them what is made here.
  /// Kind::score is the product q.k, Kind::scale what it is multiplied by.
  Graph graph;
  NodeId score = kNoNode;     // after all stages; -inf where a stage removes the entry. None without score stages
  NodeId exponent = kNoNode;  // score * log2(e)
  /// The same in two: what a kernel subtracts from all exponents of a row it subtracts from the second part first.
  NodeId of_entry = kNoNode, of_query = kNoNode;  // the second of the query, or uniform; none is 0
  ExponentParts parts;
  SmallExponent small;
  NodeId slope = kNoNode;        // d(score)/d(scale * product), where asked for
  bool slope_is_finite = false;  // for finite products, so that a weight of 0 times it is 0
  std::vector<bool> is_free;     // [nodes]
};

Rearranged rearranged(const Variant::Data& data, bool with_slope);

}  // namespace tilewise::variant
