// tilewise: the command line.
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>

#include "command.h"
#include "suggest.h"
#include "tilewise/error.h"

namespace {

constexpr int kBadArguments = 2;  // the usual exit status for a command that was called wrongly
constexpr int kFailed = 1;

void add_commands(CLI::App& program) {
  using namespace tilewise::cli;  // NOLINT(google-build-using-namespace): all of it is used
  CLI::App& explain = *program.add_subcommand("explain", "Explain what is computed, and what it costs");
  explain.require_subcommand(1);
  add_explain_softmax(explain);
  add_explain_attention(explain);
  CLI::App& bench = *program.add_subcommand("bench", "Measure attention and models on this machine");
  bench.require_subcommand(1);
  add_bench_attention(bench);
  add_bench_figure3(bench);
  add_bench_sparse(bench);
  add_bench_generate(bench);
  add_bench_cache(bench);
  add_variants(program);
  add_device(program);
  add_compile(program);
  add_tune(program);
  add_inspect(program);
  add_generate(program);
  add_chat(program);
  add_embed(program);
  add_perplexity(program);
  add_quantize(program);
}

/// Why a text is no number of 64 bits; empty where it is one. The parser by itself would take the nearest one that
/// there is, and of other texts say no more than that it could not convert them.
std::string refusal_of_whole_number(const std::string& text) {
  char* end = nullptr;
  errno = 0;
  std::strtoll(text.c_str(), &end, 0);
  if (errno == ERANGE) return text + " is beyond what 64 bits hold";
  return text.empty() || *end != '\0' ? "'" + text + "' is not a whole number" : "";
}

std::string refusal_of_number(const std::string& text) {
  char* end = nullptr;
  std::strtod(text.c_str(), &end);
  return text.empty() || *end != '\0' ? "'" + text + "' is not a number" : "";
}

void refuse_what_is_no_number(CLI::App& command) {
  for (CLI::Option* option : command.get_options()) {
    const std::string type = option->get_type_name();
    if (type == "INT") option->check(refusal_of_whole_number);
    if (type == "FLOAT") option->check(refusal_of_number);
  }
  for (CLI::App* subcommand : command.get_subcommands({})) refuse_what_is_no_number(*subcommand);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App program("Exact attention, tile by tile.", "tilewise");
  program.footer(
      "Start here:\n"
      "  tilewise explain softmax\n"
      "  tilewise explain attention --variant 'window(1024) & softcap(30)' --queries 4096\n"
      "  tilewise bench figure3 --time-limit 60\n"
      "  tilewise variants\n"
      "  tilewise generate --model model.gguf --prompt 'Once upon a time'\n"
      "  tilewise chat --model model.gguf\n"
      "Each command has --help with examples, and --json for scripts.");
  program.require_subcommand(1);
  add_commands(program);
  refuse_what_is_no_number(program);
  try {
    program.parse(argc, argv);
  } catch (const CLI::RuntimeError& error) {
    return error.get_exit_code();  // a command that has told all there is to tell
  } catch (const CLI::ParseError& error) {
    const int status = program.exit(error);  // prints the message, or the help that was asked for
    if (status == 0) return 0;
    std::fputs(tilewise::cli::suggestions(program, argc, argv).c_str(), stderr);
    return kBadArguments;
  } catch (const tilewise::Error& error) {
    std::fprintf(stderr, "tilewise: %s\n", error.what());
    const bool bad_call =
        error.code() == tilewise::ErrorCode::invalid_argument || error.code() == tilewise::ErrorCode::parse;
    return bad_call ? kBadArguments : kFailed;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "tilewise: %s\n", error.what());
    return kFailed;
  }
  return 0;
}
