// Figure 3 of the FlashAttention paper: time and memory of attention against length, measured.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "alternation.h"
#include "machine.h"

namespace tilewise::cli {

struct Figure3Options {
  MachineOptions machine{.isa = "", .threads = 0};
  std::vector<std::int64_t> lengths{128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
  std::int64_t dim = 64;
  std::int64_t heads = 1;
  std::int64_t block = 128;
  double seconds = 0.5;
  double time_limit = 0;  // none
};

/// In the order of the figure.
enum Figure3Method : std::size_t { standard, tilewise_dense, block_sparse, kFigure3Methods };

/// One method at one length: either measured, or why not.
struct Figure3Point {
  std::string skipped;
  Timing forward, backward;
  std::int64_t extra_bytes = 0;     // beyond inputs, outputs and gradients, as known before the run
  std::int64_t measured_bytes = 0;  // growth of resident memory in the first calls
  double tiles_kept = 1;

  double best() const { return forward.best + backward.best; }
};

struct Figure3Row {
  std::int64_t length = 0;
  std::array<Figure3Point, kFigure3Methods> points;
};

/// "standard attention", ...
const char* name_of(Figure3Method method);

/// Throws Error(invalid_argument) on options that make no sense, before anything is measured.
void check(const Figure3Options& options);

/// Every length and method. Progress goes to standard error.
std::vector<Figure3Row> measure_figure3(const Figure3Options& options, const Machine& machine);

}  // namespace tilewise::cli
