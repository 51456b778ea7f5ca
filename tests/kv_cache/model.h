// The cache as someone would write it who had endless memory and no wish to share: what the real one is held to.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>
#include <vector>

#include "tilewise/kv_cache.h"

namespace tilewise::kv_cache {

using Tokens = std::vector<std::int32_t>;

/// A sequence with rows of its own.
struct ModelSequence {
  std::int64_t domain = 0;
  Tokens tokens{};
  std::vector<float> rows{};    // [tokens], what its key rows hold in every layer and head, by row_value()
  std::vector<bool> dropped{};  // [pages]
  bool offered = true;          // commit() still offers its pages
  bool pure = true;             // rows follow from the tokens alone
  std::int64_t committed = 0;   // pages
};

/// What a model computes for a token: a function of the tokens up to it, so that a prefix has the same rows whoever
/// computes it. Exact in float32 and bfloat16.
inline float pure_row(std::int64_t domain, const Tokens& tokens, std::size_t index) {
  std::uint32_t hash = static_cast<std::uint32_t>(domain) * 2654435761u + 12345u;
  for (std::size_t i = 0; i <= index; ++i) hash = (hash ^ static_cast<std::uint32_t>(tokens[i])) * 16777619u;
  return static_cast<float>(hash >> 9);
}

/// All sequences, and what was ever committed.
struct Model {
  std::map<KvSequence, ModelSequence> sequences{};
  std::set<std::pair<std::int64_t, Tokens>> committed{};  // domain and whole prefix of each page offered
  bool all_kept = true;                                   // nothing was evicted or forgotten so far
  float next_row = 0;                                     // for rows that follow from nothing
};

}  // namespace tilewise::kv_cache
