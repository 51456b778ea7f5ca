// The CUDA driver, opened where it is present.
#pragma once

#include <string>
#include <vector>

#include "jit/driver_api.h"

namespace tilewise::jit {

/// An opened and initialised driver. Const and shared between threads.
class Driver {
 public:
  /// The oldest driver that serves, as the CUDA release it comes with: 11.8, for cuLaunchKernelEx.
  static constexpr int kOldestVersion = 11080;

  /// The process's driver, opened at the first call. Throws Error(device) where there is none, it is too old, or it
  /// shows no GPU; a later call then tries again.
  static const Driver& instance();

  /// Opens the first of these candidates that serves and initialises it. Throws as instance().
  static Driver open(const std::vector<std::string>& candidates);

  const DriverApi& api() const { return api_; }

  /// 13000 for CUDA 13.0.
  int version() const { return version_; }
  const std::string& path() const { return path_; }

  /// Throws DriverError for any result but success. `doing` completes "The GPU's driver failed ...".
  void check(DriverResult result, const char* doing) const {
    if (result != 0) fail(result, doing);
  }

  /// Whether a graph captures what is queued on a stream; the default stream none can capture. Throws DriverError.
  bool is_captured(StreamHandle stream) const {
    int status = 0;
    if (stream != nullptr) check(api_.stream_is_capturing(stream, &status), "to tell whether a stream is captured");
    return status != 0;
  }

  /// Throws DriverError for that result.
  [[noreturn]] void fail(DriverResult result, const std::string& doing) const;

 private:
  DriverApi api_{};
  int version_ = 0;
  std::string path_;
};

/// Where the driver is looked for.
std::vector<std::string> driver_candidates();

}  // namespace tilewise::jit
