// tilewise embed: texts as vectors.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <sstream>

#include "command.h"
#include "opened.h"
#include "table.h"
#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

struct EmbedChoice {
  ModelChoice model;
  std::vector<std::string> texts;
  std::string file;
  EmbedOptions options;
  bool raw = false;
  bool similarities = false;
};

std::vector<std::string> texts_of(const EmbedChoice& choice) {
  if (!choice.texts.empty() && !choice.file.empty()) {
    throw Error(ErrorCode::invalid_argument, "texts and --file are both given; expected one");
  }
  if (!choice.texts.empty()) return choice.texts;
  std::vector<std::string> lines;
  std::istringstream text(read_file(choice.file.empty() ? "-" : choice.file));
  for (std::string line; std::getline(text, line);) lines.push_back(line);
  return lines;
}

struct Embedded {
  std::vector<std::string> texts;
  std::vector<float> vectors{};  // [texts, width]
  std::int64_t width = 0;

  std::span<const float> vector(std::size_t text) const {
    return std::span(vectors).subspan(text * static_cast<std::size_t>(width), static_cast<std::size_t>(width));
  }
};

Embedded embedded(const EmbedChoice& choice) {
  const Opened opened(choice.model);
  EmbedOptions options = choice.options;
  options.normalise = !choice.raw;
  Embedded result{.texts = texts_of(choice), .width = opened.model().info().width};
  result.vectors = opened.model().embed(result.texts, options);
  return result;
}

double product(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += static_cast<double>(a[i]) * static_cast<double>(b[i]);
  return sum;
}

std::string answer_text(const EmbedChoice& choice) {
  const Embedded result = embedded(choice);
  std::string text;
  if (!choice.similarities) {
    for (std::size_t i = 0; i < result.texts.size(); ++i) {
      text += fmt::format("{}\n", fmt::join(result.vector(i), " "));
    }
    return text;
  }
  std::vector<std::string> header{"text"};
  for (std::size_t i = 0; i < result.texts.size(); ++i) header.push_back(std::to_string(i + 1));
  TextTable table(header);
  for (std::size_t i = 0; i < result.texts.size(); ++i) {
    std::vector<std::string> row{std::to_string(i + 1)};
    for (std::size_t j = 0; j < result.texts.size(); ++j) {
      row.push_back(fmt::format("{:.3f}", product(result.vector(i), result.vector(j))));
    }
    table.add(row);
  }
  return table.text();
}

Json answer_json(const EmbedChoice& choice) {
  const Embedded result = embedded(choice);
  Json list = Json::array();
  for (std::size_t i = 0; i < result.texts.size(); ++i) {
    const auto vector = result.vector(i);
    list.push_back({{"text", result.texts[i]}, {"vector", std::vector<float>(vector.begin(), vector.end())}});
  }
  return {{"width", result.width}, {"texts", list}};
}

}  // namespace

void add_embed(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("embed", "Texts as vectors: near to each other where their meanings are");
  const auto choice = std::make_shared<EmbedChoice>();
  add_model_options(command, choice->model, false);
  command.add_option("text", choice->texts, "Texts; by default each line of standard input");
  command.add_option("--file", choice->file, "A file with a text on each line; - is standard input");
  command
      .add_option("--most-tokens", choice->options.most_tokens,
                  "Cut longer texts off there; 0 means the model's context")
      ->capture_default_str();
  command.add_flag("--raw", choice->raw, "Leave the vectors' lengths as they are instead of making them 1");
  command.add_flag("--similarities", choice->similarities, "Show the products of all pairs instead of the vectors");
  command.footer(
      "A vector is the mean of its text's tokens behind the last layer. Those of length 1 have their cosine as "
      "product.\n"
      "Examples:\n"
      "  tilewise embed --model folder/model.safetensors 'a cat on a mat' 'a kitten lies on a rug' 'stocks fell'"
      " --similarities\n"
      "  tilewise embed --model folder/model.safetensors --file sentences.txt --json");
  add_answers(
      command, [=] { return answer_text(*choice); }, [=] { return answer_json(*choice); });
}

}  // namespace tilewise::cli
