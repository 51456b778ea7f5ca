// Gradients of tables and parameters, summed up in float32 or in fixed point.
#pragma once

#include "arguments.h"
#include "softmax.h"

namespace tilewise::cuda {

/// What one is in an element's fixed-point sum: 2^-31 of a power of two above the largest magnitude that is added to
/// it, so that 2^32 such numbers can be added up. 0 where the largest is an infinity or NaN.
__device__ inline double fixed_unit(unsigned largest) {
  const int exponent = static_cast<int>(largest >> 23 & 0xff);
  if (exponent == 0xff) return 0;
  return __hiloint2double((1023 + exponent - 127 + 1 - 31) << 20, 0);
}

/// Adds to the sums in memory, one entry after the other, by atomics. In float32 their last bits depend on the order;
/// in fixed point they do not. Where all lanes of a warp that add at once read one element, they add their sum.
class GradientAdder {
 public:
  __device__ explicit GradientAdder(const GradientSums& sums) : sums_(sums) {}

  template <class Slot, class Table, class... Index>
  __device__ void add_table(Slot, const Table& table, int number, float value, Index... index) const {
    float* sums = sums_.tables[number];
    if (sums == nullptr) return;
    const long long element = element_of(table, index...);
    if (element >= 0) add_to(sums_, sums + element, value);
  }

  template <class Slot>
  __device__ void add_parameter(Slot, int number, float value) const {
    if (sums_.parameters[number] != nullptr) add_to(sums_, sums_.parameters[number], value);
  }

  /// Adds to one element, by one lane.
  __device__ static void add_one(const GradientSums& sums, float* to, float value) {
    if (sums.pass == GradientSums::kAtomics) {
      atomicAdd(to, value);
      return;
    }
    const long long element = to - sums.first;
    if (sums.pass == GradientSums::kFindLargest) {
      atomicMax(sums.largest + element, __float_as_uint(value) & 0x7fffffffu);
      return;
    }
    const double unit = fixed_unit(sums.largest[element]);
    if (unit == 0) return;
    const long long units = __double2ll_rn(value / unit);
    atomicAdd(reinterpret_cast<unsigned long long*>(sums.fixed + element), static_cast<unsigned long long>(units));
  }

 private:
  /// Called, not inlined: there is a call for each entry of a tile and each table, and compiling all of them anew takes
  /// minutes.
  __device__ __noinline__ static void add_to(const GradientSums& sums, float* to, float value) {
    const unsigned lanes = __activemask();
    int are_one = 0;
    __match_all_sync(lanes, reinterpret_cast<unsigned long long>(to), &are_one);
    if (!are_one) {
      if (value != 0) add_one(sums, to, value);
      return;
    }
    float sum = 0;
    for (unsigned rest = lanes; rest != 0; rest &= rest - 1) sum += __shfl_sync(lanes, value, __ffs(rest) - 1);
    if (static_cast<int>(threadIdx.x % 32) == __ffs(lanes) - 1) add_one(sums, to, sum);
  }

  const GradientSums& sums_;
};

/// Adds what a row's sink gives to tables and parameters: an entry whose value is 0. `delta` is the sum over d_v of
/// d_o * o, less d_lse.
template <class Variant>
__device__ inline void add_sink_gradients(const BackwardArguments& a, const typename Variant::Arguments& variant,
                                          int sequence, int head, float lse, float delta) {
  using Recorded = typename Variant::Recorded;
  const auto& recorded = reinterpret_cast<const typename Recorded::Arguments&>(variant);
  const auto of_head =
      Recorded::place_of(recorded, a.sequences[sequence], sequence, head, head / a.heads_per_kv, a.scale);
  const float weight = exp2_of((Recorded::sink_logit(recorded, of_head) - lse) * kLog2E);
  GradientAdder adder(a.gradients);
  if (weight > 0) Recorded::add_sink_gradients(recorded, of_head, -weight * delta, adder);
}

/// Writes sums as elements of a gradient's dtype, wherever they lie; a thread to each.
__device__ inline void store_gradient(const GradientStore& a) {
  const long long element = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x;
  if (element >= a.elements) return;
  long long rest = element, offset = 0;
  for (int axis = a.rank - 1; axis >= 0; --axis) {
    offset += rest % a.extents[axis] * a.strides[axis];
    rest /= a.extents[axis];
  }
  float value;
  if (a.fixed != nullptr) {
    const double unit = fixed_unit(a.largest[element]);
    value = unit == 0 ? __int_as_float(0x7fc00000) : static_cast<float>(a.fixed[element] * unit);
  } else {
    value = a.sums[element];
  }
  switch (a.element) {
    case GradientStore::kFloat32: static_cast<float*>(a.to)[offset] = value; break;
    case GradientStore::kFloat64: static_cast<double*>(a.to)[offset] = value; break;
    case GradientStore::kBFloat16:
      static_cast<BFloat16*>(a.to)[offset].bits = static_cast<unsigned short>(packed(BFloat16{}, value, 0.0f));
      break;
    case GradientStore::kFloat16:
      static_cast<Float16*>(a.to)[offset].bits = static_cast<unsigned short>(packed(Float16{}, value, 0.0f));
      break;
  }
}

}  // namespace tilewise::cuda
