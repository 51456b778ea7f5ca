#include "child.h"

#include <sys/wait.h>

#include <array>
#include <cstdio>

namespace tilewise::cli {

std::string quoted(const std::string& text) {
  std::string quotes = "'";
  for (const char c : text) quotes += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return quotes + "'";
}

ChildOutput run_child(const std::string& command) {
  FILE* pipe = popen((command + " 2>&1").c_str(), "r");
  if (pipe == nullptr) return {{"no process could be started"}, -1};
  ChildOutput output;
  std::string line;
  std::array<char, 4096> part;
  while (fgets(part.data(), part.size(), pipe) != nullptr) {
    line += part.data();
    if (line.back() != '\n') continue;
    line.pop_back();
    output.lines.push_back(std::move(line));
    line.clear();
  }
  if (!line.empty()) output.lines.push_back(std::move(line));
  const int status = pclose(pipe);
  output.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return output;
}

}  // namespace tilewise::cli
