#include "opened.h"

#include <fmt/format.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigaction is POSIX's

#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <memory>

#include "tilewise/error.h"

namespace tilewise::cli {
namespace {

volatile sig_atomic_t interrupted = 0;

void on_interrupt(int) { interrupted = 1; }

ModelOptions options_of(const ModelChoice& choice, Executor& executor) {
  ModelOptions options{.precise = choice.precise, .tokenizer = choice.tokenizer, .executor = &executor};
  if (!choice.variant.empty()) options.variant = parse_variant(choice.variant);
  return options;
}

}  // namespace

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void add_model_options(CLI::App& command, ModelChoice& choice, bool with_variant) {
  command.add_option("--model", choice.path, "A GGUF file, or a safetensors file with config.json beside it")
      ->required();
  if (with_variant) {
    command.add_option("--variant", choice.variant,
                       "Attend under this variant instead of the model's own, e.g. 'streaming_llm(4, 512)': "
                       "`tilewise variants` lists them");
  }
  command.add_flag("--precise", choice.precise,
                   "Multiply dequantised weights in float32 instead of 16-bit activations with the weights as they are "
                   "stored: slower");
  command.add_option("--threads", choice.machine.threads, "Threads; 0 means one for each processor")
      ->capture_default_str();
  command.add_option("--isa", choice.machine.isa,
                     "Use at most this instruction set; `tilewise device --no-measure` lists them");
  command.add_option("--tokenizer", choice.tokenizer, "A tokenizer.json, where it is not beside the weights");
}

Opened::Opened(const ModelChoice& choice) : machine_(choice.machine) {
  const double begin = seconds_now();
  model_ = Model::open(choice.path, options_of(choice, machine_.executor()));
  seconds_ = seconds_now() - begin;
}

std::string read_file(const std::string& path) {
  const bool is_input = path == "-";
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> opened(is_input ? nullptr : std::fopen(path.c_str(), "rb"),
                                                               &std::fclose);
  std::FILE* file = is_input ? stdin : opened.get();
  const char* name = is_input ? "standard input" : path.c_str();
  const auto fail = [&] { throw Error(ErrorCode::io, fmt::format("{}: {}", name, std::strerror(errno))); };
  if (file == nullptr) fail();
  std::string text;
  char block[1 << 16];
  for (std::size_t read = 1; read > 0;) {
    read = std::fread(block, 1, sizeof block, file);
    text.append(block, read);
  }
  if (std::ferror(file) != 0) fail();
  return text;
}

std::string read_text(const TextChoice& choice, const char* option) {
  if (choice.text && !choice.file.empty()) {
    throw Error(ErrorCode::invalid_argument, fmt::format("{} and --file are both given; expected one", option));
  }
  return choice.text ? *choice.text : read_file(choice.file.empty() ? "-" : choice.file);
}

std::vector<std::int32_t> tokens_to_foretell(const Model& model, const std::string& text) {
  auto tokens = model.encode(text);
  if (tokens.size() < 2) {
    throw Error(ErrorCode::invalid_argument,
                fmt::format("the text has {} tokens; expected at least 2, the second being foretold", tokens.size()));
  }
  return tokens;
}

void catch_interrupts() {
  struct sigaction action = {};
  action.sa_handler = on_interrupt;  // without SA_RESTART: reading a line ends, too
  sigaction(SIGINT, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);
}

bool take_interrupt() {
  const bool was = interrupted != 0;
  interrupted = 0;
  return was;
}

}  // namespace tilewise::cli
