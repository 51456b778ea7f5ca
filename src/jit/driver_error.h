// What the driver's results mean to a caller.
#pragma once

#include <string>

#include "jit/driver_api.h"
#include "tilewise/error.h"

namespace tilewise::jit {

/// The kinds of failure that a caller can act upon.
enum class DriverFailure {
  no_device,      ///< The driver shows no GPU.
  wrong_driver,   ///< The driver is too old, a stub, or does not match the kernel module.
  wrong_binary,   ///< The driver does not take the machine code: other architecture, or a newer compiler's.
  out_of_memory,  ///< Of the GPU; Error's code says so too.
  device_lost,    ///< An error that leaves the context unusable in this process.
  other,
};

/// Error(device), or Error(out_of_memory).
class DriverError : public Error {
 public:
  DriverError(DriverResult result, DriverFailure failure, const std::string& message)
      : Error(failure == DriverFailure::out_of_memory ? ErrorCode::out_of_memory : ErrorCode::device, message),
        result_(result),
        failure_(failure) {}

  DriverResult result() const { return result_; }
  DriverFailure failure() const { return failure_; }

 private:
  DriverResult result_;
  DriverFailure failure_;
};

/// The kind of failure that a result is.
DriverFailure failure_of(DriverResult result);

/// What to do about it: a sentence, or "".
const char* advice_for(DriverFailure failure);

}  // namespace tilewise::jit
