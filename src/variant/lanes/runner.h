// Runs a lane program over tiles of scores: one runner for each thread and program.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "tilewise/problem.h"
#include "variant/bindings.h"
#include "variant/lanes/program.h"
#include "variant/place.h"

namespace tilewise::variant {

/// A strip of the caller's in the program's layout, whose rows are `stride` words apart. Words are float32 for reals,
/// int32 for ints, and 0 or -1 for bools.
struct TileStrip {
  void* data = nullptr;     // [outer][inner]
  std::int64_t stride = 0;  // words, at least the tile's inner extent
};

class LaneRunner {
 public:
  /// Keeps a reference to the program. `workspace`: at least program.workspace_bytes(), aligned to
  /// LaneProgram::kWorkspaceAlignment; throws Error otherwise. It holds values between runs, so it must be this
  /// runner's alone. Nothing is allocated, here or later.
  LaneRunner(const LaneProgram& program, std::span<std::byte> workspace);

  /// Moves to a sequence and head. `origin` is the place of its query index 0 and key index 0 (see place_of), whether
  /// or not an entry is there. Keeps a reference to `bound`.
  void enter(const Bound& bound, const Place& origin);

  /// Computes the outputs over a tile: `outputs` has one strip for each root. `score` and `seed` are only read, where
  /// the program reads them. An output may lie where `score` or `seed` does if the program has no other output.
  /// Throws Error where the tile is larger than the program's options say.
  /// `inputs`: what the program takes over from another one's outputs.
  void run(const Box& box, TileStrip score, TileStrip seed, std::span<const TileStrip> outputs,
           std::span<const TileStrip> inputs = {});

  /// What a run over the tile will read of a table, of the largest read that is evenly spaced.
  ReadLines lines_ahead(const Box& box);

  /// The last run's value of LaneProgram::strips()[number]: one word, or one for each query, key or diagonal (those
  /// from the tile's last row, first column on).
  const std::int32_t* strip(std::size_t number) const;

 private:
  struct Shape {
    std::int64_t outer, inner;
  };

  void enter_tile(const Box& box);
  void enter_strips(const Box& box);
  void enter_window(Hoist hoist, std::int64_t begin, std::int64_t end);
  void enter_diagonals();
  void compute_diagonals(std::int64_t begin, std::int64_t end);
  std::int64_t within_window(Slot slot) const;
  bool keeps_diagonals() const { return !program_.kept_registers().empty(); }
  void run_on_strip(Hoist hoist, std::int64_t count);
  void execute(const LaneInstruction& instruction, Hoist hoist, Shape shape, std::int64_t first_row);
  void find_strip(Slot slot, Hoist hoist, std::int64_t first_row, Strip& strip) const;
  Strip strip_of(Slot slot, Hoist hoist, std::int64_t first_row) const;
  bool add_read();
  void fill(const LaneInstruction& instruction);
  void ramp(const LaneInstruction& instruction, Hoist hoist, Shape shape, std::int64_t first_row);

  const LaneProgram& program_;
  const StripOperations& operations_;
  std::int32_t* words_;  // the workspace
  const Bound* bound_ = nullptr;
  Place origin_{};
  /// Queries or keys whose values their registers hold.
  struct Window {
    std::int64_t begin = 0, end = 0;
  };
  Window query_window_, key_window_;
  Box box_;  // of the tile; empty until there is one
  // Diagonals count by query index - key index. Kept are [known_begin_, known_end_), their words starting at that of
  // window_begin_.
  std::int64_t window_begin_ = 0, known_begin_ = 0, known_end_ = 0;
  std::int64_t first_diagonal_ = 0;  // of the strip that is computed
  // Of the run in progress:
  Shape tile_{};
  TileStrip score_, seed_;
  std::span<const TileStrip> outputs_, inputs_;
};

}  // namespace tilewise::variant
