// From a storage type that is known at run time to one that is known to the compiler.
#pragma once

#include <type_traits>

#include "cpu/element.h"
#include "cpu/kernels.h"

namespace tilewise::cpu {
namespace {

/// Calls f with a pointer of the rows' storage type to row `begin`. Plans admit these three types only.
template <class AnyRows, class Function>
inline void with_row(const AnyRows& rows, std::int64_t begin, Function&& f) {
  const std::int64_t offset = begin * rows.stride;
  constexpr bool kConst = std::is_const_v<std::remove_pointer_t<decltype(rows.data)>>;
  const auto at = [&]<class Element>(Element*) {
    using Pointer = std::conditional_t<kConst, const Element*, Element*>;
    f(static_cast<Pointer>(rows.data) + offset);
  };
  if (rows.dtype == DType::bfloat16)
    at(static_cast<BFloat16*>(nullptr));
  else if (rows.dtype == DType::float16)
    at(static_cast<Float16*>(nullptr));
  else
    at(static_cast<float*>(nullptr));
}

/// Calls f with a null pointer of the source's storage type: what a plan admits as keys and values of decoding.
template <class Function>
void with_element_of(DType dtype, Function&& f) {
  if (dtype == DType::int8) return f(static_cast<const std::int8_t*>(nullptr));
  if (dtype == DType::bfloat16) return f(static_cast<const BFloat16*>(nullptr));
  if (dtype == DType::float16) return f(static_cast<const Float16*>(nullptr));
  f(static_cast<const float*>(nullptr));
}

}  // namespace
}  // namespace tilewise::cpu
