// A GPU's context: what memory, modules and launches belong to.
#pragma once

#include <memory>

#include "jit/device.h"
#include "jit/driver.h"

namespace tilewise::jit {

/// Holds a GPU's primary context, the one that the CUDA run time and PyTorch use too, so that pointers and streams go
/// back and forth. Const and shared between threads.
class Context {
 public:
  /// Throws DriverError, as for a GPU that is not there or has no memory left for a context. `driver` outlives it.
  Context(const Driver& driver, int ordinal);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  const Driver& driver() const { return driver_; }
  const DeviceInfo& device() const { return device_; }
  ContextHandle handle() const { return handle_; }

 private:
  const Driver& driver_;
  DeviceInfo device_;
  DeviceHandle device_handle_ = 0;
  ContextHandle handle_ = nullptr;
};

/// The GPU's context of whoever holds it already, else a new one: the driver takes about half a millisecond to describe
/// a GPU, longer than most calls. Throws as Context does, and DriverError where there is no driver.
std::shared_ptr<const Context> shared_context(int ordinal);

/// Makes the context the calling thread's current one, and on the way out the one before current again.
class CurrentContext {
 public:
  explicit CurrentContext(const Context& context);
  ~CurrentContext();
  CurrentContext(const CurrentContext&) = delete;
  CurrentContext& operator=(const CurrentContext&) = delete;

 private:
  const Context& context_;
  bool pushed_ = false;
};

}  // namespace tilewise::jit
