#include "jit/driver_error.h"

#include <array>

namespace tilewise::jit {
namespace {

struct Row {
  DriverResult result;  // CUresult
  DriverFailure failure;
};

constexpr auto kRows = std::to_array<Row>({
    {2, DriverFailure::out_of_memory},   // OUT_OF_MEMORY
    {34, DriverFailure::wrong_driver},   // STUB_LIBRARY: the toolkit's libcuda, for linking only
    {36, DriverFailure::wrong_driver},   // CALL_REQUIRES_NEWER_DRIVER
    {46, DriverFailure::device_lost},    // DEVICE_UNAVAILABLE
    {100, DriverFailure::no_device},     // NO_DEVICE
    {101, DriverFailure::no_device},     // INVALID_DEVICE
    {200, DriverFailure::wrong_binary},  // INVALID_IMAGE
    {209, DriverFailure::wrong_binary},  // NO_BINARY_FOR_GPU
    {214, DriverFailure::device_lost},   // ECC_UNCORRECTABLE
    {218, DriverFailure::wrong_binary},  // INVALID_PTX
    {220, DriverFailure::device_lost},   // NVLINK_UNCORRECTABLE
    {222, DriverFailure::wrong_binary},  // UNSUPPORTED_PTX_VERSION
    {226, DriverFailure::device_lost},   // CONTAINED
    {300, DriverFailure::wrong_binary},  // INVALID_SOURCE
    {700, DriverFailure::device_lost},   // ILLEGAL_ADDRESS
    {702, DriverFailure::device_lost},   // LAUNCH_TIMEOUT
    {709, DriverFailure::device_lost},   // CONTEXT_IS_DESTROYED
    {710, DriverFailure::device_lost},   // ASSERT
    {714, DriverFailure::device_lost},   // HARDWARE_STACK_ERROR
    {715, DriverFailure::device_lost},   // ILLEGAL_INSTRUCTION
    {716, DriverFailure::device_lost},   // MISALIGNED_ADDRESS
    {717, DriverFailure::device_lost},   // INVALID_ADDRESS_SPACE
    {718, DriverFailure::device_lost},   // INVALID_PC
    {719, DriverFailure::device_lost},   // LAUNCH_FAILED
    {721, DriverFailure::device_lost},   // TENSOR_MEMORY_LEAK
    {803, DriverFailure::wrong_driver},  // SYSTEM_DRIVER_MISMATCH: user-mode and kernel-mode parts differ
    {804, DriverFailure::wrong_driver},  // COMPAT_NOT_SUPPORTED_ON_DEVICE
});

}  // namespace

DriverFailure failure_of(DriverResult result) {
  for (const Row& row : kRows) {
    if (row.result == result) return row.failure;
  }
  return DriverFailure::other;
}

const char* advice_for(DriverFailure failure) {
  switch (failure) {
    case DriverFailure::no_device:
      return "Check that nvidia-smi lists the GPU and that CUDA_VISIBLE_DEVICES does not hide it; the CPU needs none.";
    case DriverFailure::wrong_driver: return "Update the NVIDIA driver, or reboot if it was just updated.";
    case DriverFailure::wrong_binary:
      return "Update the NVIDIA driver, or set TILEWISE_NVRTC to an NVRTC of the driver's own CUDA release or an older "
             "one.";
    case DriverFailure::out_of_memory:
      return "Free GPU memory or make the problem smaller; other processes on the GPU count too.";
    case DriverFailure::device_lost:
      return "This process cannot use the GPU any more, whatever it calls next: restart it. The CPU still works. If it "
             "comes again, compute-sanitizer tells an error in a kernel from one of the GPU.";
    case DriverFailure::other: return "";
  }
  return "";
}

}  // namespace tilewise::jit
