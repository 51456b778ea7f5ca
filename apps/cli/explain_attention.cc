// tilewise explain attention: a variant's mathematics, its tiles, and the memory traffic that follows.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>

#include "attention_case.h"
#include "child.h"
#include "command.h"
#include "machine.h"
#include "measured_traffic.h"
#include "picture.h"
#include "stand_ins.h"
#include "table.h"
#include "tilewise/attention.h"
#include "tilewise/error.h"
#include "tilewise/tiles.h"
#include "tilewise/variant.h"

namespace tilewise::cli {
namespace {

struct Options {
  std::string variant = "plain";
  std::int64_t batch = 1;
  std::int64_t heads = 8;
  std::optional<std::int64_t> kv_heads;  // as many as heads
  std::int64_t queries = 1024;
  std::optional<std::int64_t> keys;  // as many as queries
  std::int64_t dim = 128;
  std::optional<std::int64_t> dim_v;  // as dim
  std::string dtype = "bfloat16";
  std::int64_t tile_queries = 128;
  std::int64_t tile_keys = 128;
  std::int64_t head = 0;
  std::int64_t sequence = 0;
  std::optional<std::int64_t> query_offset;
  std::vector<std::string> parameters;  // name=value
  std::string plot;
  std::string device;  // of a plan to be explained
  bool backward = false;
  std::string counters = "ncu";     // the program that reads a GPU's
  std::vector<std::int64_t> calls;  // forward and backward ones, for that program to watch
};

/// FlashAttention's Algorithm 1 at one size of fast memory, for the whole call without a mask.
struct LawPoint {
  std::int64_t fast_memory;  // M, in bytes
  Traffic tiled;
  double law;  // N^2 d^2 / M elements, in bytes
};

/// Everything that both answers tell.
struct Explanation {
  Variant variant;
  Problem problem;
  TileMap map;
  EntryCount entries;
  std::string stand_ins;
  TrafficShape shape;       // of one head; all sequences are alike
  double heads = 0;         // query heads of all sequences
  Traffic standard, tiled;  // forward, of the whole call
  Traffic standard_backward, tiled_backward;
  std::vector<LawPoint> law;
};

Problem problem_of(const Options& options) {
  if (options.batch < 1)
    throw Error(ErrorCode::invalid_argument, fmt::format("--batch is {}, expected at least 1", options.batch));
  Problem problem = Problem::uniform(options.batch, options.heads, options.kv_heads.value_or(options.heads),
                                     options.queries, options.keys.value_or(options.queries));
  for (Sequence& sequence : problem.sequences) sequence.query_offset = options.query_offset;
  problem.validate();
  return problem;
}

TrafficShape shape_of(const Options& options, const Problem& problem) {
  const std::int64_t element = size_of(dtype_from_string(options.dtype));
  const Sequence& sequence = problem.sequences.at(0);
  return {.s_q = sequence.s_q,
          .s_kv = sequence.s_kv,
          .d_qk = options.dim,
          .d_v = options.dim_v.value_or(options.dim),
          .bytes_q = element,
          .bytes_kv = element,
          .bytes_o = element,
          .bytes_s = element};
}

Traffic times(double count, const Traffic& traffic) { return {count * traffic.read, count * traffic.written}; }

void add(Traffic& sum, const Traffic& traffic) {
  sum.read += traffic.read;
  sum.written += traffic.written;
}

/// Adds up every sequence's and head's tiles.
void add_tiled_traffic(Explanation& e, const Bindings& bindings, TileSizes tile) {
  for (std::int64_t sequence = 0; sequence < e.problem.b(); ++sequence) {
    for (std::int64_t head = 0; head < e.problem.h_q; ++head) {
      const TileMap map = classify_tiles(e.variant, bindings, e.problem, tile, sequence, head);
      add(e.tiled, tiled_forward_traffic(e.shape, map));
      add(e.tiled_backward, tiled_backward_traffic(e.shape, map));
    }
  }
}

/// The law at M = 16 KiB to 16 MiB, in steps of 4.
std::vector<LawPoint> law_of(const TrafficShape& shape, double heads) {
  std::vector<LawPoint> points;
  const double d = static_cast<double>(shape.d_qk + shape.d_v) / 2,
               entries = static_cast<double>(shape.s_q) * static_cast<double>(shape.s_kv);
  for (std::int64_t fast_memory = std::int64_t{16} << 10; fast_memory <= std::int64_t{16} << 20; fast_memory *= 4) {
    const std::int64_t elements = fast_memory / shape.bytes_q;
    if (elements < 4 * std::max(shape.d_qk, shape.d_v)) continue;  // not one key and query fit
    const double law = heads * entries * d * d / static_cast<double>(elements) * static_cast<double>(shape.bytes_q);
    points.push_back({fast_memory, times(heads, flash_forward_traffic(shape, elements)), law});
  }
  return points;
}

Explanation explain(const Options& options) {
  Explanation e;
  e.variant = parse_variant(options.variant);
  e.problem = problem_of(options);
  e.shape = shape_of(options, e.problem);
  e.heads = static_cast<double>(e.problem.b() * e.problem.h_q);
  const StandIns stand_ins(e.variant, e.problem, options.parameters);
  e.stand_ins = stand_ins.text();
  const TileSizes tile{options.tile_queries, options.tile_keys};
  e.map = classify_tiles(e.variant, stand_ins.bindings(), e.problem, tile, options.sequence, options.head);
  e.entries = count_entries(e.variant, stand_ins.bindings(), e.problem, options.sequence, options.head);
  e.standard = times(e.heads, standard_forward_traffic(e.shape));
  e.standard_backward = times(e.heads, standard_backward_traffic(e.shape));
  add_tiled_traffic(e, stand_ins.bindings(), tile);
  e.law = law_of(e.shape, e.heads);
  return e;
}

/// The map's tiles, gathered into cells so that the picture has at most `most` rows and columns. A cell of unlike tiles
/// is partial: so is what it covers.
Grid grid_of(const Explanation& e, std::int64_t most) {
  const TileMap& map = e.map;
  const std::int64_t gather = std::max<std::int64_t>(1, (std::max(map.rows, map.columns) + most - 1) / most);
  Grid grid;
  grid.rows = (map.rows + gather - 1) / gather;
  grid.columns = (map.columns + gather - 1) / gather;
  grid.cells.resize(static_cast<std::size_t>(grid.rows * grid.columns));
  grid.styles = {{"empty", "·", {245, 245, 245}}, {"partial", "▒", {255, 170, 60}}, {"full", "█", {40, 90, 170}}};
  grid.title = to_string(e.variant).substr(0, 160);
  grid.row_axis = fmt::format("queries, {} a row", gather * map.tile.queries);
  grid.column_axis = fmt::format("keys, {} a column", gather * map.tile.keys);
  for (std::int64_t row = 0; row < grid.rows; ++row) {
    for (std::int64_t column = 0; column < grid.columns; ++column) {
      const TileClass first = map.at(row * gather, column * gather);
      bool alike = true;
      for (std::int64_t i = row * gather; i < std::min((row + 1) * gather, map.rows); ++i) {
        for (std::int64_t j = column * gather; j < std::min((column + 1) * gather, map.columns); ++j)
          alike &= map.at(i, j) == first;
      }
      grid.at(row, column) = static_cast<std::uint8_t>(alike ? first : TileClass::partial);
    }
  }
  return grid;
}

std::string percent(double share) { return fmt::format("{:.2f}%", 100 * share); }

std::string tiles_text(const Explanation& e) {
  const double all = static_cast<double>(std::max<std::int64_t>(e.map.rows * e.map.columns, 1));
  TextTable table({"tiles", "number", "share"});
  table.add({"empty", grouped(e.map.empty), percent(static_cast<double>(e.map.empty) / all)});
  table.add({"partial", grouped(e.map.partial), percent(static_cast<double>(e.map.partial) / all)});
  table.add({"full", grouped(e.map.full), percent(static_cast<double>(e.map.full) / all)});
  const double entries = static_cast<double>(std::max<std::int64_t>(e.entries.all, 1));
  return table.text() +
         (e.entries.is_exact()
              ? fmt::format("entries kept: {} of {} ({})\n", grouped(e.entries.least), grouped(e.entries.all),
                            percent(static_cast<double>(e.entries.least) / entries))
              : fmt::format("entries kept: {} to {} of {} (the rest depends on scores)\n", grouped(e.entries.least),
                            grouped(e.entries.most), grouped(e.entries.all)));
}

std::string traffic_text(const Explanation& e) {
  TextTable table({"predicted traffic, whole call", "read", "written", "in all"});
  const auto row = [&table](const char* name, const Traffic& traffic) {
    table.add({name, bytes_text(traffic.read), bytes_text(traffic.written), bytes_text(traffic.total())});
  };
  row("forward, standard attention", e.standard);
  row("forward, tiled, kept tiles only", e.tiled);
  row("backward, standard attention", e.standard_backward);
  row("backward, tiled, kept tiles only", e.tiled_backward);
  TextTable law({"fast memory M", "Algorithm 1", "N^2 d^2 / M", "ratio", "standard / Algorithm 1"});
  for (const LawPoint& point : e.law) {
    law.add({bytes_text(static_cast<double>(point.fast_memory)), bytes_text(point.tiled.total()), bytes_text(point.law),
             fmt::format("{:.1f}", point.tiled.total() / point.law),
             fmt::format("{:.1f}", e.standard.total() / point.tiled.total())});
  }
  return table.text() +
         "\nThe law O(N^2 d^2 / M): what FlashAttention's Algorithm 1 moves forward, without a mask, its tiles as "
         "large as fast\n"
         "memory allows. The ratio stays constant until all keys fit at once.\n\n" +
         law.text();
}

/// What a device's plan says of itself.
std::string plan_text(const Options& options) {
  const Variant variant = parse_variant(options.variant);
  const std::int64_t keys = options.keys.value_or(options.queries);
  const Problem problem =
      Problem::uniform(options.batch, options.heads, options.kv_heads.value_or(options.heads), options.queries, keys);
  const StandIns stand_ins(variant, problem, options.parameters);
  PlanShape shape{.dtype = dtype_from_string(options.dtype),
                  .b = options.batch,
                  .h_q = problem.h_q,
                  .h_kv = problem.h_kv,
                  .d_qk = options.dim,
                  .d_v = options.dim_v.value_or(options.dim),
                  .s_q = options.queries,
                  .s_kv = keys,
                  .backward = options.backward,
                  .query_offset = options.query_offset};
  for (const auto& [table, data] : stand_ins.bindings().tables)
    shape.tables.push_back({table, {data.extents.begin(), data.extents.begin() + data.rank}});
  return Attention(variant).plan(shape, device_from_string(options.device)).explain();
}

/// What is measured has one head dimension, and its last query at its last key.
std::string problem_of_measuring(const Options& options) {
  if (!device_from_string(options.device).is_cuda()) return "hardware counters are read on GPUs alone";
  if (options.dim_v.value_or(options.dim) != options.dim) return "calls are measured with --dim-v as --dim";
  return options.query_offset ? "calls are measured without --query-offset" : "";
}

/// This program, called to make so many forward and backward calls of the problem: they are to follow.
std::string calls_command(const Options& options) {
  const auto text = [](std::int64_t number) { return std::to_string(number); };
  std::vector<std::string> words{std::filesystem::read_symlink("/proc/self/exe"), "explain", "attention"};
  const auto add = [&words](const char* option, const std::string& value) {
    words.insert(words.end(), {option, value});
  };
  add("--variant", options.variant);
  add("--batch", text(options.batch));
  add("--heads", text(options.heads));
  add("--kv-heads", text(options.kv_heads.value_or(options.heads)));
  add("--queries", text(options.queries));
  add("--keys", text(options.keys.value_or(options.queries)));
  add("--dim", text(options.dim));
  add("--dtype", options.dtype);
  add("--device", options.device);
  for (const std::string& parameter : options.parameters) add("--parameter", parameter);
  if (options.backward) words.emplace_back("--backward");
  std::string command;
  for (const std::string& word : words) command += quoted(word) + " ";
  return command + "--calls";
}

MeasuredTraffic measured_traffic(const Options& options) {
  if (const std::string problem = problem_of_measuring(options); !problem.empty()) return {{}, {}, problem};
  return measure_traffic(options.counters, calls_command(options), options.backward);
}

/// Makes the calls that a profiler watches.
void make_calls(const Options& options) {
  expect(options.calls.size() == 2 && options.calls[0] >= 1 && (options.calls[1] == 0 || options.backward),
         "--calls is how many forward and backward calls to make, of a plan for both");
  AttentionCase made(parse_variant(options.variant),
                     {.b = options.batch,
                      .h_q = options.heads,
                      .h_kv = options.kv_heads.value_or(options.heads),
                      .s_q = options.queries,
                      .s_kv = options.keys.value_or(options.queries),
                      .d = options.dim,
                      .dtype = dtype_from_string(options.dtype),
                      .backward = options.backward},
                     device_from_string(options.device), options.parameters);
  for (std::int64_t i = 0; i < options.calls[0]; ++i) made.forward();
  for (std::int64_t i = 0; i < options.calls[1]; ++i) made.backward();
  made.finish();
}

std::string answer_text(const Options& options) {
  if (!options.calls.empty()) {
    make_calls(options);
    return "";
  }
  const Explanation e = explain(options);
  const auto plotted =
      options.plot.empty() ? std::string() : fmt::format("\nThe map of tiles is in {}\n", options.plot);
  if (!options.plot.empty()) write_picture(grid_of(e, 1024), options.plot);
  const std::string plan = options.device.empty()
                               ? std::string()
                               : fmt::format("\nThe plan on {}:\n{}traffic by hardware counters: {}\n", options.device,
                                             plan_text(options), measured_text(measured_traffic(options)));
  return fmt::format(
      "{}\n\n{}{} sequence{}, {}/{} heads, {} queries, {} keys, d = {}/{}, {}; tiles of {} x {}; this is head "
      "{}\n\n{}\n{}\n{}{}{}",
      to_string(e.variant), e.stand_ins, options.batch, options.batch == 1 ? "" : "s", e.problem.h_q, e.problem.h_kv,
      options.queries, e.problem.b() > 0 ? e.problem.sequences[0].s_kv : 0, e.shape.d_qk, e.shape.d_v, options.dtype,
      options.tile_queries, options.tile_keys, options.head, tiles_text(e), terminal_picture(grid_of(e, 48)),
      traffic_text(e), plan, plotted);
}

Json traffic_json(const Traffic& traffic) { return {{"read", traffic.read}, {"written", traffic.written}}; }

Json measured_json(const MeasuredTraffic& measured) {
  const auto direction = [](const std::optional<Traffic>& of) { return of ? traffic_json(*of) : Json(); };
  return {{"forward", direction(measured.forward)},
          {"backward", direction(measured.backward)},
          {"problem", measured.problem}};
}

Json answer_json(const Options& options) {
  const Explanation e = explain(options);
  if (!options.plot.empty()) write_picture(grid_of(e, 1024), options.plot);
  Json law = Json::array();
  for (const LawPoint& point : e.law) {
    law.push_back({{"fast_memory", point.fast_memory}, {"tiled", traffic_json(point.tiled)}, {"law", point.law}});
  }
  return {
      {"variant", to_string(e.variant)},
      {"plan", options.device.empty() ? Json() : Json(plan_text(options))},
      {"traffic_measured", options.device.empty() ? Json() : measured_json(measured_traffic(options))},
      {"key", e.variant.key()},
      {"tiles",
       {{"queries", e.map.tile.queries},
        {"keys", e.map.tile.keys},
        {"rows", e.map.rows},
        {"columns", e.map.columns},
        {"empty", e.map.empty},
        {"partial", e.map.partial},
        {"full", e.map.full},
        {"kept_share", e.map.kept_share()}}},
      {"entries", {{"least", e.entries.least}, {"most", e.entries.most}, {"all", e.entries.all}}},
      {"traffic",
       {{"forward", {{"standard", traffic_json(e.standard)}, {"tiled", traffic_json(e.tiled)}}},
        {"backward", {{"standard", traffic_json(e.standard_backward)}, {"tiled", traffic_json(e.tiled_backward)}}}}},
      {"law", law}};
}

void add_options(CLI::App& command, Options& options) {
  command.add_option("--variant", options.variant, "The variant, in its textual form")->capture_default_str();
  command.add_option("--queries", options.queries, "Queries of each sequence")->capture_default_str();
  command.add_option("--keys", options.keys, "Keys of each sequence; as many as queries by default");
  command.add_option("--batch", options.batch, "Sequences")->capture_default_str();
  command.add_option("--heads", options.heads, "Query heads")->capture_default_str();
  command.add_option("--kv-heads", options.kv_heads, "Key/value heads; as many as query heads by default");
  command.add_option("--dim", options.dim, "Head dimension of q and k")->capture_default_str();
  command.add_option("--dim-v", options.dim_v, "Head dimension of v; as --dim by default");
  command.add_option("--dtype", options.dtype, "float64, float32, float16 or bfloat16")->capture_default_str();
  command.add_option("--tile-queries", options.tile_queries, "Queries of a tile")->capture_default_str();
  command.add_option("--tile-keys", options.tile_keys, "Keys of a tile")->capture_default_str();
  command.add_option("--head", options.head, "The head whose tiles are shown")->capture_default_str();
  command.add_option("--sequence", options.sequence, "The sequence whose tiles are shown")->capture_default_str();
  command.add_option("--query-offset", options.query_offset,
                     "Position of the first query; by default the last query stands at the last key");
  command.add_option("--parameter", options.parameters, "NAME=VALUE of a parameter; may be repeated");
  command.add_option("--plot", options.plot, "Draw the map of tiles into this .png or .svg file");
  command.add_option("--device", options.device, "Also make a plan for cpu, cuda or cuda:1, and let it explain itself");
  command.add_flag("--backward", options.backward, "A plan with a backward pass; beside --device");
  command
      .add_option("--counters", options.counters,
                  "With a GPU: Nsight Compute's program, which reads the traffic off its counters; '' for none")
      ->capture_default_str();
  command.add_option("--calls", options.calls)->delimiter(',')->group("");  // measured_traffic.h
}

}  // namespace

void add_explain_attention(CLI::App& explain) {
  CLI::App& command =
      *explain.add_subcommand("attention", "A variant's mathematics, its tiles, and its memory traffic");
  const auto options = std::make_shared<Options>();
  add_options(command, *options);
  command.footer(
      "Examples:\n"
      "  tilewise explain attention --variant 'window(1024) & softcap(30)' --queries 4096\n"
      "  tilewise explain attention --variant 'keep(query >= key and query - key < 512)' --plot tiles.svg\n"
      "  tilewise explain attention --variant 'documents([300, 500, 224])' --tile-queries 64 --tile-keys 64 --json\n"
      "`tilewise variants` lists the names; docs/textual_form.md has the grammar.");
  add_answers(
      command, [=] { return answer_text(*options); }, [=] { return answer_json(*options); });
}

}  // namespace tilewise::cli
