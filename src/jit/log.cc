#include "jit/log.h"

#include <array>
#include <optional>
#include <string_view>

namespace tilewise::jit {
namespace {

// Calls visit(line) for each line of the text, without its end.
template <class Visit>
void each_line(const std::string& text, Visit visit) {
  for (std::size_t begin = 0; begin < text.size();) {
    std::size_t end = text.find('\n', begin);
    if (end == std::string::npos) end = text.size();
    visit(text.substr(begin, end - begin));
    begin = end + 1;
  }
}

std::string place_at(const std::vector<Place>& places, const std::string& file, int line) {
  const Place* best = nullptr;
  for (const Place& place : places) {
    if (place.file == file && place.line <= line && (best == nullptr || place.line >= best->line)) best = &place;
  }
  return best == nullptr ? "" : best->place;
}

// The number that stands just before `unit` in a line such as "Used 32 registers, 4096 bytes smem"; 0 where the line
// does not speak of that unit, as the assembler leaves out what is zero.
std::int64_t number_before(const std::string& line, const std::string& unit) {
  const std::size_t at = line.find(" " + unit);
  if (at == std::string::npos) return 0;
  std::size_t begin = at;
  while (begin > 0 && line[begin - 1] >= '0' && line[begin - 1] <= '9') --begin;
  return begin == at || at - begin > 18 ? 0 : std::stoll(line.substr(begin, at - begin));
}

// What stands after `words`; nullopt where the line does not have them.
std::optional<std::string> after(const std::string& line, const std::string& words) {
  const std::size_t at = line.find(words);
  if (at == std::string::npos) return std::nullopt;
  return line.substr(at + words.size());
}

using Severity = Diagnostic::Severity;

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// The number in text[begin, end), which are digits; at most nine are read.
int to_int(const std::string& text, std::size_t begin, std::size_t end) {
  int value = 0;
  for (std::size_t at = begin; at < end && at < begin + 9; ++at) value = 10 * value + (text[at] - '0');
  return value;
}

// Lines are taken apart by hand: they quote source lines of any length, on which std::regex overflows the stack.

// "forward.cu(12): error: text", "x.h(3): warning #177-D: text", "x.h(3): catastrophic error: text"
std::optional<Diagnostic> compiler_diagnostic(const std::string& line) {
  struct Marker {
    const char* text;
    Severity severity;
  };
  constexpr auto kMarkers = std::to_array<Marker>(
      {{"): error", Severity::error}, {"): catastrophic error", Severity::error}, {"): warning", Severity::warning}});
  for (const Marker& marker : kMarkers) {
    const std::size_t close = line.find(marker.text);
    if (close == std::string::npos) continue;
    std::size_t open = close;
    while (open > 0 && is_digit(line[open - 1])) --open;
    const std::size_t colon = line.find(": ", close + 2);
    if (open < 2 || open == close || line[open - 1] != '(' || colon == std::string::npos) continue;
    return Diagnostic{marker.severity, line.substr(0, open - 1), to_int(line, open, close), line.substr(colon + 2), ""};
  }
  return std::nullopt;
}

// "ptxas application ptx input, line 27; error   : text", "ptxas fatal   : text", "nvrtc: error: text"
std::optional<Diagnostic> tool_diagnostic(const std::string& line) {
  if (line.rfind("ptxas", 0) != 0 && line.rfind("nvrtc", 0) != 0) return std::nullopt;
  for (const char* word : {"error", "fatal", "warning"}) {
    const std::size_t at = line.find(std::string(" ") + word);
    if (at == std::string::npos) continue;
    const std::size_t colon = line.find_first_not_of(' ', at + 1 + std::string(word).size());
    if (colon == std::string::npos || line.compare(colon, 2, ": ") != 0) continue;
    return Diagnostic{word == std::string("warning") ? Severity::warning : Severity::error, "", 0,
                      line.substr(colon + 2), ""};
  }
  return std::nullopt;
}

// Gives a diagnostic without a place that of the line it was instantiated from: "... at line 2 of w.h"; without
// "of", the line is in the diagnostic's own file.
void take_place_of_instantiation(const std::string& line, const std::vector<Place>& places, Diagnostic& diagnostic) {
  const std::string words = " at line ";
  const std::size_t at = line.rfind(words);
  if (!diagnostic.place.empty() || at == std::string::npos || line.find("instantiation of") == std::string::npos)
    return;
  const std::size_t begin = at + words.size();
  std::size_t end = begin;
  while (end < line.size() && is_digit(line[end])) ++end;
  const bool elsewhere = line.compare(end, 4, " of ") == 0;
  diagnostic.place = place_at(places, elsewhere ? line.substr(end + 4) : diagnostic.file, to_int(line, begin, end));
}

}  // namespace

std::vector<Diagnostic> parse_diagnostics(const std::string& log, const std::vector<Place>& places) {
  std::vector<Diagnostic> diagnostics;
  each_line(log, [&](const std::string& line) {
    std::optional<Diagnostic> diagnostic = compiler_diagnostic(line);
    if (!diagnostic) diagnostic = tool_diagnostic(line);
    if (diagnostic) {
      diagnostic->place = place_at(places, diagnostic->file, diagnostic->line);
      diagnostics.push_back(std::move(*diagnostic));
    } else if (!diagnostics.empty()) {
      take_place_of_instantiation(line, places, diagnostics.back());
    }
  });
  return diagnostics;
}

std::map<std::string, Resources> parse_resources(const std::string& log) {
  // For each kernel: "Compiling entry function 'symbol' for ...", then "Function properties for symbol" with the line
  // of stack and spills, then "Used ... registers, ...". Properties of other functions may stand between.
  std::map<std::string, Resources> kernels;
  std::string entry;     // the kernel being compiled
  std::string function;  // the function whose properties are listed
  Resources resources;
  each_line(log, [&](const std::string& line) {
    if (auto quoted = after(line, "Compiling entry function '")) {
      entry = quoted->substr(0, quoted->find('\''));
      resources = Resources();
    } else if (auto name = after(line, "Function properties for ")) {
      function = *name;
    } else if (line.find("bytes stack frame") != std::string::npos && function == entry) {
      resources.stack_bytes = static_cast<int>(number_before(line, "bytes stack frame"));
      resources.spill_store_bytes = static_cast<int>(number_before(line, "bytes spill stores"));
      resources.spill_load_bytes = static_cast<int>(number_before(line, "bytes spill loads"));
    } else if (line.find("Used ") != std::string::npos && !entry.empty()) {
      resources.registers = static_cast<int>(number_before(line, "registers"));
      resources.shared_bytes = number_before(line, "bytes smem");
      kernels[entry] = resources;
      entry.clear();
    }
  });
  return kernels;
}

}  // namespace tilewise::jit
