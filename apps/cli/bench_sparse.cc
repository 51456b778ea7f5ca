// tilewise bench sparse: long sequences under the masks of Longformer and BigBird.
#include <fmt/format.h>

#include <array>
#include <memory>

#include "chart.h"
#include "command.h"
#include "comparison.h"
#include "new_file.h"
#include "table.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

struct Options {
  MachineOptions machine{.isa = "", .threads = 0};
  std::vector<std::int64_t> lengths{4096, 8192, 16384, 32768, 65536};
  std::int64_t dim = 64;
  std::int64_t heads = 1;
  std::string dtype = "float32";
  double seconds = 2;
  std::string plot;
};

constexpr std::array<const char*, 3> kNames{"dense", "Longformer", "BigBird"};
constexpr std::array kColours{Colour{40, 90, 170}, Colour{220, 130, 40}, Colour{60, 150, 90}};

/// In the order of the names. Longformer's window is the paper's, 512, with 16 global tokens; BigBird's blocks are of
/// 64, three in the window, three random and one global.
std::vector<std::string> variants_of(std::int64_t length) {
  return {"plain", "longformer(512, 16)", fmt::format("bigbird(64, 3, 1, 3, {}, 0)", length)};
}

void check(const Options& options) {
  constexpr std::int64_t kMost = 64 * 16384;  // what bigbird() takes in blocks of 64
  expect_lengths(options.lengths, kMost);
  expect(options.dim >= 1, fmt::format("--dim is {}, expected at least 1", options.dim));
  expect(options.heads >= 1, fmt::format("--heads is {}, expected at least 1", options.heads));
  expect_kernels_dtype(options.dtype);
  expect(options.seconds >= 0, fmt::format("--seconds is {}, expected 0 or more", options.seconds));
  if (!options.plot.empty()) expect_picture_path(options.plot);
}

std::vector<ComparedRow> measure_all(const Options& options, const Machine& machine) {
  Progress progress(static_cast<int>(2 * options.lengths.size()));
  std::vector<ComparedRow> rows;
  for (std::int64_t length : options.lengths) {
    for (const bool backward : {false, true}) {
      progress.step(
          fmt::format("{} token{} {}", grouped(length), length == 1 ? "" : "s", backward ? "backward" : "forward"));
      const CaseShape shape{.h_q = options.heads,
                            .h_kv = options.heads,
                            .s_q = length,
                            .s_kv = length,
                            .d = options.dim,
                            .dtype = dtype_from_string(options.dtype),
                            .backward = backward};
      const Comparison comparison{.variants = variants_of(length), .shape = shape, .seconds = options.seconds};
      std::size_t name = 0;
      for (ComparedRow& row : compare(comparison, machine, progress)) {
        row.variant = kNames[name++];
        rows.push_back(std::move(row));
      }
    }
  }
  return rows;
}

Chart chart_of(const Options& options, const Machine& machine, const std::vector<ComparedRow>& rows) {
  Chart chart{fmt::format("Sparse attention against sequence length: {} head{}, d = {}, {}", options.heads,
                          options.heads == 1 ? "" : "s", options.dim, options.dtype),
              machine.text(),
              {}};
  for (const char* direction : {"forward", "backward"}) {
    Panel& panel = chart.panels.emplace_back(
        Panel{fmt::format("time, {}", direction), "sequence length", length_text, seconds_text, {}});
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      Series& series = panel.series.emplace_back(Series{kNames[i], kColours[i], {}, {}});
      for (const ComparedRow& row : rows) {
        if (row.variant != kNames[i] || row.direction != direction) continue;
        series.x.push_back(static_cast<double>(row.queries));
        series.y.push_back(row.timing.best);
      }
    }
  }
  return chart;
}

/// Measures, and draws the plot where one is asked for.
std::vector<ComparedRow> answer(const Options& options, const Machine& machine) {
  check(options);
  std::vector<ComparedRow> rows = measure_all(options, machine);
  if (!options.plot.empty()) write_chart(chart_of(options, machine, rows), options.plot);
  return rows;
}

std::string answer_text(const Options& options) {
  const Machine machine(options.machine);
  TextTable table({"mask", "tokens", "direction", "time", "median", "entries kept", "tiles kept", "of dense time",
                   "time/(share x dense)"});
  for (const ComparedRow& row : answer(options, machine)) {
    table.add({row.variant, grouped(row.queries), row.direction, seconds_text(row.timing.best),
               seconds_text(row.timing.median), fmt::format("{:.2f}%", 100 * row.kept_entries),
               fmt::format("{:.2f}%", 100 * row.kept_share),
               fmt::format("{:.2f}%", 100 * row.timing.best / row.plain_best), fmt::format("{:.3f}", row.of_share())});
  }
  return fmt::format(
      "{}; {} head{}, d = {}, {}\n\n{}\n"
      "Longformer  longformer(512, 16): a window of 512, 16 global tokens\n"
      "BigBird     bigbird(64, 3, 1, 3, tokens, 0): blocks of 64, three in the window, one global, three random\n"
      "Times are of the best call. Tiles are of 64 x 64 entries; the last column is the time beside dense attention's\n"
      "for that share of it, everything included that a call does.\n{}",
      machine.text(), options.heads, options.heads == 1 ? "" : "s", options.dim, options.dtype, table.text(),
      options.plot.empty() ? "" : fmt::format("\nThe plot is in {}\n", options.plot));
}

Json answer_json(const Options& options) {
  const Machine machine(options.machine);
  Json list = Json::array();
  for (const ComparedRow& row : answer(options, machine)) list.push_back(row_json(row));
  return {{"machine", machine.json()},
          {"heads", options.heads},
          {"dim", options.dim},
          {"dtype", options.dtype},
          {"rows", list}};
}

}  // namespace

void add_bench_sparse(CLI::App& bench) {
  CLI::App& command =
      *bench.add_subcommand("sparse", "Longformer's and BigBird's masks on long sequences, beside dense");
  const auto options = std::make_shared<Options>();
  command.add_option("--lengths", options->lengths, "Rising sequence lengths")->capture_default_str()->delimiter(',');
  command.add_option("--dim", options->dim, "Head dimension")->capture_default_str();
  command.add_option("--heads", options->heads, "Heads")->capture_default_str();
  command.add_option("--dtype", options->dtype, "float32, float16 or bfloat16")->capture_default_str();
  command.add_option("--seconds", options->seconds, "Measure each length and direction at least this long")
      ->capture_default_str();
  command.add_option("--plot", options->plot, "Draw times against length into this .png or .svg file");
  add_machine_options(command, options->machine);
  command.footer(
      "Longformer (Beltagy, Peters, Cohan 2020); Big Bird (Zaheer et al. 2020). No mask is stored: tiles are proven\n"
      "empty or full as the kernels walk. Other masks: tilewise bench attention --variant ...\n"
      "Examples:\n"
      "  tilewise bench sparse --plot sparse.svg\n"
      "  tilewise bench sparse --lengths 4096,16384 --threads 2 --json");
  add_answers(
      command, [=] { return answer_text(*options); }, [=] { return answer_json(*options); });
}

}  // namespace tilewise::cli
