// What every variant's CUDA text begins with: coordinates and table views.
#pragma once

#include <string_view>

namespace tilewise::variant {

inline constexpr std::string_view kCudaPrelude = R"cuda(
/// Lengths, offsets and heads of one (sequence, head).
struct Sequence {
  int queries, keys;              // s_q, s_kv
  int query_offset, key_offset;   // position of index 0
  int query_token, key_token;     // packed row of index 0
  int batch, head, kv_head;
};

struct Float16 { unsigned short bits; };
struct BFloat16 { unsigned short bits; };
struct Bool { unsigned char byte; };

__device__ inline float value_of(double x) { return __double2float_rn(x); }
__device__ inline float value_of(float x) { return x; }
__device__ inline float value_of(Float16 x) {
  float value;
  asm("cvt.f32.f16 %0, %1;" : "=f"(value) : "h"(x.bits));
  return value;
}
__device__ inline float value_of(BFloat16 x) { return __uint_as_float(unsigned(x.bits) << 16); }
__device__ inline int value_of(long long x) { return int(x); }
__device__ inline int value_of(int x) { return x; }
__device__ inline int value_of(unsigned char x) { return x; }
__device__ inline bool value_of(Bool x) { return x.byte != 0; }

template <class T, int rank>
struct Table {
  const T* data;
  long long strides[rank];  // in elements
  int extents[rank];
};

/// The element at an index, each clamped to its axis; zero where the table is empty.
template <class T, int rank, class... Index>
__device__ inline auto read(const Table<T, rank>& table, Index... index) {
  const int indices[] = {index...};
  long long offset = 0;
  bool empty = false;
#pragma unroll
  for (int axis = 0; axis < rank; ++axis) {
    const int last = table.extents[axis] - 1;
    const int inside = indices[axis] < 0 ? 0 : indices[axis] > last ? last : indices[axis];
    offset += inside * table.strides[axis];
    empty |= last < 0;
  }
  using Value = decltype(value_of(T{}));
  return empty ? Value(0) : value_of(table.data[offset]);
}
)cuda";

}  // namespace tilewise::variant
