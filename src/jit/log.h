// Reads what NVRTC and its assembler write into their log.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "jit/program.h"

namespace tilewise::jit {

/// One error or warning.
struct Diagnostic {
  enum class Severity { warning, error };
  Severity severity = Severity::error;
  std::string file;     // the program's name, a header's, or "" where the log names none (the assembler)
  int line = 0;         // from 1; 0 where the log names none
  std::string message;  // without the compiler's number for it
  std::string place;    // the caller's words for that line, from Program::places; "" where it has none
};

/// The diagnostics in the log, in order. A diagnostic inside a template or header that has no place of its own takes
/// that of the line it is instantiated from, where the log tells.
std::vector<Diagnostic> parse_diagnostics(const std::string& log, const std::vector<Place>& places);

/// What the assembler, run verbosely, says of each kernel, by symbol.
std::map<std::string, Resources> parse_resources(const std::string& log);

}  // namespace tilewise::jit
