// tilewise bench figure3: time and memory against length, as in Figure 3 of the FlashAttention paper.
#include "figure3.h"

#include <fmt/format.h>

#include <memory>

#include "chart.h"
#include "command.h"
#include "new_file.h"
#include "table.h"

namespace tilewise::cli {
namespace {

struct Options : Figure3Options {
  std::string plot;
};

constexpr std::array<const char*, kFigure3Methods> kKeys{"standard", "tilewise", "block_sparse"};  // in JSON
constexpr std::array kColours{Colour{200, 70, 60}, Colour{40, 90, 170}, Colour{60, 150, 90}};

/// Ticks stand at powers of ten.
std::string decimal_bytes_text(double bytes) {
  return bytes < 1e6   ? fmt::format("{:g} kB", bytes / 1e3)
         : bytes < 1e9 ? fmt::format("{:g} MB", bytes / 1e6)
                       : fmt::format("{:g} GB", bytes / 1e9);
}

Chart chart_of(const Options& options, const Machine& machine, const std::vector<Figure3Row>& rows) {
  Panel time{"time, forward and backward", "sequence length", length_text, seconds_text, {}};
  Panel memory{"memory besides inputs and outputs", "sequence length", length_text, decimal_bytes_text, {}};
  for (std::size_t method = 0; method < kFigure3Methods; ++method) {
    Series times{name_of(static_cast<Figure3Method>(method)), kColours[method], {}, {}}, bytes = times;
    for (const Figure3Row& row : rows) {
      const Figure3Point& point = row.points[method];
      if (!point.skipped.empty()) continue;
      times.x.push_back(static_cast<double>(row.length));
      times.y.push_back(point.best());
      bytes.x.push_back(static_cast<double>(row.length));
      bytes.y.push_back(static_cast<double>(point.extra_bytes));
    }
    time.series.push_back(times);
    memory.series.push_back(bytes);
  }
  return {fmt::format("Attention against sequence length: {} head{}, d = {}, float32", options.heads,
                      options.heads == 1 ? "" : "s", options.dim),
          machine.text(),
          {time, memory}};
}

/// Measures, and draws the plot where one is asked for.
std::vector<Figure3Row> answer(const Options& options, const Machine& machine) {
  check(options);
  if (!options.plot.empty()) expect_picture_path(options.plot);
  std::vector<Figure3Row> rows = measure_figure3(options, machine);
  if (!options.plot.empty()) write_chart(chart_of(options, machine, rows), options.plot);
  return rows;
}

std::string answer_text(const Options& options) {
  const Machine machine(options.machine);
  TextTable table({"tokens", "standard", "memory", "measured", "Tilewise", "memory", "measured", "block-sparse",
                   "memory", "measured", "tiles kept"});
  for (const Figure3Row& row : answer(options, machine)) {
    std::vector<std::string> cells{grouped(row.length)};
    for (const Figure3Point& point : row.points) {
      if (!point.skipped.empty()) {
        const bool is_known = point.extra_bytes > 0;  // tiled attention is not even planned then
        cells.insert(cells.end(),
                     {point.skipped, is_known ? bytes_text(static_cast<double>(point.extra_bytes)) : "", ""});
        continue;
      }
      cells.push_back(seconds_text(point.best()));
      cells.push_back(bytes_text(static_cast<double>(point.extra_bytes)));
      cells.push_back(bytes_text(static_cast<double>(point.measured_bytes)));
    }
    const Figure3Point& sparse = row.points[block_sparse];
    if (sparse.skipped.empty()) cells.push_back(fmt::format("{:.2f}%", 100 * sparse.tiles_kept));
    table.add(std::move(cells));
  }
  return fmt::format(
      "{}; {} head{}, d = {}, float32, forward and backward, the best of the calls in {} s\n\n{}\n"
      "standard      matrix products by OpenBLAS, softmax between them; keeps weights and their gradients, two\n"
      "              matrices of tokens x tokens, until they no longer fit\n"
      "block-sparse  blocks of {} tokens see those whose number differs in one bit (a butterfly)\n"
      "memory        besides inputs, outputs and gradients, as the plan tells before the run (its workspace, and\n"
      "              lse); `measured` is how far resident memory grew in the first calls\n{}",
      machine.text(), options.heads, options.heads == 1 ? "" : "s", options.dim, options.seconds, table.text(),
      options.block, options.plot.empty() ? "" : fmt::format("\nThe plot is in {}\n", options.plot));
}

Json point_json(const Figure3Point& point) {
  if (!point.skipped.empty()) return {{"skipped", point.skipped}};
  return {{"seconds_best", point.best()},
          {"seconds_median", point.forward.median + point.backward.median},
          {"forward_seconds_best", point.forward.best},
          {"backward_seconds_best", point.backward.best},
          {"turns", point.forward.turns},
          {"extra_bytes", point.extra_bytes},
          {"measured_bytes", point.measured_bytes},
          {"tiles_kept", point.tiles_kept}};
}

Json answer_json(const Options& options) {
  const Machine machine(options.machine);
  Json list = Json::array();
  for (const Figure3Row& row : answer(options, machine)) {
    Json one{{"length", row.length}};
    for (std::size_t method = 0; method < kFigure3Methods; ++method)
      one[kKeys[method]] = point_json(row.points[method]);
    list.push_back(one);
  }
  return {{"machine", machine.json()}, {"heads", options.heads}, {"dim", options.dim},
          {"dtype", "float32"},        {"block", options.block}, {"rows", list}};
}

}  // namespace

void add_bench_figure3(CLI::App& bench) {
  CLI::App& command = *bench.add_subcommand(
      "figure3",
      "Time and memory against length: standard, tiled and block-sparse attention (FlashAttention, Figure 3)");
  const auto options = std::make_shared<Options>();
  command.add_option("--lengths", options->lengths, "Rising sequence lengths")->capture_default_str()->delimiter(',');
  command.add_option("--dim", options->dim, "Head dimension")->capture_default_str();
  command.add_option("--heads", options->heads, "Heads")->capture_default_str();
  command.add_option("--block", options->block, "Tokens of a block of the block-sparse mask")->capture_default_str();
  command.add_option("--seconds", options->seconds, "Measure each length at least this long")->capture_default_str();
  command
      .add_option("--time-limit", options->time_limit,
                  "Leave out what would end later than this many seconds after the start; 0 for no limit")
      ->capture_default_str();
  command.add_option("--plot", options->plot, "Draw both panels of the figure into this .png or .svg file");
  add_machine_options(command, options->machine);
  command.footer(
      "Dao, Fu, Ermon, Rudra and Re, FlashAttention (2022), Figure 3. All methods of a length run in turn.\n"
      "Examples:\n"
      "  tilewise bench figure3 --plot figure3.svg\n"
      "  tilewise bench figure3 --time-limit 60 --threads 2\n"
      "  tilewise bench figure3 --lengths 1024,4096 --heads 8 --json");
  add_answers(
      command, [=] { return answer_text(*options); }, [=] { return answer_json(*options); });
}

}  // namespace tilewise::cli
