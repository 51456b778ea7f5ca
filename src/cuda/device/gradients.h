// Gradients of tables and parameters, summed up in float32.
#pragma once

#include "arguments.h"
#include "softmax.h"

namespace tilewise::cuda {

/// What a variant's add_gradients() is handed: adds to the sums in memory by atomics, so that their last bits depend on
/// the order. Where all lanes of a warp that add at once read one element, as of a bias for each head, they add their
/// sum.
class GradientAdder {
 public:
  __device__ explicit GradientAdder(const GradientSums& sums) : sums_(sums) {}

  /// Adds to the element at the indices, each clamped to its axis as by a read.
  template <class Table, class... Index>
  __device__ void add_table(const Table& table, int number, float value, Index... index) const {
    float* sums = sums_.tables[number];
    if (sums == nullptr) return;
    const int indices[] = {index...};
    long long element = 0;
    bool is_empty = false;
#pragma unroll
    for (int axis = 0; axis < int(sizeof...(Index)); ++axis) {
      const int last = table.extents[axis] - 1;
      const int inside = indices[axis] < 0 ? 0 : indices[axis] > last ? last : indices[axis];
      element = element * table.extents[axis] + inside;
      is_empty |= last < 0;
    }
    if (!is_empty) add(sums + element, value);
  }

  __device__ void add_parameter(int number, float value) const {
    if (sums_.parameters[number] != nullptr) add(sums_.parameters[number], value);
  }

 private:
  __device__ static void add(float* to, float value) {
    const unsigned lanes = __activemask();
    int are_one = 0;
    __match_all_sync(lanes, reinterpret_cast<unsigned long long>(to), &are_one);
    if (!are_one) {
      if (value != 0) atomicAdd(to, value);
      return;
    }
    float sum = 0;
    for (unsigned rest = lanes; rest != 0; rest &= rest - 1) sum += __shfl_sync(lanes, value, __ffs(rest) - 1);
    if (static_cast<int>(threadIdx.x % 32) == __ffs(lanes) - 1) atomicAdd(to, sum);
  }

  const GradientSums& sums_;
};

/// Writes sums as elements of a gradient's dtype, wherever they lie; a thread to each.
__device__ inline void store_gradient(const GradientStore& a) {
  const long long element = blockIdx.x * static_cast<long long>(blockDim.x) + threadIdx.x;
  if (element >= a.elements) return;
  long long rest = element, offset = 0;
  for (int axis = a.rank - 1; axis >= 0; --axis) {
    offset += rest % a.extents[axis] * a.strides[axis];
    rest /= a.extents[axis];
  }
  const float value = a.sums[element];
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
