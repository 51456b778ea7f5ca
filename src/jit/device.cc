#include "jit/device.h"

#include <fmt/format.h>

#include <array>

namespace tilewise::jit {
namespace {

constexpr DriverResult kInvalidValue = 1;

int attribute(const Driver& driver, DeviceHandle device, DeviceAttribute which) {
  int value = 0;
  driver.check(driver.api().device_get_attribute(&value, which, device), "to describe the GPU");
  return value;
}

// An attribute that newer drivers may drop, as the clocks are on the way out: 0 where the driver does not know it.
int optional_attribute(const Driver& driver, DeviceHandle device, DeviceAttribute which) {
  int value = 0;
  const DriverResult result = driver.api().device_get_attribute(&value, which, device);
  if (result == kInvalidValue) return 0;
  driver.check(result, "to describe the GPU");
  return value;
}

}  // namespace

DeviceInfo describe_device(const Driver& driver, int ordinal) {
  DeviceHandle device = 0;
  const DriverResult result = driver.api().device_get(&device, ordinal);
  if (result != 0) driver.fail(result, fmt::format("to find GPU {}", ordinal));
  const auto get = [&](DeviceAttribute which) { return attribute(driver, device, which); };

  DeviceInfo info;
  info.ordinal = ordinal;
  std::array<char, 256> name{};
  driver.check(driver.api().device_get_name(name.data(), static_cast<int>(name.size()), device), "to name the GPU");
  info.name = name.data();
  info.pci_bus = fmt::format("{:04x}:{:02x}:{:02x}", get(DeviceAttribute::pci_domain), get(DeviceAttribute::pci_bus),
                             get(DeviceAttribute::pci_device));
  info.compute_capability_major = get(DeviceAttribute::compute_capability_major);
  info.compute_capability_minor = get(DeviceAttribute::compute_capability_minor);
  info.multiprocessors = get(DeviceAttribute::multiprocessors);
  info.registers_per_multiprocessor = get(DeviceAttribute::registers_per_multiprocessor);
  info.shared_bytes_per_multiprocessor = get(DeviceAttribute::shared_bytes_per_multiprocessor);
  info.shared_bytes_per_block = get(DeviceAttribute::shared_bytes_per_block_opt_in);
  info.l2_bytes = get(DeviceAttribute::l2_bytes);
  info.memory_bus_bits = get(DeviceAttribute::memory_bus_bits);
  info.clock_khz = optional_attribute(driver, device, DeviceAttribute::clock_khz);
  info.memory_clock_khz = optional_attribute(driver, device, DeviceAttribute::memory_clock_khz);
  std::size_t memory = 0;
  driver.check(driver.api().device_total_memory(&memory, device), "to give the GPU's memory");
  info.memory_bytes = static_cast<std::int64_t>(memory);
  return info;
}

std::vector<DeviceInfo> list_devices(const Driver& driver) {
  int count = 0;
  driver.check(driver.api().device_get_count(&count), "to count the GPUs");
  std::vector<DeviceInfo> devices;
  for (int ordinal = 0; ordinal < count; ++ordinal) devices.push_back(describe_device(driver, ordinal));
  return devices;
}

}  // namespace tilewise::jit
