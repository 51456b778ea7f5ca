// The GPUs that the driver shows.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "jit/architecture.h"
#include "jit/driver.h"

namespace tilewise::jit {

/// One GPU, as the driver describes it.
struct DeviceInfo {
  int ordinal = 0;
  std::string name;     // "NVIDIA H200"
  std::string pci_bus;  // "0000:17:00": domain, bus, device
  int compute_capability_major = 0;
  int compute_capability_minor = 0;
  int multiprocessors = 0;
  int registers_per_multiprocessor = 0;  // of 32 bits
  std::int64_t shared_bytes_per_multiprocessor = 0;
  std::int64_t shared_bytes_per_block = 0;  // the most, static and dynamic together, when asked for
  std::int64_t l2_bytes = 0;
  std::int64_t memory_bytes = 0;
  int memory_bus_bits = 0;
  std::int64_t clock_khz = 0;         // typical; 0 where the driver does not say
  std::int64_t memory_clock_khz = 0;  // 0 where the driver does not say

  /// What to compile for.
  Architecture architecture() const {
    return Architecture::of_compute_capability(compute_capability_major, compute_capability_minor);
  }
};

/// The GPU of that ordinal; throws DriverError where there is none.
DeviceInfo describe_device(const Driver& driver, int ordinal);

/// All of them, by ordinal.
std::vector<DeviceInfo> list_devices(const Driver& driver);

}  // namespace tilewise::jit
