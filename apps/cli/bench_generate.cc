// tilewise bench generate: tokens a second of a model on this machine.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "command.h"
#include "opened.h"
#include "table.h"
#include "tilewise/error.h"
#include "tilewise/generate.h"

namespace tilewise::cli {
namespace {

struct BenchChoice {
  ModelChoice model;
  std::vector<std::int64_t> prompts{512};
  std::vector<std::int64_t> sequences{1, 16};
  std::int64_t generated = 64;
  std::int64_t context = 0;
  int repeats = 3;
};

struct Row {
  std::string work;
  std::vector<double> rates{};  // tokens a second, sorted

  double median() const { return rates[rates.size() / 2]; }
  double best() const { return rates.back(); }
};

/// Tokens that a text could have: speed does not depend on which, except that none may end it.
std::vector<std::int32_t> some_tokens(const Model& model, std::int64_t count, std::int64_t from) {
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < count; ++i) {
    tokens.push_back(static_cast<std::int32_t>((from * 7919 + i * 31) % model.info().vocabulary));
  }
  return tokens;
}

/// One run of `sequences` requests with prompts of their own: seconds until all have their first token, and the rest.
struct Times {
  double prompt = 0, generate = 0;
};

Times run(const Model& model, std::int64_t sequences, std::int64_t prompt, std::int64_t generated, std::int64_t run) {
  Generator generator(model, {.cache_tokens = sequences * (prompt + generated + 16), .most_sequences = sequences});
  for (std::int64_t i = 0; i < sequences; ++i) {
    generator.submit(
        {.prompt = some_tokens(model, prompt, run * sequences + i + 1), .most_tokens = generated, .ignore_end = true});
  }
  // First tokens come as prompts end; measured from the last of them on, all sequences generate.
  std::int64_t begun = 0;
  Times times;
  double begin = seconds_now();
  std::vector<bool> has_begun(static_cast<std::size_t>(sequences));
  while (begun < sequences) {
    for (const TokenEvent& event : generator.step()) {
      const auto index = static_cast<std::size_t>(event.request);
      begun += has_begun[index] ? 0 : 1;
      has_begun[index] = true;
    }
  }
  times.prompt = seconds_now() - begin;
  begin = seconds_now();
  std::int64_t tokens = 0;
  while (!generator.is_idle()) tokens += static_cast<std::int64_t>(generator.step().size());
  times.generate = tokens > 0 ? (seconds_now() - begin) / static_cast<double>(tokens) : 0;
  return times;
}

std::vector<Row> rows_of(const BenchChoice& choice, const Model& model) {
  std::vector<Row> rows;
  const auto add = [&](const std::string& work, const auto& rate) {
    Row row{work};
    for (int i = 0; i < choice.repeats; ++i) row.rates.push_back(rate(i));
    std::ranges::sort(row.rates);
    rows.push_back(std::move(row));
  };
  for (const std::int64_t prompt : choice.prompts) {
    add(fmt::format("prompt of {}", grouped(prompt)),
        [&](int i) { return static_cast<double>(prompt) / run(model, 1, prompt, 1, i).prompt; });
  }
  for (const std::int64_t sequences : choice.sequences) {
    const std::int64_t before = std::max<std::int64_t>(choice.context, 8);
    add(fmt::format("generate, {} at once{}", sequences,
                    choice.context > 0 ? fmt::format(", behind {}", grouped(choice.context)) : ""),
        [&](int i) { return 1 / run(model, sequences, before, choice.generated + 1, i).generate; });
  }
  return rows;
}

void expect_sensible(const BenchChoice& choice, const Model& model) {
  const std::int64_t context = model.info().context;
  for (const std::int64_t prompt : choice.prompts) expect_within("--prompt-tokens", prompt, 1, context);
  for (const std::int64_t sequences : choice.sequences) expect_within("--sequences", sequences, 1, 4096);
  expect_within("--context", choice.context, 0, context);
  expect_within("--n", choice.generated, 1, context - std::max<std::int64_t>(choice.context, 8));
  expect_within("--repeats", choice.repeats, 1, 1000);
}

std::string answer_text(const BenchChoice& choice) {
  const Opened opened(choice.model);
  expect_sensible(choice, opened.model());
  TextTable table({"work", "tokens a second", "best of " + std::to_string(choice.repeats)});
  for (const Row& row : rows_of(choice, opened.model())) {
    table.add({row.work, fmt::format("{:.1f}", row.median()), fmt::format("{:.1f}", row.best())});
  }
  return fmt::format("{} on {} threads\n\n{}", opened.model().info().path, opened.threads(), table.text());
}

Json answer_json(const BenchChoice& choice) {
  const Opened opened(choice.model);
  expect_sensible(choice, opened.model());
  Json rows = Json::array();
  for (const Row& row : rows_of(choice, opened.model())) {
    rows.push_back({{"work", row.work},
                    {"tokens_per_second", row.median()},
                    {"best_tokens_per_second", row.best()},
                    {"all", row.rates}});
  }
  return {{"model", opened.model().info().path}, {"threads", opened.threads()}, {"rows", rows}};
}

}  // namespace

void add_bench_generate(CLI::App& bench) {
  CLI::App& command = *bench.add_subcommand("generate", "Tokens a second of a language model: prompts and generation");
  const auto choice = std::make_shared<BenchChoice>();
  add_model_options(command, choice->model);
  command.add_option("--prompt-tokens", choice->prompts, "Prompts of these lengths")->capture_default_str();
  command.add_option("--sequences", choice->sequences, "So many texts at once")->capture_default_str();
  command.add_option("--n", choice->generated, "Tokens to generate for each")->capture_default_str();
  command.add_option("--context", choice->context, "Behind so many tokens each")->capture_default_str();
  command.add_option("--repeats", choice->repeats, "The median of so many runs, and the best")->capture_default_str();
  command.footer(
      "Rates of several texts at once are those of all together.\n"
      "Examples:\n"
      "  tilewise bench generate --model model.gguf\n"
      "  tilewise bench generate --model model.gguf --threads 1 --prompt-tokens 512 4096 --sequences 1\n"
      "  tilewise bench generate --model model.gguf --context 4096 --json");
  add_answers(
      command, [=] { return answer_text(*choice); }, [=] { return answer_json(*choice); });
}

}  // namespace tilewise::cli
