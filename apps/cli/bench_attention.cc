// tilewise bench attention: how fast, beside the machine's peak and beside plain attention.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>

#include "bars.h"
#include "command.h"
#include "comparison.h"
#include "new_file.h"
#include "peers.h"
#include "table.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::cli {
namespace {

struct Options {
  MachineOptions machine;
  std::vector<std::string> variants;
  bool zoo = false;
  std::vector<std::int64_t> dims{64, 128};
  std::optional<std::int64_t> queries;  // 32 x dim; 16384 on a GPU
  std::optional<std::int64_t> keys;     // as many as queries
  std::int64_t batch = 1;
  std::optional<std::int64_t> heads;     // 1; 2048 / dim on a GPU
  std::optional<std::int64_t> kv_heads;  // as many as heads
  std::string dtype;                     // float32; bfloat16 on a GPU
  std::string direction = "both";
  std::vector<std::string> parameters;
  double seconds = 10;
  int rounds = 3;
  std::string plot;
  std::string python = "python3";  // of peers on a GPU; "" for none
};

bool on_gpu(const Options& options) { return options.machine.device != "cpu"; }

std::int64_t heads_of(const Options& options, std::int64_t dim) {
  return options.heads.value_or(on_gpu(options) ? std::max<std::int64_t>(2048 / dim, 1) : 1);
}

std::int64_t queries_of(const Options& options, std::int64_t dim) {
  return options.queries.value_or(on_gpu(options) ? 16384 : 32 * dim);
}

std::string dtype_of(const Options& options) {
  if (!options.dtype.empty()) return options.dtype;
  return on_gpu(options) ? "bfloat16" : "float32";
}

/// Plain and causal attention; score functions, cheap, transcendental and from a learned table; masks down to 1% kept.
std::vector<std::string> usual_variants(std::int64_t heads, std::int64_t queries) {
  const std::int64_t window = std::max<std::int64_t>(queries / 8, 1), narrow = std::max<std::int64_t>(queries / 64, 1);
  return {"plain",
          "causal()",
          fmt::format("alibi({})", heads),
          "softcap(30)",
          "relative_position(128)",
          fmt::format("window({})", window),
          fmt::format("window({})", narrow),
          fmt::format("documents([{0}, {0}, {0}, {1}])", queries / 4, queries - 3 * (queries / 4))};
}

std::vector<std::string> variants_of(const Options& options, const CaseShape& shape) {
  std::vector<std::string> wanted{"plain"};
  const auto add = [&wanted](const std::string& text) {
    if (std::ranges::find(wanted, text) == wanted.end()) wanted.push_back(text);
  };
  for (const std::string& text : options.variants) add(text);
  if (options.zoo) {
    for (const zoo::Entry& entry : zoo::entries()) add(std::string(entry.example));
  }
  if (wanted.size() > 1 || !options.variants.empty()) return wanted;
  return usual_variants(shape.h_q, shape.s_q);
}

CaseShape shape_of(const Options& options, std::int64_t dim, bool backward) {
  const std::int64_t queries = queries_of(options, dim), heads = heads_of(options, dim);
  return {.b = options.batch,
          .h_q = heads,
          .h_kv = options.kv_heads.value_or(heads),
          .s_q = queries,
          .s_kv = options.keys.value_or(queries),
          .d = dim,
          .dtype = dtype_from_string(dtype_of(options)),
          .backward = backward};
}

void check(const Options& options) {
  expect(options.direction == "forward" || options.direction == "backward" || options.direction == "both",
         fmt::format("--direction is '{}', expected forward, backward or both", options.direction));
  expect(options.seconds >= 0, fmt::format("--seconds is {}, expected 0 or more", options.seconds));
  expect(options.rounds >= 1, fmt::format("--rounds is {}, expected at least 1", options.rounds));
  expect(options.batch >= 1, fmt::format("--batch is {}, expected at least 1", options.batch));
  if (!options.plot.empty()) expect_picture_path(options.plot);
  expect(!options.dims.empty(), "--dim is empty, expected at least one dimension");
  expect_kernels_dtype(dtype_of(options));
  for (std::int64_t dim : options.dims) {
    expect(dim >= 1, fmt::format("--dim is {}, expected at least 1", dim));
    const CaseShape shape = shape_of(options, dim, false);
    expect(shape.s_q >= 1 && shape.s_kv >= 1,
           fmt::format("--queries is {} and --keys is {}, expected at least 1: nothing to measure", shape.s_q,
                       shape.s_kv));
    Problem::uniform(shape.b, shape.h_q, shape.h_kv, shape.s_q, shape.s_kv).validate();
    std::vector<std::string> unused = options.parameters;
    for (const std::string& text : variants_of(options, shape)) {
      for (const std::string& used : parameters_of(parse_variant(text), options.parameters)) std::erase(unused, used);
    }
    expect(unused.empty(), fmt::format("--parameter {}: no variant has a parameter '{}'", fmt::join(unused, ", "),
                                       unused.empty() ? "" : unused[0].substr(0, unused[0].find('='))));
  }
}

std::vector<ComparedRow> measure_all(const Options& options, const Machine& machine) {
  check(options);
  std::vector<bool> directions;
  if (options.direction != "backward") directions.push_back(false);
  if (options.direction != "forward") directions.push_back(true);
  Progress progress(static_cast<int>(options.dims.size() * directions.size()));
  std::vector<ComparedRow> rows;
  double peak = 0;  // the best burst of the whole run, for all rows
  for (std::int64_t dim : options.dims) {
    for (const bool backward : directions) {
      progress.step(fmt::format("d {} {}", dim, backward ? "backward" : "forward"));
      const CaseShape shape = shape_of(options, dim, backward);
      const Comparison comparison{.variants = variants_of(options, shape),
                                  .shape = shape,
                                  .parameters = options.parameters,
                                  .seconds = options.seconds,
                                  .rounds = options.rounds};
      for (ComparedRow& row : compare(comparison, machine, progress)) {
        peak = std::max(peak, row.peak_gflops);
        rows.push_back(std::move(row));
      }
    }
  }
  for (ComparedRow& row : rows) row.peak_gflops = peak;
  return rows;
}

/// What rates are told in.
struct Unit {
  const char* name;
  double gflops;
};
Unit unit_of(const Machine& machine) { return machine.device().is_cuda() ? Unit{"TFLOP/s", 1e3} : Unit{"GFLOP/s", 1}; }

/// Shares of the peak, a group for each dimension and direction.
BarChart bars_of(const Options& options, const Machine& machine, const std::vector<ComparedRow>& rows) {
  const std::int64_t heads = heads_of(options, options.dims.front());
  const Unit unit = unit_of(machine);
  BarChart chart{
      fmt::format("Attention, {}: {}, {} head{}", dtype_of(options), machine.text(), heads, heads == 1 ? "" : "s"),
      fmt::format("share of {:.0f} {}", rows.front().peak_gflops / unit.gflops, unit.name),
      {}};
  for (const ComparedRow& row : rows) {
    const std::string title = fmt::format("d {}, s {}, {}", row.dim, row.queries, row.direction);
    if (chart.groups.empty() || chart.groups.back().title != title) chart.groups.push_back({title, {}});
    const double best = row.gflops(row.timing.best), peak = row.peak_gflops > 0 ? row.peak_gflops : best;
    chart.groups.back().bars.push_back({row.variant, best / peak, row.gflops(row.timing.median) / peak,
                                        fmt::format("{:.1f} {}", best / unit.gflops, unit.name)});
  }
  return chart;
}

/// Measures, and draws the plot where one is asked for.
std::vector<ComparedRow> answer(const Options& options, const Machine& machine) {
  std::vector<ComparedRow> rows = measure_all(options, machine);
  if (!options.plot.empty()) write_bars(bars_of(options, machine, rows), options.plot);
  return rows;
}

/// Peers have full and causal attention alone.
Peers peers_of(const Options& options, const Machine& machine, const std::vector<ComparedRow>& rows) {
  std::vector<PeerCase> cases;
  for (const ComparedRow& row : rows) {
    if (row.variant != "plain" && row.variant != "causal()") continue;
    const std::int64_t heads = heads_of(options, row.dim);
    cases.push_back({row.variant, row.direction, dtype_of(options), row.dim, row.queries, row.keys, options.batch,
                     heads, options.kv_heads.value_or(heads)});
  }
  if (!machine.device().is_cuda() || options.python.empty() || cases.empty()) return {};
  return measure_peers(cases, machine.device().ordinal(), options.python);
}

/// The row that a peer's figure stands beside.
const ComparedRow& row_of(const PeerRate& rate, const std::vector<ComparedRow>& rows) {
  return *std::ranges::find_if(rows, [&](const ComparedRow& row) {
    return row.variant == rate.of.variant && row.direction == rate.of.direction && row.dim == rate.of.dim;
  });
}

std::string peers_text(const Peers& peers, const std::vector<ComparedRow>& rows, const Unit& unit) {
  std::string text;
  if (!peers.rates.empty()) {
    TextTable table({"peer", "variant", "d", "direction", unit.name, "Tilewise's median beside it"});
    for (const PeerRate& rate : peers.rates) {
      const ComparedRow& row = row_of(rate, rows);
      table.add({rate.peer, row.variant, fmt::format("{}", row.dim), row.direction,
                 fmt::format("{:.1f}", row.gflops(rate.seconds) / unit.gflops),
                 fmt::format("{:.3f}", rate.seconds / row.timing.median)});
    }
    text =
        fmt::format("\n{}\nPeers run after Tilewise, by PyTorch, medians too: clocks and power may differ by then.\n",
                    table.text());
  }
  return peers.problem.empty() ? text : text + fmt::format("\nPeers: {}\n", peers.problem);
}

std::string answer_text(const Options& options) {
  const Machine machine(options.machine);
  const std::vector<ComparedRow> rows = answer(options, machine);
  const Unit unit = unit_of(machine);
  TextTable table({"variant", "d", "s", "direction", unit.name, "median", "of peak", "median", "of plain",
                   "entries kept", "tiles kept", "time/(share x plain)"});
  for (const ComparedRow& row : rows) {
    const double best = row.gflops(row.timing.best), median = row.gflops(row.timing.median);
    const auto share = [](double value) { return fmt::format("{:.3f}", value); };
    const auto of_peak = [&](double gflops) { return row.peak_gflops > 0 ? share(gflops / row.peak_gflops) : "-"; };
    table.add({row.variant, fmt::format("{}", row.dim), fmt::format("{}", row.queries), row.direction,
               fmt::format("{:.1f}", best / unit.gflops), fmt::format("{:.1f}", median / unit.gflops), of_peak(best),
               of_peak(median), share(row.of_plain()), fmt::format("{:.2f}%", 100 * row.kept_entries),
               fmt::format("{:.2f}%", 100 * row.kept_share), share(row.of_share())});
  }
  const std::int64_t heads = heads_of(options, options.dims.front());
  return fmt::format(
      "{}, {}, {}/{} heads, batch {}; peak {:.1f} {} ({})\n\n{}\n"
      "The rate counts 2 (d_qk + d_v) FLOPs a kept entry forward and 2.5 times that backward, over the best call; the\n"
      "median beside it. `of plain` is the rate beside plain attention's; tiles are of {} entries, and the last\n"
      "column is the time beside plain attention's for that share of it: what a mask costs beyond its kept "
      "tiles.\n{}{}",
      machine.text(), dtype_of(options), heads, options.kv_heads.value_or(heads), options.batch,
      rows.front().peak_gflops / unit.gflops, unit.name,
      machine.device().is_cuda() ? "published, bfloat16"
                                 : rows.front().instruction_set + " multiply-adds, measured in turn",
      table.text(), machine.device().is_cuda() ? "128 x 128" : "64 x 64",
      peers_text(peers_of(options, machine, rows), rows, unit),
      options.plot.empty() ? "" : fmt::format("\nThe plot is in {}\n", options.plot));
}

Json answer_json(const Options& options) {
  const Machine machine(options.machine);
  Json list = Json::array(), peer_list = Json::array();
  const std::vector<ComparedRow> rows = answer(options, machine);
  for (const ComparedRow& row : rows) list.push_back(row_json(row));
  const Peers peers = peers_of(options, machine, rows);
  for (const PeerRate& rate : peers.rates) {
    peer_list.push_back({{"peer", rate.peer},
                         {"variant", rate.of.variant},
                         {"direction", rate.of.direction},
                         {"dim", rate.of.dim},
                         {"seconds_median", rate.seconds},
                         {"gflops_median", row_of(rate, rows).gflops(rate.seconds)}});
  }
  return {{"machine", machine.json()},
          {"dtype", dtype_of(options)},
          {"batch", options.batch},
          {"heads", heads_of(options, options.dims.front())},
          {"kv_heads", options.kv_heads.value_or(heads_of(options, options.dims.front()))},
          {"rows", list},
          {"peers", peer_list},
          {"peers_problem", peers.problem}};
}

void add_options(CLI::App& command, Options& options) {
  command.add_option("--variant", options.variants, "A variant to measure beside plain attention; may be repeated");
  command.add_flag("--zoo", options.zoo, "Measure the example of every named variant");
  command.add_option("--dim", options.dims, "Head dimensions")->capture_default_str()->delimiter(',');
  command.add_option("--queries", options.queries, "Queries of each sequence; 32 x dim by default, 16384 on a GPU");
  command.add_option("--keys", options.keys, "Keys of each sequence; as many as queries by default");
  command.add_option("--batch", options.batch, "Sequences")->capture_default_str();
  command.add_option("--heads", options.heads, "Query heads; 1 by default, 2048 / dim on a GPU");
  command.add_option("--kv-heads", options.kv_heads, "Key/value heads; as many as query heads by default");
  command.add_option("--dtype", options.dtype, "float32, float16 or bfloat16; float32 by default, bfloat16 on a GPU");
  command.add_option("--direction", options.direction, "forward, backward or both")->capture_default_str();
  command.add_option("--parameter", options.parameters, "NAME=VALUE of a parameter; may be repeated");
  command.add_option("--seconds", options.seconds, "Measure each dimension and direction at least this long")
      ->capture_default_str();
  command.add_option("--rounds", options.rounds, "Rounds at least")->capture_default_str();
  command.add_option("--plot", options.plot, "Draw shares of the peak into this .png or .svg file");
  command
      .add_option("--peers", options.python,
                  "On a GPU: the Python whose PyTorch has FlashAttention-2 and cuDNN to compare with; '' for none")
      ->capture_default_str();
  add_machine_options(command, options.machine);
  add_device_option(command, options.machine.device);
}

}  // namespace

void add_bench_attention(CLI::App& bench) {
  CLI::App& command = *bench.add_subcommand(
      "attention", "Attention's speed here, beside the peak of multiply-adds and beside plain attention");
  const auto options = std::make_shared<Options>();
  add_options(command, *options);
  command.footer(
      "Everything that is compared runs in turn, round after round. The best call counts: other work only slows one\n"
      "down; the median tells how much it did. For figures of one core, pin it: taskset -c 1 tilewise bench ...\n"
      "Examples:\n"
      "  tilewise bench attention --plot attention.svg\n"
      "  tilewise bench attention --variant 'softcap(30)' --dim 128 --direction forward\n"
      "  tilewise bench attention --dtype bfloat16 --heads 8 --threads 0 --isa avx2\n"
      "  tilewise bench attention --device cuda\n"
      "  tilewise bench attention --queries 256 --heads 12 --seconds 2 --json");
  add_answers(
      command, [=] { return answer_text(*options); }, [=] { return answer_json(*options); });
}

}  // namespace tilewise::cli
