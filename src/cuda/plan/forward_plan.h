// Tiles, stages and registers of the forward kernel: plain arithmetic, no GPU needed.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jit/architecture.h"
#include "tilewise/tensor.h"

namespace tilewise::cuda {

/// What a forward kernel is compiled for, besides the variant.
struct ForwardShape {
  DType dtype = DType::bfloat16;  // of q, k, v and o: bfloat16, float16 or float32; or float8_e4m3, of q, k and v
  int d_qk = 128, d_v = 128;      // multiples of 8 from 8 to 256
  bool has_lists = false;         // key tiles come from lists; else all are visited
  bool has_small_parts = false;   // what lists keep lies in parts of tiles, so that smaller tiles hold much less
  bool has_long_rows = false;     // backward, some lists are far longer than most
  bool has_dropout = false;
  bool has_max_score = false;       // the largest score of each head is asked for
  bool is_paged = false;            // k and v lie in pages
  int page_multiple = 1;            // of which its pages' tokens are one: 16, 8 or 1
  bool values_in_keys = false;      // v is the first columns of k, in decoding
  bool has_gradients = false;       // of tables and parameters, by a backward kernel
  bool is_deterministic = false;    // a backward pass gives the same bits every time
  bool is_aligned = true;           // every row of q, k, v and o begins at a multiple of 16 bytes
  DType o_dtype = DType::bfloat16;  // of o, where dtype is float8_e4m3
  int short_keys = 0;               // no sequence has more keys than these 512 or 1024; 0: some may

  /// Of pages of so many tokens.
  static int page_multiple_of(std::int64_t tokens) { return tokens % 16 == 0 ? 16 : tokens % 8 == 0 ? 8 : 1; }
  /// Of sequences of up to so many keys.
  static int short_keys_of(std::int64_t keys) { return keys <= 512 ? 512 : keys <= 1024 ? 1024 : 0; }
};

/// A tile as lists hold it, and the parts of it of which their entries tell whether a mask cuts them (Visit,
/// device/walk.h).
struct ListTile {
  std::int64_t queries = 0, keys = 0;
  std::int64_t part_queries = 64, part_keys = keys / 2;
  bool ends_with_queries = false;  // the last query tile does so, and the first begins ahead of its sequence

  bool operator==(const ListTile&) const = default;
};

/// What the blocks of one multiprocessor share.
struct Multiprocessor {
  std::int64_t shared_bytes = 0;            // of all blocks
  std::int64_t shared_bytes_per_block = 0;  // the most that one can have
  int registers = 65536;
  static constexpr std::int64_t kReservedShared = 1024;  // that every block takes besides its own

  /// By NVIDIA's tables of compute capabilities. Those that are not listed count as the smallest, 8.6.
  static Multiprocessor of(const jit::Architecture& architecture);
};

/// How many numbers of 4 bytes are kept of each query, key and diagonal of a tile for a variant, in static shared
/// memory (device/lane_scores.h): by a block, or forward, where tiles may be on lines, by each warp for its own
/// queries.
struct KeptFields {
  int query = 0, key = 0, diagonal = 0;
  bool may_be_on_lines = false;  // the forward kernel looks for tiles whose diagonals' values lie on a line
  bool are_of_scores = false;    // the variant has score functions

  /// Of a tile, with so many stages of queries, of keys and of diagonals.
  std::int64_t bytes(int queries, int keys, int query_stages, int key_stages, int diagonal_stages) const {
    return std::int64_t{4} *
           (query * queries * query_stages + key * keys * key_stages + diagonal * (queries + keys) * diagonal_stages);
  }
};

/// Bytes of a tile's row in shared memory: whole lines, see device/shared_tile.h.
std::int64_t shared_row_bytes(int columns, DType dtype);

/// Columns as products take them: in whole 16s.
int rounded_to_16(int columns);

/// What a thread needs of registers besides its matrices, at most: addresses, fragments on their way, row statistics,
/// and the pieces that float32 is split into.
int other_registers(DType dtype);

struct ForwardPlan {
  int warps = 4;
  int row_blocks = 2;  // of 16 queries, in a warp
  int key_tile = 64;
  int stages = 3;                   // tiles of k and v in shared memory: at hand, next and on its way
  int blocks = 1;                   // on a multiprocessor at a time
  bool query_in_registers = false;  // q stays there; else it is read from shared memory for every tile

  int query_tile() const { return warps * row_blocks * 16; }

  /// With a part for each warp, or for every two of them.
  ListTile tile() const {
    constexpr int kMostParts = 6;  // device/walk.h
    const int rows = row_blocks * 16;
    return {query_tile(), key_tile, warps > kMostParts ? 2 * rows : rows, key_tile};
  }

  int threads() const { return warps * 32; }

  /// Dynamic shared memory of a block: one tile of queries and `stages` of keys and values, each row in whole lines of
  /// 128 bytes.
  std::int64_t shared_bytes(const ForwardShape& shape) const;

  /// Registers that a thread's matrices take: the output, two tiles' scores, and q where it stays.
  int matrix_registers(const ForwardShape& shape) const;

  /// Registers that a thread may have when `blocks` share a multiprocessor.
  int register_limit(const Multiprocessor& limits) const;

  /// Static shared memory of a block: what it keeps of a variant's values, and lines that tiles' diagonals lie on.
  std::int64_t kept_bytes(const KeptFields& kept) const;

  /// Whether `blocks` of this plan share a multiprocessor without spilling.
  bool fits(const ForwardShape& shape, const Multiprocessor& limits, const KeptFields& kept = {}) const;

  /// "128 x 64, 4 warps, 2 stages, 2 blocks".
  std::string text() const;

  bool operator==(const ForwardPlan&) const = default;
};

/// Throws Error(unsupported) for a dtype or head dimensions that no forward kernel takes.
void validate(const ForwardShape& shape);

/// Plans worth measuring, the one that is believed best first; not empty, since a plan that fits exists for every valid
/// shape on every GPU from 8.0 on.
std::vector<ForwardPlan> forward_candidates(const ForwardShape& shape, const Multiprocessor& limits,
                                            const KeptFields& kept = {});

/// The first of the candidates.
ForwardPlan choose_forward(const ForwardShape& shape, const Multiprocessor& limits, const KeptFields& kept = {});

}  // namespace tilewise::cuda
