// Devices, and what the driver says of GPUs.
#include "tilewise/device.h"

#include "core/fail.h"
#include "cuda/launch/read_rate.h"
#include "jit/device.h"
#include "jit/driver_error.h"

namespace tilewise {
namespace {

GpuInfo described(const jit::DeviceInfo& device) {
  return {.ordinal = device.ordinal,
          .name = device.name,
          .pci_bus = device.pci_bus,
          .compute_capability = fmt::format("{}.{}", device.compute_capability_major, device.compute_capability_minor),
          .multiprocessors = device.multiprocessors,
          .shared_bytes = device.shared_bytes_per_multiprocessor,
          .l2_bytes = device.l2_bytes,
          .memory_bytes = device.memory_bytes,
          .clock_khz = device.clock_khz};
}

}  // namespace

Device Device::cuda(int ordinal) {
  if (ordinal < 0) fail_argument("ordinal is {}; expected a GPU's number, from 0 on", ordinal);
  return Device(nullptr, ordinal);
}

std::string Device::text() const { return is_cuda() ? fmt::format("cuda:{}", ordinal_) : "cpu"; }

std::vector<GpuInfo> list_gpus() {
  std::vector<GpuInfo> gpus;
  try {
    for (const jit::DeviceInfo& device : jit::list_devices(jit::Driver::instance())) gpus.push_back(described(device));
  } catch (const jit::DriverError& error) {
    if (error.failure() != jit::DriverFailure::no_device) throw;
  }
  return gpus;
}

double measure_gpu_read_gbs(int ordinal) {
  if (ordinal < 0) fail_argument("ordinal is {}; expected a GPU's number, from 0 on", ordinal);
  return cuda::measure_read_gbs(jit::Compiler::instance(), jit::shared_context(ordinal));
}

}  // namespace tilewise
