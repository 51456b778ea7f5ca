// The one exception type of the library. Nothing in Tilewise prints, exits or aborts on input: it throws this.
#pragma once

#include <stdexcept>
#include <string>

namespace tilewise {

/// What kind of failure an Error reports.
enum class ErrorCode {
  invalid_argument,  ///< A value, shape, dtype or combination that the call does not take.
  parse,             ///< Text (a variant, a file) that does not read.
  unsupported,       ///< Well-formed, but no backend takes it; the message lists each and why it refused.
  out_of_memory,     ///< An allocation of the stated size failed.
  io,                ///< A file or stream could not be read or written.
  device,            ///< A GPU, its driver or its compiler failed or is missing.
};

/// The name of a code as it appears in messages and JSON, such as "invalid_argument".
const char* to_string(ErrorCode code);

/// Thrown on any failure. `what()` names the argument, its value, what was expected and what to do.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace tilewise
