#include "jit/compile_error.h"

#include <fmt/format.h>

#include <algorithm>

namespace tilewise::jit {
namespace {

// "variant.h(3): identifier "y" is undefined, in stage 2 of the score"
std::string in_words(const Diagnostic& diagnostic) {
  std::string text = diagnostic.message;
  if (diagnostic.line > 0) text = fmt::format("{}({}): {}", diagnostic.file, diagnostic.line, text);
  if (!diagnostic.place.empty()) text += fmt::format(", in {}", diagnostic.place);
  return text;
}

}  // namespace

CompileError compile_error(const Program& program, const std::string& compiler, const std::string& log) {
  std::vector<Diagnostic> diagnostics = parse_diagnostics(log, program.places);
  const auto is_error = [](const Diagnostic& diagnostic) { return diagnostic.severity == Diagnostic::Severity::error; };
  const auto errors = std::count_if(diagnostics.begin(), diagnostics.end(), is_error);
  std::string message =
      fmt::format("{} does not compile for {} with {}", program.name, program.architecture.name(), compiler);
  if (errors > 0) {
    message += ": " + in_words(*std::find_if(diagnostics.begin(), diagnostics.end(), is_error));
    if (errors > 1) message += fmt::format(" ({} errors in all)", errors);
  }
  message += "\nThe compiler's log:\n" + log;
  return CompileError(message, log, std::move(diagnostics));
}

}  // namespace tilewise::jit
