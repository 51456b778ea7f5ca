// Element types and strided views of memory that the caller owns.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>

namespace tilewise {

/// The type of a stored element. Tensors q, k, v, o use the floating types; tables may use any but int8 and
/// float8_e4m3, which come with scales. float8_e4m3 has 4 exponent and 3 mantissa bits, a bias of 7, no infinities, and
/// 448 as its largest number (Micikevicius et al., "FP8 Formats for Deep Learning", 2022).
enum class DType : std::uint8_t {
  float64,
  float32,
  float16,
  bfloat16,
  int64,
  int32,
  int8,
  uint8,
  boolean,
  float8_e4m3
};

/// Bytes of one element.
std::int64_t size_of(DType dtype);

/// "float32", "bfloat16", "bool": as they appear in variants' text, messages and NumPy.
const char* to_string(DType dtype);

/// The dtype of that name; throws Error(parse) listing the names.
DType dtype_from_string(const std::string& name);

/// At most this many axes: attention's tensors and tables have one to four.
inline constexpr int kMaxRank = 4;

/// A strided view of elements that it does not own. Strides count elements, not bytes, and may be zero or negative.
/// `Pointer` is `void*` (Tensor) or `const void*` (ConstTensor).
template <class Pointer>
struct BasicTensor {
  Pointer data = nullptr;
  DType dtype = DType::float32;
  int rank = 0;
  std::array<std::int64_t, kMaxRank> extents{};  // [rank], elements along each axis
  std::array<std::int64_t, kMaxRank> strides{};  // [rank], elements between neighbours on each axis

  BasicTensor() = default;

  /// A row-major (contiguous) view; throws Error when there are more than kMaxRank extents or one is negative.
  BasicTensor(Pointer data, DType dtype, std::initializer_list<std::int64_t> extents);
  BasicTensor(Pointer data, DType dtype, std::span<const std::int64_t> extents);

  /// A strided view; throws Error as above, and when extents and strides differ in number.
  BasicTensor(Pointer data, DType dtype, std::span<const std::int64_t> extents, std::span<const std::int64_t> strides);

  /// Product of the extents (1 for rank 0).
  std::int64_t elements() const {
    std::int64_t count = 1;
    for (int axis = 0; axis < rank; ++axis) count *= extents[static_cast<std::size_t>(axis)];
    return count;
  }

  /// A writable view reads as a constant one.
  operator BasicTensor<const void*>() const  // NOLINT(google-explicit-constructor): it only adds const
      requires(!std::is_same_v<Pointer, const void*>) {
    BasicTensor<const void*> view;
    view.data = data;
    view.dtype = dtype;
    view.rank = rank;
    view.extents = extents;
    view.strides = strides;
    return view;
  }
};

using Tensor = BasicTensor<void*>;
using ConstTensor = BasicTensor<const void*>;

}  // namespace tilewise
