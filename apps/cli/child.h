// Other programs, run for what they print.
#pragma once

#include <string>
#include <vector>

namespace tilewise::cli {

/// As one word of a shell's command line.
std::string quoted(const std::string& text);

struct ChildOutput {
  std::vector<std::string> lines;  // standard output and standard error
  int status = 0;                  // its exit status; that of the shell, 127, where there is no such program; else -1
};

/// Waits for a shell's command line. Where no process could be started that is what its only line says.
ChildOutput run_child(const std::string& command);

}  // namespace tilewise::cli
