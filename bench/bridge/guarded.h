// How what throws becomes what C returns.
#pragma once

#include <exception>
#include <string>

namespace {

/// Of the last step that failed on this thread.
thread_local std::string error;

/// 0, or 1 where the step threw; `error` then says what.
template <class Step>
int guarded(Step step) {
  try {
    step();
    return 0;
  } catch (const std::exception& failure) {
    error = failure.what();
    return 1;
  }
}

}  // namespace
