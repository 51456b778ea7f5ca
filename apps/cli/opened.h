// What the commands that run a model share: its options, the text they are given, and how they are stopped.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "command.h"
#include "machine.h"
#include "tilewise/model.h"

namespace tilewise::cli {

struct ModelChoice {
  std::string path{};
  std::string variant{};
  std::string tokenizer{};
  bool precise = false;
  MachineOptions machine{.isa = "", .threads = 0};
};

/// Adds --model, --precise, --threads, --isa, --tokenizer, and --variant where the command attends to a past.
void add_model_options(CLI::App& command, ModelChoice& choice, bool with_variant = true);

/// A model and the threads that run it.
class Opened {
 public:
  /// Throws as Machine and Model::open().
  explicit Opened(const ModelChoice& choice);

  const Model& model() const { return *model_; }
  int threads() const { return machine_.threads(); }
  double seconds() const { return seconds_; }  ///< That opening took.

 private:
  Machine machine_;
  double seconds_ = 0;
  std::optional<Model> model_;
};

/// Seconds of a clock that never goes back.
double seconds_now();

/// The text that a command works on: given, in a file, or on standard input where it is neither.
struct TextChoice {
  std::optional<std::string> text;
  std::string file;  // "-": standard input
};

/// Throws Error(invalid_argument) where both are given, Error(io) where the file cannot be read.
std::string read_text(const TextChoice& choice, const char* option);

/// The contents of a file, or of standard input for "-". Throws Error(io).
std::string read_file(const std::string& path);

/// A text's tokens, of which a model is to foretell all but the first. Throws Error(invalid_argument) on fewer than
/// two.
std::vector<std::int32_t> tokens_to_foretell(const Model& model, const std::string& text);

/// From here on Ctrl-C sets a mark instead of ending the program, and a closed pipe is an error of writing.
void catch_interrupts();

/// Whether Ctrl-C came since the mark was last taken down, which this does.
bool take_interrupt();

/// The usual exit status of a program that Ctrl-C ended.
inline constexpr int kInterrupted = 130;

}  // namespace tilewise::cli
