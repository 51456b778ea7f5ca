// NVRTC, the CUDA run-time compiler, opened where it is present.
#pragma once

#include <string>
#include <vector>

#include "jit/nvrtc_api.h"
#include "jit/program.h"

namespace tilewise::jit {

/// An opened NVRTC. Const and shared between threads.
class Nvrtc {
 public:
  /// The process's NVRTC, opened at the first call as nvrtc_candidates(TILEWISE_NVRTC) says. Throws Error(device) where
  /// none is found; a later call then tries again.
  static const Nvrtc& instance();

  /// Opens the first of these candidates that serves. Throws Error(device).
  static Nvrtc open(const std::vector<std::string>& candidates);

  /// "nvrtc-13.0": what a binary's `compiler` says.
  const std::string& identity() const { return identity_; }

  /// The library's file.
  const std::string& path() const { return path_; }

  /// Architectures that it has code for, such as 80, 90, 100, ascending.
  const std::vector<int>& supported() const { return supported_; }

  /// Compiles to machine code. Throws CompileError where the program is at fault, Error(device) for an architecture or
  /// option that this NVRTC does not take, Error(invalid_argument) as validate() and headers_used().
  Binary compile(const Program& program) const;

 private:
  void check_architecture(const Architecture& architecture) const;

  NvrtcApi api_{};
  std::string identity_;  // "nvrtc-13.0"
  std::string title_;     // "NVRTC 13.0 (/usr/lib/libnvrtc.so.13)", for messages
  std::string path_;
  std::vector<int> supported_;
};

/// Where NVRTC is looked for. `chosen` is TILEWISE_NVRTC: a library, or a folder that has one, directly or as the
/// Python wheels lay it out (nvidia/cuda_nvrtc/lib, nvidia/cu13/lib); then nowhere else. Where it is empty: the names
/// of CUDA 13, 12 and 11.2 to 11.8 by the dynamic linker, then in /usr/local/cuda/lib64.
std::vector<std::string> nvrtc_candidates(const std::string& chosen);

}  // namespace tilewise::jit
