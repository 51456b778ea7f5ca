// Sums of integers, for x86 without dot products.
#pragma once

namespace tilewise::nn {

/// What is added to a sum before this is added before what follows. The bits would be the same in any order, but GCC
/// turns a chain of additions of integers into a tree, and keeps all products of a block for it, in memory: kernels
/// took twice the time.
template <class Register>
[[gnu::always_inline]] inline void in_this_order(Register& sum) {
  asm("" : "+v"(sum));  // NOLINT(hicpp-no-assembler): no instruction
}

}  // namespace tilewise::nn
