// The content key of a program: equal keys, equal code.
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <string>

#include "jit/program.h"

namespace tilewise::jit {

/// 128 bits, the same on every machine. The compiler's version is not part of it: an entry compiled elsewhere serves.
struct Key {
  std::array<std::uint8_t, 16> bytes{};

  /// 32 lower-case hexadecimal digits: the name of the entry on disk.
  std::string hex() const;

  auto operator<=>(const Key&) const = default;
};

/// XXH3-128 over name, source, the headers that are used (in the order of their names), options, architecture and
/// kernels. Headers that are not included and places (which only messages show) do not count. Throws as headers_used.
Key key_of(const Program& program);

}  // namespace tilewise::jit
