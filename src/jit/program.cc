#include "jit/program.h"

#include <array>
#include <map>
#include <string_view>

#include "core/fail.h"

namespace tilewise::jit {
namespace {

std::string_view skip_blanks(std::string_view text) {
  const std::size_t first = text.find_first_not_of(" \t");
  return first == std::string_view::npos ? std::string_view() : text.substr(first);
}

// Takes `word` off the front of `text`, blanks before it included; false where something else stands there.
bool take(std::string_view& text, std::string_view word) {
  const std::string_view rest = skip_blanks(text);
  if (rest.substr(0, word.size()) != word) return false;
  text = rest.substr(word.size());
  return true;
}

// The header that a line includes; nullopt when it is no #include line. Empty when the name is not literal.
std::optional<std::string_view> included(std::string_view line) {
  if (!take(line, "#") || !take(line, "include")) return std::nullopt;
  line = skip_blanks(line);
  if (line.empty() || (line[0] != '"' && line[0] != '<')) return std::string_view();
  const std::size_t end = line.find(line[0] == '"' ? '"' : '>', 1);
  return end == std::string_view::npos ? std::string_view() : line.substr(1, end - 1);
}

using HeadersByName = std::map<std::string_view, const Header*>;

HeadersByName by_name(const std::vector<Header>& headers) {
  HeadersByName result;
  for (const Header& header : headers) {
    if (!result.emplace(header.name, &header).second) {
      fail_argument("program.headers holds \"{}\" twice; give each header one name", header.name);
    }
  }
  return result;
}

std::string listed(const HeadersByName& headers) {
  std::string names;
  for (const auto& [name, header] : headers) names += fmt::format("{}{}", names.empty() ? "" : ", ", name);
  return names.empty() ? "none" : names;
}

// Adds to `used` what `text` includes, and what that includes.
void collect(const std::string& file, std::string_view text, const HeadersByName& offered, HeadersByName& used) {
  int number = 1;
  for (; !text.empty(); ++number) {
    const std::size_t end = text.find('\n');
    const std::optional<std::string_view> name = included(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    if (!name) continue;
    const auto found = offered.find(*name);
    if (found == offered.end()) {
      fail_argument(
          "{}({}) includes \"{}\", which is not among the program's headers ({}); add it there, since files are never "
          "read",
          file, number, *name, listed(offered));
    }
    if (used.insert(*found).second) collect(found->second->name, found->second->text, offered, used);
  }
}

}  // namespace

std::vector<const Header*> headers_used(const Program& program) {
  HeadersByName used;
  collect(program.name, program.source, by_name(program.headers), used);
  std::vector<const Header*> result;
  for (const auto& [name, header] : used) result.push_back(header);
  return result;
}

void validate(const Program& program) {
  if (program.kernels.empty()) {
    fail_argument("program.kernels of {} is empty; name the kernels to be compiled", program.name);
  }
  // Prefixes: an option may carry its value after '=', or directly (-Ifolder).
  constexpr std::array<std::string_view, 6> kRefused = {"--gpu-architecture", "-arch",    "-I",
                                                        "--include-path",     "-include", "--pre-include"};
  for (const std::string& option : program.options) {
    for (std::string_view refused : kRefused) {
      if (option.rfind(refused, 0) == 0) {
        fail_argument("program.options of {} holds \"{}\"; set program.architecture and program.headers instead",
                      program.name, option);
      }
    }
  }
}

const KernelInfo& Binary::kernel(const std::string& name) const {
  std::string names;
  for (const KernelInfo& candidate : kernels) {
    if (candidate.name == name) return candidate;
    names += (names.empty() ? "" : ", ") + candidate.name;
  }
  fail_argument("no kernel \"{}\" in this binary; it holds {}", name, names);
}

}  // namespace tilewise::jit
