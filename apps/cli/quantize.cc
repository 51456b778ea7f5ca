// tilewise quantize: a model with 8-bit weights.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "command.h"
#include "opened.h"
#include "table.h"
#include "tilewise/error.h"
#include "tilewise/quantize.h"

namespace tilewise::cli {
namespace {

struct QuantizeChoice {
  std::string from, to;
  std::string text;  // a file; empty: none
  int threads = 0;
};

/// Perplexity on a text, the weights multiplied in float32: what the rounding of weights alone does.
class Foretelling {
 public:
  /// A text that is missing or too short, and a model that foretells none, are told of before any work.
  explicit Foretelling(const QuantizeChoice& choice) : threads_(choice.threads) {
    if (choice.text.empty()) return;
    text_ = read_file(choice.text);
    const Opened opened = open(choice.from);
    const auto tokens = tokens_to_foretell(opened.model(), *text_);
    opened.model().perplexity(std::span(tokens).first(2));
  }

  /// nullopt where there is no text.
  std::optional<double> perplexity(const std::string& path) const {
    if (!text_) return std::nullopt;
    const Opened opened = open(path);
    return opened.model().perplexity(tokens_to_foretell(opened.model(), *text_)).perplexity;
  }

 private:
  Opened open(const std::string& path) const {
    return Opened({.path = path, .precise = true, .machine = {.isa = "", .threads = threads_}});
  }

  int threads_;
  std::optional<std::string> text_;
};

struct Result {
  QuantizeReport report;
  std::optional<double> before, after;  // perplexity
};

Result quantized(const QuantizeChoice& choice) {
  const Foretelling foretelling(choice);
  Result result{quantize_model(choice.from, choice.to), {}, {}};
  result.before = foretelling.perplexity(choice.from);
  result.after = foretelling.perplexity(choice.to);
  return result;
}

std::string answer_text(const QuantizeChoice& choice) {
  const Result result = quantized(choice);
  const QuantizeReport& report = result.report;
  TextTable table({"tensor", "from", "to", "bytes before", "bytes after", "relative error", "largest error"});
  for (const QuantizedTensor& tensor : report.tensors) {
    const bool changed = tensor.relative_error > 0;
    table.add({tensor.name, tensor.from, tensor.to, grouped(tensor.bytes_from), grouped(tensor.bytes_to),
               changed ? fmt::format("{:.2e}", tensor.relative_error) : "-",
               changed ? fmt::format("{:.2e}", tensor.largest_error) : "-"});
  }
  std::string text = table.text();
  text += fmt::format("\n{}: {}, before {}: {:.1f}%\n", report.to, bytes_text(static_cast<double>(report.bytes_to)),
                      bytes_text(static_cast<double>(report.bytes_from)),
                      100 * static_cast<double>(report.bytes_to) / static_cast<double>(report.bytes_from));
  if (result.before) {
    text += fmt::format("perplexity on {}: {:.4f}, before {:.4f}: {:+.3f}%\n", choice.text, *result.after,
                        *result.before, 100 * (*result.after / *result.before - 1));
  }
  return text;
}

Json answer_json(const QuantizeChoice& choice) {
  const Result result = quantized(choice);
  const QuantizeReport& report = result.report;
  Json tensors = Json::array();
  for (const QuantizedTensor& tensor : report.tensors) {
    tensors.push_back({{"name", tensor.name},
                       {"from", tensor.from},
                       {"to", tensor.to},
                       {"elements", tensor.elements},
                       {"bytes_from", tensor.bytes_from},
                       {"bytes_to", tensor.bytes_to},
                       {"relative_error", tensor.relative_error},
                       {"largest_error", tensor.largest_error}});
  }
  Json json{{"from", report.from},
            {"to", report.to},
            {"bytes_from", report.bytes_from},
            {"bytes_to", report.bytes_to},
            {"tensors", tensors}};
  if (result.before) {
    json["perplexity"] = {
        {"text", choice.text}, {"before", json_number(*result.before)}, {"after", json_number(*result.after)}};
  }
  return json;
}

}  // namespace

void add_quantize(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("quantize", "Write a model with 8-bit weights (GGUF, Q8_0)");
  const auto choice = std::make_shared<QuantizeChoice>();
  command.add_option("from", choice->from, "A GGUF file, or a safetensors file with config.json beside it")->required();
  command.add_option("to", choice->to, "The GGUF file to write")->required();
  command.add_option("--text", choice->text, "Tell how the perplexity on this text file changes");
  command.add_option("--threads", choice->threads, "Threads for that; 0 means one for each processor")
      ->capture_default_str();
  command.footer(
      "Float matrices become blocks of 32 int8 with a float16 scale: 8.5 bits a weight. Norms, biases and what has "
      "fewer\n"
      "bits already stay as they are. The errors are those of each tensor's elements, relative to their root mean "
      "square.\n"
      "Examples:\n"
      "  tilewise quantize model-f16.gguf model-q8.gguf --text book.txt\n"
      "  tilewise quantize folder/model.safetensors model-q8.gguf --json");
  add_answers(
      command, [=] { return answer_text(*choice); }, [=] { return answer_json(*choice); });
}

}  // namespace tilewise::cli
