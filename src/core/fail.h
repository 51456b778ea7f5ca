// Formats and throws tilewise::Error.
#pragma once

#include <fmt/format.h>

#include <utility>

#include "tilewise/error.h"

namespace tilewise {

/// Throws Error(code, formatted message). The message names the argument, its value and what was expected.
template <class... Args>
[[noreturn]] void fail(ErrorCode code, fmt::format_string<Args...> message, Args&&... args) {
  throw Error(code, fmt::format(message, std::forward<Args>(args)...));
}

/// fail(ErrorCode::invalid_argument, ...), by far the most common kind.
template <class... Args>
[[noreturn]] void fail_argument(fmt::format_string<Args...> message, Args&&... args) {
  throw Error(ErrorCode::invalid_argument, fmt::format(message, std::forward<Args>(args)...));
}

}  // namespace tilewise
