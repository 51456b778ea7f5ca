#include "cuda/launch/pointers.h"

#include <array>

#include "core/fail.h"

namespace tilewise::cuda {
namespace {

constexpr unsigned kDeviceMemory = 2;  // CU_MEMORYTYPE_DEVICE
constexpr std::int64_t kChunk = 16;    // bytes

}  // namespace

void expect_on_gpu(const jit::Context& context, std::string_view name, const ConstTensor& tensor) {
  if (tensor.elements() == 0) return;
  const auto address = reinterpret_cast<std::uintptr_t>(tensor.data);
  if (address % static_cast<std::uintptr_t>(size_of(tensor.dtype)) != 0) {
    fail_argument("{} begins at {:#x}; expected a multiple of {}, the bytes of a {}", name, address,
                  size_of(tensor.dtype), to_string(tensor.dtype));
  }
  unsigned type = 0, managed = 0;
  int ordinal = -1;
  using Attribute = jit::PointerAttribute;
  std::array attributes = {Attribute::memory_type, Attribute::is_managed, Attribute::device_ordinal};
  std::array<void*, attributes.size()> values = {&type, &managed, &ordinal};
  context.driver().check(
      context.driver().api().pointer_get_attributes(attributes.size(), attributes.data(), values.data(), address),
      "to describe a pointer");
  if ((managed & 0xff) != 0) return;  // a bool of C: one byte is written
  const int own = context.device().ordinal;
  if (type != kDeviceMemory) {
    fail_argument("{} lies in the host's memory ({:#x}); expected memory of cuda:{}: copy it there first", name,
                  address, own);
  }
  if (ordinal != own) {
    fail_argument("{} lies on cuda:{} ({:#x}); expected cuda:{}, which the plan was made for", name, ordinal, address,
                  own);
  }
}

bool is_aligned(const ConstTensor& tensor) {
  if (reinterpret_cast<std::uintptr_t>(tensor.data) % kChunk != 0) return false;
  for (int axis = 0; axis + 1 < tensor.rank; ++axis) {
    const auto a = static_cast<std::size_t>(axis);
    if (tensor.extents[a] > 1 && tensor.strides[a] * size_of(tensor.dtype) % kChunk != 0) return false;
  }
  return true;
}

}  // namespace tilewise::cuda
