#include "jit/driver.h"

#include <memory>
#include <mutex>

#include "core/fail.h"
#include "jit/driver_error.h"

namespace tilewise::jit {
namespace {

// 12020 -> "12.2"
std::string release(int version) { return fmt::format("{}.{}", version / 1000, version % 1000 / 10); }

}  // namespace

std::vector<std::string> driver_candidates() {
  // The paths are where Windows' Linux subsystem and container runtimes put the driver without telling the linker.
  return {"libcuda.so.1", "libcuda.so", "/usr/lib/wsl/lib/libcuda.so.1", "/usr/local/nvidia/lib64/libcuda.so.1"};
}

const Driver& Driver::instance() {
  static std::mutex mutex;
  static std::unique_ptr<const Driver> opened;
  const std::lock_guard<std::mutex> lock(mutex);
  if (opened == nullptr) opened = std::make_unique<const Driver>(open(driver_candidates()));
  return *opened;
}

Driver Driver::open(const std::vector<std::string>& candidates) {
  // Only what tells the version is required of the library, so that an old one is called old rather than absent.
  const SharedLibrary library = SharedLibrary::open_first({"The CUDA driver",
                                                           candidates,
                                                           {"cuDriverGetVersion"},
                                                           "It comes with the NVIDIA driver of the machine, not with "
                                                           "the CUDA toolkit: install it, or, in a container, start "
                                                           "the container with its GPUs. The CPU needs none of it."});
  Driver driver;
  driver.api_ = bind_driver(library);
  driver.path_ = library.path();
  driver.check(driver.api_.driver_get_version(&driver.version_), "to give its version");
  if (driver.version_ < kOldestVersion) {
    tilewise::fail(
        ErrorCode::device,
        "The CUDA driver ({}) is of CUDA {}; Tilewise needs {} (driver 520) or later: update the NVIDIA driver",
        driver.path_, release(driver.version_), release(kOldestVersion));
  }
  for (const char* symbol : driver_symbols()) {
    void* address = nullptr;
    library.bind(address, symbol);
    if (address == nullptr) {
      tilewise::fail(ErrorCode::device, "The CUDA driver ({}, CUDA {}) has no {}: reinstall the NVIDIA driver",
                     driver.path_, release(driver.version_), symbol);
    }
  }
  driver.check(driver.api_.init(0), "to start");
  return driver;
}

void Driver::fail(DriverResult result, const std::string& doing) const {
  const char* name = nullptr;
  const char* text = nullptr;
  if (api_.get_error_name != nullptr) api_.get_error_name(result, &name);
  if (api_.get_error_string != nullptr) api_.get_error_string(result, &text);
  const DriverFailure failure = failure_of(result);
  throw DriverError(result, failure,
                    fmt::format("The CUDA driver (CUDA {}) failed {}: {} ({}, result {}). {}", release(version_), doing,
                                text == nullptr ? "unknown error" : text, name == nullptr ? "no name" : name, result,
                                advice_for(failure)));
}

}  // namespace tilewise::jit
