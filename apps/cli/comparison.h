// Variants timed beside plain attention and beside the machine's peak, all in turn.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "alternation.h"
#include "attention_case.h"
#include "machine.h"
#include "progress.h"

namespace tilewise::cli {

/// What is measured of one variant, shape and direction. "Plain" is the same shape without a variant.
struct ComparedRow {
  std::string variant, direction, instruction_set;
  std::int64_t dim = 0, queries = 0, keys = 0;
  Timing timing;
  double flops = 0, peak_gflops = 0;
  double kept_share = 1, kept_entries = 1;  // of tiles (AttentionCase::kept_share), of entries
  double plain_best = 0;                    // seconds

  double gflops(double seconds) const { return flops / seconds * 1e-9; }
  /// Rate on kept entries, of plain attention's.
  double of_plain() const { return kept_entries * plain_best / timing.best; }
  /// Time, of what plain attention takes for the kept share of tiles.
  double of_share() const { return kept_share > 0 ? timing.best / (kept_share * plain_best) : 0; }
};

struct Comparison {
  std::vector<std::string> variants;  ///< In their textual form; the first is plain.
  CaseShape shape;                    ///< `backward` says which direction is timed.
  std::vector<std::string> parameters{};
  double seconds = 0;
  int rounds = 1;
};

/// The assignments, each NAME=VALUE, for the parameters that a variant has.
std::vector<std::string> parameters_of(const Variant& variant, const std::vector<std::string>& given);

/// A row for each variant. Every round begins with a burst of multiply-adds, whose best rate is the rows' peak; a GPU's
/// peak is the published one of known_gpus(), 0 where it is not among them.
std::vector<ComparedRow> compare(const Comparison& comparison, const Machine& machine, Progress& progress);

Json row_json(const ComparedRow& row);

}  // namespace tilewise::cli
