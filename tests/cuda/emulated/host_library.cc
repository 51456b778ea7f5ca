#include "tests/cuda/emulated/host_library.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <stdexcept>
#include <vector>

namespace tilewise::cuda::testing {
namespace {

/// The parts of a statement between the parenthesis at `begin` and its counterpart, at the colons of its own level;
/// `end` becomes the counterpart's place.
std::vector<std::string> parts_of(const std::string& text, std::size_t begin, std::size_t& end) {
  std::vector<std::string> parts(1);
  int depth = 1;
  bool is_quoted = false;
  for (end = begin + 1; end < text.size(); ++end) {
    const char c = text[end];
    if (is_quoted && c == '\\') {
      parts.back() += c;
      parts.back() += text[++end];
      continue;
    }
    if (c == '"') is_quoted = !is_quoted;
    if (!is_quoted && (c == '(' || c == '[' || c == '{')) ++depth;
    if (!is_quoted && (c == ')' || c == ']' || c == '}') && --depth == 0) return parts;
    if (!is_quoted && c == ':' && depth == 1) {
      parts.emplace_back();
    } else {
      parts.back() += c;
    }
  }
  throw std::runtime_error("an asm statement has no end");
}

/// The expressions of operands: "=f"(x), "r"(f(y)).
std::vector<std::string> operands_of(const std::string& part) {
  std::vector<std::string> operands;
  for (std::size_t quote = part.find('"'); quote != std::string::npos; quote = part.find('"', quote)) {
    const std::size_t begin = part.find('(', part.find('"', quote + 1));
    if (begin == std::string::npos) break;  // of clobbers
    int depth = 1;
    std::size_t end = begin + 1;
    for (; depth > 0; ++end) depth += part[end] == '(' ? 1 : part[end] == ')' ? -1 : 0;
    operands.push_back(part.substr(begin + 1, end - begin - 2));
    quote = end;
  }
  return operands;
}

std::string call_of(const std::vector<std::string>& parts) {
  static const std::regex kInstruction(R"re(\s*"\s*(?:\{\\n\.reg [.a-z0-9]+ \w+;\\n)?([a-z][A-Za-z0-9_.]*))re");
  std::smatch found;
  if (!std::regex_search(parts[0], found, kInstruction, std::regex_constants::match_continuous)) return ";";  // of none
  std::string name = found[1];
  for (char& c : name) c = c == '.' ? '_' : c;
  std::vector<std::string> operands = operands_of(parts.size() > 1 ? parts[1] : "");
  for (std::string& input : operands_of(parts.size() > 2 ? parts[2] : "")) operands.push_back(std::move(input));
  return fmt::format("ptx::{}({})", name, fmt::join(operands, ", "));
}

/// What each text begins with.
constexpr const char* kBeginning = R"cpp(
#include "ptx.h"
#define EXPORTED extern "C" __attribute__((visibility("default")))
)cpp";

void write(const std::filesystem::path& path, const std::string& text) {
  std::filesystem::create_directories(path.parent_path());
  std::ofstream(path) << text;
}

}  // namespace

std::string host_text(const std::string& text) {
  static const std::regex kStatement(R"re(\basm( volatile)?\()re");
  static const std::regex kShared(R"re(extern __shared__ __align__\(\d+\) unsigned char shared\[\];)re");
  std::string made;
  std::size_t at = 0;
  for (std::sregex_iterator one(text.begin(), text.end(), kStatement), none; one != none; ++one) {
    const auto begin = static_cast<std::size_t>(one->position());
    made += text.substr(at, begin - at);
    std::size_t end = 0;
    made += call_of(parts_of(text, begin + static_cast<std::size_t>(one->length()) - 1, end));
    at = end + 1;
  }
  return std::regex_replace(made + text.substr(at), kShared, "unsigned char* const shared = simt::dynamic_shared();");
}

HostLibrary::HostLibrary(const std::string& source, const std::map<std::string, std::string>& headers,
                         const char* optimisation) {
  const std::filesystem::path folder = folder_.path();
  for (const auto& [name, text] : headers) write(folder / name, text);
  write(folder / "text.cc", kBeginning + source);
  const std::string command = fmt::format(
      "{0} -std=c++20 {1} -w -fno-strict-aliasing -ffp-contract=off -fvisibility=hidden -shared -fPIC -I{2} -I{3} "
      "-I{4} -o {2}/text.so {2}/text.cc",
      TILEWISE_CXX_COMPILER, optimisation, folder.string(), TILEWISE_EMULATED, TILEWISE_SOURCES);
  if (std::system(command.c_str()) != 0) throw std::runtime_error("the text does not compile: " + command);
  library_ = dlopen((folder / "text.so").c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library_ == nullptr) throw std::runtime_error(dlerror());
}

HostLibrary::~HostLibrary() {
  if (library_ != nullptr) dlclose(library_);
}

void* HostLibrary::symbol(const std::string& name) const {
  void* const found = dlsym(library_, name.c_str());
  if (found == nullptr) throw std::runtime_error("the text has no function " + name);
  return found;
}

}  // namespace tilewise::cuda::testing
