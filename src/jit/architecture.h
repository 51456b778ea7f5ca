// GPU architectures as the compiler names them.
#pragma once

#include <string>

namespace tilewise::jit {

/// A compilation target such as sm_80 or sm_90a.
struct Architecture {
  int number = 0;   // 10 * major + minor of the compute capability: 90
  char suffix = 0;  // 'a': code for this very architecture, 'f': for its family, 0: for it and later minor versions

  /// "sm_90a": what the compiler takes and the cache's keys hold.
  std::string name() const;

  bool operator==(const Architecture&) const = default;

  /// Reads a name such as "sm_90a"; throws Error(parse).
  static Architecture parse(const std::string& name);

  /// The target for a device of that compute capability. 9.0 gives sm_90a, without which wgmma, setmaxnreg and the
  /// rest of Hopper's own instructions do not compile; all others give the plain name.
  static Architecture of_compute_capability(int major, int minor);
};

}  // namespace tilewise::jit
