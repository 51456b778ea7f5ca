// tilewise explain softmax: the ladder as a table, and a small example step by step.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "table.h"
#include "tilewise/softmax_ladder.h"

namespace tilewise::cli {
namespace {

struct Options {
  std::int64_t queries = 512;
  std::int64_t keys = 512;
  std::int64_t dim = 64;
  std::int64_t chunk = 32;
  std::int64_t fast_memory = LadderOptions{}.fast_memory;
  std::int64_t block = 1;
};

constexpr double kOrdinary = 1;  // standard deviation of scores
constexpr double kLarge = 1000;  // exp overflows float32 above 88.7
constexpr std::uint64_t kSeed = 1;

/// The worked example: one query, three keys.
struct Example {
  float q[1] = {1};
  float k[3] = {1, 2, 3};
  float v[3] = {2, 4, 8};

  LadderProblem problem() const {
    return {ConstTensor(q, DType::float32, {1, 1}), ConstTensor(k, DType::float32, {3, 1}),
            ConstTensor(v, DType::float32, {3, 1})};
  }
};

std::vector<LadderResult> run(const Options& options, double deviation) {
  const LadderInputs inputs =
      random_ladder_inputs(options.queries, options.keys, options.dim, options.dim, deviation, kSeed);
  return run_ladder(inputs.problem(), {.fast_memory = options.fast_memory, .chunk = options.chunk});
}

std::string error_text(const LadderResult& result) {
  return result.non_finite == 0 ? fmt::format("{:.1e}", result.largest_error)
                                : fmt::format("{} not finite", grouped(result.non_finite));
}

std::string ladder_table(const Options& options) {
  const auto ordinary = run(options, kOrdinary);
  const auto large = run(options, kLarge);
  TextTable table(
      {"step", "read", "written", "multiply-adds", "exponentials", "extra memory", "error", "error, scores in 1000s"});
  for (std::size_t i = 0; i < ordinary.size(); ++i) {
    const LadderCounts& counts = ordinary[i].counts;
    table.add({ladder_steps()[i].name, bytes_text(static_cast<double>(counts.bytes_read)),
               bytes_text(static_cast<double>(counts.bytes_written)), grouped(counts.multiply_adds),
               grouped(counts.exponentials), bytes_text(static_cast<double>(counts.extra_bytes)),
               error_text(ordinary[i]), error_text(large[i])});
  }
  return table.text();
}

std::string step_explanations() {
  std::string text;
  for (const LadderStepInfo& step : ladder_steps())
    text += fmt::format("  {:<14} {}\n  {:<14} ({})\n", step.name, step.summary, "", step.source);
  return text;
}

std::string list(const std::vector<float>& numbers) { return fmt::format("{:.6g}", fmt::join(numbers, ", ")); }

std::string example_text(const Options& options) {
  const Example example;
  TextTable table({"after keys", "scores", "maximum", "rescale", "numerator", "denominator", "output"});
  for (const LadderTraceBlock& block : trace_ladder(example.problem(), options.block)) {
    const auto last = block.first_key + static_cast<std::int64_t>(block.scores.size()) - 1;
    table.add({block.first_key == last ? fmt::format("{}", last) : fmt::format("{}..{}", block.first_key, last),
               list(block.scores), fmt::format("{:.6g}", block.maximum), fmt::format("{:.6g}", block.rescale),
               list(block.numerator), fmt::format("{:.6g}", block.denominator), list(block.output)});
  }
  return table.text();
}

std::string answer_text(const Options& options) {
  return fmt::format(
      "o = softmax(q k^T) v, five ways: {} queries, {} keys, d = {}, float32; fast memory {}, chunks of {} keys.\n"
      "Bytes are those that cross between slow and fast memory; errors are against float64.\n\n"
      "{}\n{}\n"
      "Q = [1], K = [1, 2, 3], V = [2, 4, 8], {} key{} at a time: the sums so far are kept relative to the maximum so "
      "far,\n"
      "and shrink by `rescale` when it grows. The output is exact for the keys seen so far.\n\n{}",
      options.queries, options.keys, options.dim, bytes_text(static_cast<double>(options.fast_memory)), options.chunk,
      ladder_table(options), step_explanations(), options.block, options.block == 1 ? "" : "s", example_text(options));
}

Json answer_json(const Options& options) {
  Json steps = Json::array();
  const auto ordinary = run(options, kOrdinary);
  const auto large = run(options, kLarge);
  for (std::size_t i = 0; i < ordinary.size(); ++i) {
    const LadderStepInfo& info = ladder_steps()[i];
    const LadderCounts& counts = ordinary[i].counts;
    steps.push_back({{"step", info.name},
                     {"summary", info.summary},
                     {"source", info.source},
                     {"bytes_read", counts.bytes_read},
                     {"bytes_written", counts.bytes_written},
                     {"multiply_adds", counts.multiply_adds},
                     {"exponentials", counts.exponentials},
                     {"extra_bytes", counts.extra_bytes},
                     {"largest_error", json_number(ordinary[i].largest_error)},
                     {"largest_error_large_scores", json_number(large[i].largest_error)},
                     {"non_finite_large_scores", large[i].non_finite}});
  }
  Json blocks = Json::array();
  for (const LadderTraceBlock& block : trace_ladder(Example{}.problem(), options.block)) {
    blocks.push_back({{"first_key", block.first_key},
                      {"scores", block.scores},
                      {"maximum", block.maximum},
                      {"rescale", block.rescale},
                      {"numerator", block.numerator},
                      {"denominator", block.denominator},
                      {"output", block.output}});
  }
  return {{"queries", options.queries},
          {"keys", options.keys},
          {"dim", options.dim},
          {"fast_memory", options.fast_memory},
          {"chunk", options.chunk},
          {"steps", steps},
          {"example", {{"q", {1}}, {"k", {1, 2, 3}}, {"v", {2, 4, 8}}, {"blocks", blocks}}}};
}

}  // namespace

void add_explain_softmax(CLI::App& explain) {
  CLI::App& command =
      *explain.add_subcommand("softmax", "From plain sums of exponentials to FlashAttention, in five steps");
  const auto options = std::make_shared<Options>();
  command.add_option("--queries", options->queries, "Queries of the table")->capture_default_str();
  command.add_option("--keys", options->keys, "Keys of the table")->capture_default_str();
  command.add_option("--dim", options->dim, "Head dimension of the table")->capture_default_str();
  command.add_option("--chunk", options->chunk, "Keys taken together by the last two steps")->capture_default_str();
  command.add_option("--fast-memory", options->fast_memory, "Bytes of fast memory")->capture_default_str();
  command.add_option("--block", options->block, "Keys taken together in the worked example")->capture_default_str();
  command.footer(
      "Examples:\n"
      "  tilewise explain softmax\n"
      "  tilewise explain softmax --block 2                     the example in blocks of two keys\n"
      "  tilewise explain softmax --fast-memory 65536 --json    less fast memory: more bytes read");
  add_answers(
      command, [=] { return answer_text(*options); }, [=] { return answer_json(*options); });
}

}  // namespace tilewise::cli
