// tilewise explain attention: a variant's mathematics, its tiles, and the memory traffic that follows.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <memory>

#include "command.h"
#include "picture.h"
#include "table.h"
#include "tilewise/error.h"
#include "tilewise/tiles.h"
#include "tilewise/traffic.h"
#include "tilewise/variant.h"

namespace tilewise::cli {
namespace {

struct Options {
  std::string variant = "plain";
  std::int64_t batch = 1;
  std::int64_t heads = 8;
  std::int64_t kv_heads = 0;  // 0: as many as heads
  std::int64_t queries = 1024;
  std::int64_t keys = -1;  // -1: as many as queries
  std::int64_t dim = 128;
  std::int64_t dim_v = 0;  // 0: as dim
  std::string dtype = "bfloat16";
  std::int64_t tile_queries = 128;
  std::int64_t tile_keys = 128;
  std::int64_t head = 0;
  std::int64_t sequence = 0;
  std::optional<std::int64_t> query_offset;
  std::vector<std::string> parameters;  // name=value
  std::string plot;
};

/// Zeros that stand in for the tables that a call would bind, so that tiles can be told without the user's data.
class StandIns {
 public:
  StandIns(const Variant& variant, const Problem& problem, const std::vector<std::string>& parameters) {
    const auto extents = fitting_extents(variant, problem);
    for (std::size_t i = 0; i < variant.tables().size(); ++i) {
      if (!variant.tables()[i].frozen_data()) add(variant.tables()[i], extents[i]);
    }
    for (const Parameter& parameter : variant.parameters())
      bindings_.parameters.push_back({parameter, value_of(parameter, parameters)});
  }

  const Bindings& bindings() const { return bindings_; }

  /// A line for each table: what it was taken to be.
  std::string text() const { return text_; }

 private:
  static constexpr std::int64_t kMostBytes = std::int64_t{1} << 30;

  void add(const Table& table, const std::vector<std::int64_t>& extents) {
    std::int64_t bytes = size_of(table.dtype());
    for (std::int64_t extent : extents) bytes = bytes > kMostBytes ? bytes : bytes * extent;
    if (bytes > kMostBytes) {
      throw Error(
          ErrorCode::invalid_argument,
          fmt::format(
              "table '{}' [{}] would take more than {} to stand in for; choose fewer --queries, --keys or --heads",
              table.name(), fmt::join(extents, ", "), bytes_text(static_cast<double>(kMostBytes))));
    }
    // A mask of zeros would keep nothing; a mask of ones keeps everything, as an absent one does.
    const bool is_mask = table.dtype() == DType::boolean;
    memory_.emplace_back(static_cast<std::size_t>(bytes), is_mask ? std::byte{1} : std::byte{0});
    bindings_.tables.push_back({table, ConstTensor(memory_.back().data(), table.dtype(), extents)});
    text_ += fmt::format("table {} {} [{}] is to be bound; taken as all {} here\n", to_string(table.dtype()),
                         table.name(), fmt::join(extents, ", "), is_mask ? "true" : "0");
  }

  static double value_of(const Parameter& parameter, const std::vector<std::string>& given) {
    for (const std::string& assignment : given) {
      const std::size_t equals = assignment.find('=');
      if (assignment.substr(0, equals) != parameter.name() || equals == std::string::npos) continue;
      std::size_t used = 0;
      const std::string number = assignment.substr(equals + 1);
      try {
        const double value = std::stod(number, &used);
        if (used == number.size()) return value;
      } catch (const std::exception&) {
      }
      throw Error(ErrorCode::invalid_argument, fmt::format("--parameter {}: '{}' is not a number", assignment, number));
    }
    throw Error(ErrorCode::invalid_argument,
                fmt::format("parameter '{}' has no value; give it as --parameter {}=NUMBER", parameter.name(),
                            parameter.name()));
  }

