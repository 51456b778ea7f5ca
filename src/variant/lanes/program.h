// The lane program of a graph: straight-line code over strips, one list of instructions for each hoisting class.
//
// A program is immutable and shared between threads; runner.h runs it.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/isa.h"
#include "variant/graph.h"
#include "variant/hoist.h"
#include "variant/lanes/strip.h"
#include "variant/lanes/table_read.h"

namespace tilewise::variant {

/// How a tile of scores lies in memory: scores[outer][inner].
enum class TileLayout : std::uint8_t {
  queries_inner,  // scores[key][query], S^T
  keys_inner,     // scores[query][key]
};

/// Where a word of a lane program lives: in a register of a class's shape, or in a strip of the caller's.
enum class Space : std::uint8_t {
  uniform,   // [kUniformWords], all the same word
  query,     // [queries]
  key,       // [keys]
  diagonal,  // [queries + keys - 1], from the tile's last row, first column
  entry,     // [rows of a block][inner]
  score,     // the caller's, [outer][inner]
  seed,      // the caller's, [outer][inner]
  output,    // the caller's, [outer][inner]; register is its number
  input,     // the caller's, [outer][inner]: what another program left; register is its number
};
inline constexpr int kRegisterSpaces = 5;          // those before `score`
inline constexpr std::int64_t kUniformWords = 16;  // a whole vector of any instruction set
inline constexpr std::int64_t kBlockWords = 1024;  // 4 KiB: the registers of a block stay in the first-level cache

constexpr Space space_of(Hoist hoist) { return static_cast<Space>(hoist); }

struct Slot {
  Space space = Space::uniform;
  std::uint32_t place = 0;  // number of the register or output
};

/// Scores, a keep, and three ints for each term of a conjunction.
inline constexpr int kMostLaneOperands = 2 + 3 * kMostKeptTerms;

struct LaneInstruction {
  enum class Kind : std::uint8_t {
    strip,  // function(operands)
    ramp,   // a coordinate of the query or the key along its strip
    read,   // a table
    fill,   // a uniform value known when a sequence and head are entered
  };
  Kind kind = Kind::strip;
  std::uint8_t operand_count = 0;
  StripFunction function = nullptr;
  Slot result;
  std::array<Slot, kMostLaneOperands> operands{};
  Node leaf;                                // ramp, fill: where the value comes from
  std::int32_t table = 0;                   // read
  std::array<IndexStep, kMaxRank> steps{};  // read: for each index
};

struct LaneOptions {
  TileLayout layout = TileLayout::queries_inner;
  std::int64_t most_queries = 0;  // of any tile, above 0
  std::int64_t most_keys = 0;
  Isa isa = Isa::baseline;
  /// Values of diagonals that are kept from tile to tile while sequence and head stay (queries_inner only), since tiles
  /// share them: memory for so many of each. 0: every tile computes its own.
  std::int64_t kept_diagonals = 0;
  /// Values of queries and of keys are computed for so many at a time, from the first of a tile on, and serve all tiles
  /// among them: those of neighbouring strips overlap. At least as many as a tile's; 0: for a tile's own.
  std::int64_t query_window = 0, key_window = 0;
  bool hoist = true;  // false: every operation is computed for each entry (for tests)
};

class LaneProgram {
 public:
  /// The values of `roots` at every entry of a tile, one output strip for each. Throws Error where a tile's largest
  /// extents are not positive.
  LaneProgram(const Graph& graph, std::span<const NodeId> roots, const LaneOptions& options);

  /// Bytes of workspace that a run needs, aligned to kWorkspaceAlignment.
  std::int64_t workspace_bytes() const { return workspace_words_ * std::int64_t{sizeof(std::int32_t)}; }
  static constexpr std::int64_t kWorkspaceAlignment = 64;

  const LaneOptions& options() const { return options_; }
  std::size_t outputs() const { return outputs_; }

  /// Registers of the values that a run leaves besides its outputs, none of them of the class `entry`.
  const std::vector<Slot>& strips() const { return strips_; }

  /// Whether tables are read at entries.
  bool reads_at_entries() const {
    return std::any_of(instructions(Hoist::entry).begin(), instructions(Hoist::entry).end(),
                       [](const LaneInstruction& one) { return one.kind == LaneInstruction::Kind::read; });
  }

  /// Whether all that is done at entries is to read a table and to add what was read to a strip.
  bool only_adds_read() const { return only_adds_read_; }

  /// In order of execution. Uniform registers hold while sequence and head stay, query and key ones while the tile's
  /// queries or keys stay.
  const std::vector<LaneInstruction>& instructions(Hoist hoist) const {
    return instructions_[static_cast<std::size_t>(hoist)];
  }

  /// Where the kept values of a diagonal register that entries read start in the workspace, in words.
  std::int64_t kept_start(Slot slot) const { return kept_starts_[slot.place]; }
  /// The registers that have them.
  const std::vector<Slot>& kept_registers() const { return kept_registers_; }

  /// Where a register starts in the workspace, in words, and how many it has.
  std::int64_t start(Slot slot) const {
    return starts_[static_cast<std::size_t>(slot.space)] + slot.place * register_words(slot.space);
  }
  std::int64_t register_words(Space space) const { return words_[static_cast<std::size_t>(space)]; }
  bool has_registers(Space space) const { return has_registers_[static_cast<std::size_t>(space)]; }

 private:
  friend class Lowering;
  LaneProgram() = default;

  LaneOptions options_;
  std::size_t outputs_ = 0;
  bool only_adds_read_ = false;
  std::vector<Slot> strips_;
  std::vector<std::int64_t> kept_starts_;  // [diagonal registers]; -1: not kept
  std::vector<Slot> kept_registers_;
  std::array<std::vector<LaneInstruction>, kRegisterSpaces> instructions_;
  std::array<std::int64_t, kRegisterSpaces> words_{}, starts_{};
  std::array<bool, kRegisterSpaces> has_registers_{};
  std::int64_t workspace_words_ = 0;
};

}  // namespace tilewise::variant
