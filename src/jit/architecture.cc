#include "jit/architecture.h"

#include "core/fail.h"

namespace tilewise::jit {

std::string Architecture::name() const {
  std::string text = fmt::format("sm_{}", number);
  if (suffix != 0) text += suffix;
  return text;
}

Architecture Architecture::parse(const std::string& name) {
  constexpr std::size_t kPrefix = 3;  // "sm_"
  std::size_t end = kPrefix;
  Architecture architecture;
  if (name.rfind("sm_", 0) == 0) {
    while (end < name.size() && end < kPrefix + 4 && name[end] >= '0' && name[end] <= '9') {
      architecture.number = 10 * architecture.number + (name[end++] - '0');
    }
  }
  const bool has_suffix = end + 1 == name.size() && (name[end] == 'a' || name[end] == 'f');
  if (has_suffix) architecture.suffix = name[end++];
  if (architecture.number < 10 || end != name.size()) {
    fail(ErrorCode::parse, "architecture \"{}\" does not read; expected a name such as sm_80, sm_90a or sm_100", name);
  }
  return architecture;
}

Architecture Architecture::of_compute_capability(int major, int minor) {
  const int number = 10 * major + minor;
  return {number, number == 90 ? 'a' : '\0'};
}

}  // namespace tilewise::jit
