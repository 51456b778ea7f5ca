// A program that does not compile.
#pragma once

#include <string>
#include <vector>

#include "jit/log.h"
#include "tilewise/error.h"

namespace tilewise::jit {

/// Error(device) with the compiler's own words. `what()` begins with the first error and its place.
class CompileError : public Error {
 public:
  CompileError(const std::string& message, std::string log, std::vector<Diagnostic> diagnostics)
      : Error(ErrorCode::device, message), log_(std::move(log)), diagnostics_(std::move(diagnostics)) {}

  /// What the compiler wrote, whole.
  const std::string& log() const { return log_; }

  /// The errors and warnings in it, in order.
  const std::vector<Diagnostic>& diagnostics() const { return diagnostics_; }

 private:
  std::string log_;
  std::vector<Diagnostic> diagnostics_;
};

/// The error for a program that `compiler` ("NVRTC 13.0") refused with this log.
CompileError compile_error(const Program& program, const std::string& compiler, const std::string& log);

}  // namespace tilewise::jit
