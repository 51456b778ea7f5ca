#include "progress.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>

namespace tilewise::cli {

Progress::Progress(int steps) : steps_(steps), is_terminal_(isatty(STDERR_FILENO) == 1) {}

Progress::~Progress() {
  if (is_terminal_) std::fputs(fmt::format("\r{:{}}\r", "", shown_).c_str(), stderr);
}

void Progress::step(const std::string& what) {
  step_ = fmt::format("[{}/{}] {}", ++at_, steps_, what);
  if (is_terminal_)
    show(step_);
  else
    std::fputs((step_ + "\n").c_str(), stderr);
}

void Progress::detail(const std::string& what) {
  if (is_terminal_) show(step_ + ": " + what);
}

void Progress::show(const std::string& text) {
  const std::string line = text.substr(0, 119);
  std::fputs(fmt::format("\r{:{}}", line, shown_).c_str(), stderr);
  shown_ = line.size();
}

}  // namespace tilewise::cli