  Bindings bindings_;
  std::vector<std::vector<std::byte>> memory_;
  std::string text_;
};

/// Everything that both answers tell.
struct Explanation {
  Variant variant;
  Problem problem;
  TileMap map;
  EntryCount entries;
  std::string stand_ins;
  AttentionShape shape;
  Traffic standard, tiled;  // of the whole call
  std::vector<TrafficLawPoint> law;
};

Problem problem_of(const Options& options) {
  const std::int64_t keys = options.keys < 0 ? options.queries : options.keys;
  Problem problem = Problem::uniform(options.batch, options.heads,
                                     options.kv_heads == 0 ? options.heads : options.kv_heads, options.queries, keys);
  for (Sequence& sequence : problem.sequences) sequence.query_offset = options.query_offset;
  problem.validate();
  return problem;
}

Explanation explain(const Options& options) {
  Explanation e;
  e.variant = parse_variant(options.variant);
  e.problem = problem_of(options);
  const StandIns stand_ins(e.variant, e.problem, options.parameters);
  e.stand_ins = stand_ins.text();
  const TileSizes tile{options.tile_queries, options.tile_keys};
  e.map = classify_tiles(e.variant, stand_ins.bindings(), e.problem, tile, options.sequence, options.head);
  e.entries = count_entries(e.variant, stand_ins.bindings(), e.problem, options.sequence, options.head);
  e.shape = {.d_qk = options.dim,
             .d_v = options.dim_v == 0 ? options.dim : options.dim_v,
             .dtype = dtype_from_string(options.dtype)};
  e.standard = standard_traffic(e.problem, e.shape);
  e.tiled = tiled_traffic(e.variant, stand_ins.bindings(), e.problem, e.shape, tile);
  e.law = traffic_law(e.problem, e.shape);
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
    table.add({name, bytes_text(traffic.bytes_read), bytes_text(traffic.bytes_written), bytes_text(traffic.bytes())});
  };
  row("standard attention (Algorithm 0)", e.standard);
  row("tiled, kept tiles only", e.tiled);
  TextTable law({"fast memory M", "Algorithm 1", "N^2 d^2 / M", "ratio", "standard / Algorithm 1"});
  for (const TrafficLawPoint& point : e.law) {
    law.add({bytes_text(static_cast<double>(point.fast_memory)), bytes_text(point.tiled.bytes()), bytes_text(point.law),
             fmt::format("{:.1f}", point.tiled.bytes() / point.law),
             fmt::format("{:.1f}", e.standard.bytes() / point.tiled.bytes())});
  }
  return table.text() +
         "\nThe law O(N^2 d^2 / M): what FlashAttention's Algorithm 1 moves without a mask, its tiles as large as fast "
         "memory allows\n\n" +
         law.text();
}

std::string answer_text(const Options& options) {
  const Explanation e = explain(options);
  const auto plotted =
      options.plot.empty() ? std::string() : fmt::format("\nThe map of tiles is in {}\n", options.plot);
  if (!options.plot.empty()) write_picture(grid_of(e, 1024), options.plot);
  return fmt::format(
      "{}\n\n{}{} sequence{}, {}/{} heads, {} queries, {} keys, d = {}/{}, {}; tiles of {} x {}; this is head "
      "{}\n\n{}\n{}\n{}{}",
      to_string(e.variant), e.stand_ins, options.batch, options.batch == 1 ? "" : "s", e.problem.h_q, e.problem.h_kv,
      options.queries, e.problem.b() > 0 ? e.problem.sequences[0].s_kv : 0, e.shape.d_qk, e.shape.d_v, options.dtype,
      options.tile_queries, options.tile_keys, options.head, tiles_text(e), terminal_picture(grid_of(e, 48)),
      traffic_text(e), plotted);
}

Json traffic_json(const Traffic& traffic) {
  return {{"bytes_read", traffic.bytes_read}, {"bytes_written", traffic.bytes_written}};
}

Json answer_json(const Options& options) {
  const Explanation e = explain(options);
  if (!options.plot.empty()) write_picture(grid_of(e, 1024), options.plot);
  Json law = Json::array();
  for (const TrafficLawPoint& point : e.law) {
    law.push_back({{"fast_memory", point.fast_memory}, {"tiled", traffic_json(point.tiled)}, {"law", point.law}});
  }
  return {{"variant", to_string(e.variant)},
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
          {"traffic", {{"standard", traffic_json(e.standard)}, {"tiled", traffic_json(e.tiled)}}},
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
