// A choice between two types.
#pragma once

namespace tilewise::cuda {

template <bool kFirst, class First, class Second>
struct Choice {
  using Type = First;
};
template <class First, class Second>
struct Choice<false, First, Second> {
  using Type = Second;
};
/// The first type or the second.
template <bool kFirst, class First, class Second>
using Conditional = typename Choice<kFirst, First, Second>::Type;

}  // namespace tilewise::cuda
