// tilewise perplexity: how well a model foretells a text.
#include <fmt/format.h>

#include <cmath>
#include <memory>

#include "command.h"
#include "opened.h"
#include "table.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

struct PerplexityChoice {
  ModelChoice model;
  TextChoice text;
  std::int64_t window = 0, overlap = -1;
};

struct Measured {
  Perplexity perplexity;
  std::size_t bytes = 0;
  double seconds = 0;

  double bits_per_byte() const {
    return bytes > 0 ? -perplexity.log_probability / std::log(2.0) / static_cast<double>(bytes) : 0;
  }
};

Measured measured(const PerplexityChoice& choice) {
  const Opened opened(choice.model);
  const std::string text = read_text(choice.text, "--text");
  PerplexityOptions options{.window = choice.window};
  if (choice.overlap >= 0) options.overlap = choice.overlap;
  const double begin = seconds_now();
  const auto tokens = tokens_to_foretell(opened.model(), text);
  Measured result{.perplexity = opened.model().perplexity(tokens, options), .bytes = text.size()};
  result.seconds = seconds_now() - begin;
  return result;
}

std::string answer_text(const PerplexityChoice& choice) {
  const Measured result = measured(choice);
  return fmt::format("perplexity {:.4f} over {} tokens ({:.4f} bits a byte), in {}\n", result.perplexity.perplexity,
                     grouped(result.perplexity.tokens), result.bits_per_byte(), seconds_text(result.seconds));
}

Json answer_json(const PerplexityChoice& choice) {
  const Measured result = measured(choice);
  return {{"perplexity", json_number(result.perplexity.perplexity)},
          {"tokens", result.perplexity.tokens},
          {"log_probability", json_number(result.perplexity.log_probability)},
          {"bytes", result.bytes},
          {"bits_per_byte", json_number(result.bits_per_byte())},
          {"seconds", result.seconds}};
}

}  // namespace

void add_perplexity(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("perplexity", "How well a model foretells a text");
  const auto choice = std::make_shared<PerplexityChoice>();
  add_model_options(command, choice->model);
  command.add_option("--text", choice->text.text, "The text; standard input where there is neither");
  command.add_option("--file", choice->text.file, "A file with the text; - is standard input");
  command
      .add_option("--window", choice->window,
                  "Tokens that the model sees at once; 0 means 1024, or its context where that is less")
      ->capture_default_str();
  command.add_option("--overlap", choice->overlap,
                     "Tokens at the beginning of a window that only precede those that are foretold; half a window by "
                     "default");
  command.footer(
      "exp of the mean negative log-probability of a token, given those before it in its window. Comparable between\n"
      "models with one vocabulary and the same windows; bits a byte between all.\n"
      "Examples:\n"
      "  tilewise perplexity --model model.gguf --file /usr/share/common-licenses/GPL-3\n"
      "  tilewise perplexity --model model.gguf --file text --variant 'streaming_llm(4, 256)'");
  add_answers(
      command, [=] { return answer_text(*choice); }, [=] { return answer_json(*choice); });
}

}  // namespace tilewise::cli
