#include "cuda/launch/tensor_map.h"

#include <algorithm>
#include <array>

namespace tilewise::cuda {
namespace {

// Of cuda.h.
enum : int { kUint8 = 0, kFloat16 = 6, kBfloat16 = 9 };  // CUtensorMapDataType
constexpr int kNotInterleaved = 0, kSwizzle128 = 3, kPromoteTo256 = 3, kZerosOutside = 0;

}  // namespace

sm90::TensorMap tensor_map(const jit::Context& context, const MappedTensor& tensor, int box_rows) {
  const jit::Driver& driver = context.driver();
  const jit::CurrentContext current(context);  // which the driver asks for, though it only computes here
  const auto extent = [](std::int64_t size) { return static_cast<std::uint64_t>(std::max<std::int64_t>(size, 1)); };
  const TensorView& view = tensor.view;
  const std::array<std::uint64_t, 4> extents = {extent(tensor.columns), extent(tensor.rows), extent(tensor.heads),
                                                extent(tensor.b)};
  const auto of_element = static_cast<std::uint64_t>(size_of(tensor.dtype));
  const int type = tensor.dtype == DType::bfloat16 ? kBfloat16 : tensor.dtype == DType::float16 ? kFloat16 : kUint8;
  // Along an axis of one element no stride matters, and the driver refuses some that callers may have there.
  const auto bytes = [of_element](long long stride, std::uint64_t size) {
    return size == 1 ? std::uint64_t{16} : static_cast<std::uint64_t>(stride) * of_element;
  };
  const std::array<std::uint64_t, 3> strides = {bytes(view.row, extents[1]), bytes(view.head, extents[2]),
                                                bytes(view.batch, extents[3])};
  const std::array<std::uint32_t, 4> box = {static_cast<std::uint32_t>(128 / of_element),
                                            static_cast<std::uint32_t>(box_rows), 1, 1},
                                     each = {1, 1, 1, 1};
  sm90::TensorMap map;
  driver.check(driver.api().tensor_map_encode(&map, type, 4, view.data, extents.data(), strides.data(), box.data(),
                                              each.data(), kNotInterleaved, kSwizzle128, kPromoteTo256, kZerosOutside),
               "to describe a tensor to the copy engine");
  return map;
}

}  // namespace tilewise::cuda
