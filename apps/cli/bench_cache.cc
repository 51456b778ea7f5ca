// tilewise bench cache: what a key/value cache of pages leaves unused, beside stretches of memory.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <memory>
#include <random>

#include "chart.h"
#include "command.h"
#include "new_file.h"
#include "opened.h"
#include "table.h"
#include "tilewise/error.h"
#include "tilewise/kv_cache.h"

namespace tilewise::cli {
namespace {

struct CacheOptions {
  std::vector<std::int64_t> page_tokens{2, 4, 8, 16, 32, 64, 128, 256};
  std::int64_t sequences = 1000, longest = 2048;
  std::uint64_t seed = 1;
  std::string plot;
};

/// Percent of the bytes that hold tokens.
struct Row {
  std::int64_t page_tokens = 0;
  double pages = 0;     ///< By the cache's own account.
  double stretch = 0;   ///< One stretch for the longest length, for each sequence.
  double doubling = 0;  ///< A stretch that is replaced by one of twice its size when it is full.
  double seconds = 0;   ///< For each token: start(), append() one by one, finish().
};

void check(const CacheOptions& options) {
  expect_within("--sequences", options.sequences, 1, 100'000);
  expect_within("--longest", options.longest, 1, 1'000'000);
  for (const std::int64_t page_tokens : options.page_tokens) expect_within("--page-tokens", page_tokens, 1, 1'000'000);
  expect_within("--sequences times --longest", options.sequences * options.longest, 1, 1'000'000'000);
  if (!options.plot.empty()) expect_picture_path(options.plot);
}

/// Tokens of each sequence, 1 to `longest`, evenly drawn.
std::vector<std::int64_t> lengths_of(const CacheOptions& options) {
  std::mt19937_64 random(options.seed);
  std::vector<std::int64_t> lengths(static_cast<std::size_t>(options.sequences));
  for (std::int64_t& length : lengths) {
    length = 1 + static_cast<std::int64_t>(random() % static_cast<std::uint64_t>(options.longest));
  }
  return lengths;
}

Row measured(const CacheOptions& options, const std::vector<std::int64_t>& lengths, std::int64_t page_tokens) {
  std::int64_t tokens = 0, doubled = 0, pages = 0;
  for (const std::int64_t length : lengths) {
    tokens += length;
    doubled += static_cast<std::int64_t>(std::bit_ceil(static_cast<std::uint64_t>(length)));
    pages += (length + page_tokens - 1) / page_tokens;
  }
  KvCache cache({.d_qk = 1, .d_v = 1, .page_tokens = page_tokens, .pages = pages});
  std::vector<KvSequence> sequences;
  const std::int32_t token = 1;
  const double begin = seconds_now();
  for (const std::int64_t length : lengths) {
    sequences.push_back(cache.start());
    for (std::int64_t i = 0; i < length; ++i) cache.append(sequences.back(), {&token, 1});
  }
  const KvCacheAccount account = cache.account();
  for (const KvSequence sequence : sequences) cache.finish(sequence);
  const double seconds = seconds_now() - begin;
  const auto percent = [&](std::int64_t all) {
    return 100.0 * static_cast<double>(all - tokens) / static_cast<double>(tokens);
  };
  return {page_tokens, 100.0 * static_cast<double>(account.wasted_bytes) / static_cast<double>(account.used_bytes),
          percent(options.sequences * options.longest), percent(doubled), seconds / static_cast<double>(tokens)};
}

Chart chart_of(const CacheOptions& options, const std::vector<Row>& rows) {
  const auto percent_text = [](double percent) { return fmt::format("{:g}%", percent); };
  const auto tokens_text = [](double tokens) { return fmt::format("{:g}", tokens); };
  Panel panel{"unused, of the bytes that hold tokens", "tokens of a page", tokens_text, percent_text, {}};
  const auto add = [&](const char* name, Colour colour, double Row::*value) {
    Series series{name, colour, {}, {}};
    for (const Row& row : rows) {
      if (row.*value <= 0) continue;  // an axis by powers has no 0: pages of one token
      series.x.push_back(static_cast<double>(row.page_tokens));
      series.y.push_back(row.*value);
    }
    if (!series.x.empty()) panel.series.push_back(std::move(series));
  };
  add("one stretch for the longest", {200, 70, 60}, &Row::stretch);
  add("stretches that double", {60, 150, 90}, &Row::doubling);
  add("pages", {40, 90, 170}, &Row::pages);
  return {
      "What a key/value cache leaves unused",
      fmt::format("{} sequences of 1 to {} tokens, evenly drawn", grouped(options.sequences), grouped(options.longest)),
      {panel}};
}

std::vector<Row> answer(const CacheOptions& options) {
  check(options);
  const std::vector<std::int64_t> lengths = lengths_of(options);
  std::vector<Row> rows;
  std::vector<std::int64_t> sizes = options.page_tokens;
  std::ranges::sort(sizes);
  for (const std::int64_t page_tokens : sizes) rows.push_back(measured(options, lengths, page_tokens));
  if (!options.plot.empty()) write_chart(chart_of(options, rows), options.plot);
  return rows;
}

std::string answer_text(const CacheOptions& options) {
  TextTable table({"tokens of a page", "pages", "one stretch", "stretches that double", "a token takes"});
  for (const Row& row : answer(options)) {
    table.add({grouped(row.page_tokens), fmt::format("{:.2f}%", row.pages), fmt::format("{:.2f}%", row.stretch),
               fmt::format("{:.2f}%", row.doubling), seconds_text(row.seconds)});
  }
  return fmt::format(
      "{} sequences of 1 to {} tokens, evenly drawn (seed {}); unused bytes, of those that hold tokens\n\n{}{}",
      grouped(options.sequences), grouped(options.longest), options.seed, table.text(),
      options.plot.empty() ? "" : fmt::format("\nThe plot is in {}\n", options.plot));
}

Json answer_json(const CacheOptions& options) {
  Json list = Json::array();
  for (const Row& row : answer(options)) {
    list.push_back({{"page_tokens", row.page_tokens},
                    {"pages_percent", row.pages},
                    {"stretch_percent", row.stretch},
                    {"doubling_percent", row.doubling},
                    {"seconds_per_token", row.seconds}});
  }
  return {{"sequences", options.sequences}, {"longest", options.longest}, {"seed", options.seed}, {"rows", list}};
}

}  // namespace

void add_bench_cache(CLI::App& bench) {
  CLI::App& command = *bench.add_subcommand("cache", "What a key/value cache of pages leaves unused, beside stretches");
  const auto options = std::make_shared<CacheOptions>();
  command.add_option("--page-tokens", options->page_tokens, "Tokens of a page")->capture_default_str()->delimiter(',');
  command.add_option("--sequences", options->sequences, "So many sequences")->capture_default_str();
  command.add_option("--longest", options->longest, "Of 1 to so many tokens, evenly drawn")->capture_default_str();
  command.add_option("--seed", options->seed, "Of the lengths")->check(whole_number_from(0))->capture_default_str();
  command.add_option("--plot", options->plot, "Draw it into this .png or .svg file");
  command.footer(
      "Kwon et al., Efficient Memory Management for Large Language Model Serving with PagedAttention (2023), Figure "
      "2.\n"
      "Sequences share nothing here. Tokens are appended one by one; the bytes are the cache's own account.\n"
      "Examples:\n"
      "  tilewise bench cache --plot cache.svg\n"
      "  tilewise bench cache --longest 8192 --page-tokens 16 --json");
  add_answers(
      command, [=] { return answer_text(*options); }, [=] { return answer_json(*options); });
}

}  // namespace tilewise::cli
