// Memory that cannot be had, as an error of the library.
#pragma once

#include <new>
#include <utility>

#include "core/fail.h"

namespace tilewise {

/// call(), where std::bad_alloc becomes Error(out_of_memory, formatted message).
template <class Call, class... Args>
decltype(auto) or_out_of_memory(const Call& call, fmt::format_string<Args...> message, Args&&... args) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    fail(ErrorCode::out_of_memory, message, std::forward<Args>(args)...);
  }
}

}  // namespace tilewise
