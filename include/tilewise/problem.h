// The shape of an attention problem: its heads, and each sequence's lengths and positions.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace tilewise {

/// One sequence. Its queries have the indices [0, s_q); its keys have [0, s_kv), of which those from key_start on
/// exist.
///
/// position = offset + index, and token = first token + index. Positions and tokens lie in int32.
struct Sequence {
  std::int64_t s_q = 0;
  std::int64_t s_kv = 0;
  std::optional<std::int64_t> query_offset{};  ///< Position of query index 0; by default key_offset + s_kv - s_q.
  std::int64_t key_offset = 0;                 ///< Position of key index 0.
  std::int64_t key_start = 0;                  ///< First valid key index, in [0, s_kv]: what is before is left padding.
  std::int64_t first_query_token = 0;          ///< Row of query index 0 in the storage of the whole batch.
  std::int64_t first_key_token = 0;            ///< Row of key index 0 in the storage of the whole batch.

  /// The given query_offset, or the default, with which the last query and the last key share a position.
  std::int64_t first_query_position() const { return query_offset.value_or(key_offset + s_kv - s_q); }
};

/// Heads and sequences of one call.
struct Problem {
  std::int64_t h_q = 1;
  std::int64_t h_kv = 1;              ///< Divides h_q: query head i is served by key/value head i / (h_q / h_kv).
  std::vector<Sequence> sequences{};  // [b]

  /// `b` sequences of equal lengths: tensors q [b, h_q, s_q, d_qk] and k [b, h_kv, s_kv, d_qk].
  /// Throws Error(invalid_argument) on negative sizes and ones above int32.
  static Problem uniform(std::int64_t b, std::int64_t h_q, std::int64_t h_kv, std::int64_t s_q, std::int64_t s_kv);

  /// Sequences of the given lengths, one behind the other in packed storage. Throws Error(invalid_argument) when the
  /// two lists differ in number or a length is negative or above int32.
  static Problem packed(std::int64_t h_q, std::int64_t h_kv, std::span<const std::int64_t> s_q,  // [b]
                        std::span<const std::int64_t> s_kv);                                     // [b]

  /// Makes the sequences those of uniform(), in the memory that is there. Throws as that.
  void set_uniform(std::int64_t b, std::int64_t s_q, std::int64_t s_kv);

  std::int64_t b() const { return static_cast<std::int64_t>(sequences.size()); }

  /// Throws Error(invalid_argument) naming what is wrong: a negative length, h_q not a positive multiple of h_kv,
  /// key_start outside [0, s_kv], positions or tokens outside int32.
  void validate() const;
};

/// A rectangle of one sequence's entries: query indices [query_begin, query_end) and key indices [key_begin, key_end).
struct Box {
  std::int64_t query_begin = 0, query_end = 0;
  std::int64_t key_begin = 0, key_end = 0;

  bool is_empty() const { return query_begin >= query_end || key_begin >= key_end; }
  std::int64_t entries() const { return is_empty() ? 0 : (query_end - query_begin) * (key_end - key_begin); }
  friend bool operator==(const Box&, const Box&) = default;
};

}  // namespace tilewise
