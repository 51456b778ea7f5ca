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
  float scale;                    // of q.k; in rearranged text alone
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

/// An index, each part clamped to its axis.
template <int rank>
struct Inside {
  int at[rank];
  bool is_empty;  // the table has no element

  template <class T, class... Index>
  __device__ Inside(const Table<T, rank>& table, Index... index) : at{index...}, is_empty(false) {
#pragma unroll
    for (int axis = 0; axis < rank; ++axis) {
      const int last = table.extents[axis] - 1;
      at[axis] = at[axis] < 0 ? 0 : at[axis] > last ? last : at[axis];
      is_empty |= last < 0;
    }
  }
};

/// The element at an index, clamped; zero where the table is empty.
template <class T, int rank, class... Index>
__device__ inline auto read(const Table<T, rank>& table, Index... index) {
  const Inside<rank> inside(table, index...);
  long long offset = 0;
#pragma unroll
  for (int axis = 0; axis < rank; ++axis) offset += inside.at[axis] * table.strides[axis];
  using Value = decltype(value_of(T{}));
  return inside.is_empty ? Value(0) : value_of(table.data[offset]);
}
)cuda";

/// What gradients need besides.
inline constexpr std::string_view kCudaElementOf = R"cuda(
/// The number of the element at an index, clamped, in row-major order; -1 where the table is empty.
template <class T, int rank, class... Index>
__device__ inline long long element_of(const Table<T, rank>& table, Index... index) {
  const Inside<rank> inside(table, index...);
  long long element = 0;
#pragma unroll
  for (int axis = 0; axis < rank; ++axis) element = element * table.extents[axis] + inside.at[axis];
  return inside.is_empty ? -1 : element;
}

struct Direct {};
template <int kNumber>
struct Slot;
)cuda";

/// Operations on free reals (rearranged.h): the compiler contracts them. ex2, lg2, rcp and the roots are within 2 units
/// in the last place, log2 within 2^-22 near 1; but for lg2, numbers below 2^-126 count as 0.
inline constexpr std::string_view kFastOperations = R"cuda(
namespace fast {
__device__ inline float add(float a, float b) { return a + b; }
__device__ inline float sub(float a, float b) { return a - b; }
__device__ inline float mul(float a, float b) { return a * b; }
__device__ inline float neg(float a) { return -a; }
/// NaN where either is. One instruction, where the recorded text's comparisons are three; of zeros the larger is +0.
__device__ inline float min(float a, float b) {
  float least;
  asm("min.NaN.f32 %0, %1, %2;" : "=f"(least) : "f"(a), "f"(b));
  return least;
}
__device__ inline float max(float a, float b) {
  float most;
  asm("max.NaN.f32 %0, %1, %2;" : "=f"(most) : "f"(a), "f"(b));
  return most;
}
__device__ inline float reciprocal(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float div(float a, float b) { return a * reciprocal(b); }
__device__ inline float exp2(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float exp(float x) { return exp2(x * 1.44269504088896340736f); }
__device__ inline float log2(float x) {
  float y;
  asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float log(float x) { return log2(x) * 0.693147180559945309417f; }
__device__ inline float sqrt(float x) {
  float y;
  asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float rsqrt(float x) {
  float y;
  asm("rsqrt.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
/// x less the nearest multiple of 2 pi, in float64: right to 2^-24 as long as |x| < 2^28.
__device__ inline float within_a_turn(float x) {
  const double turns = rint(x * 0.15915494309189533577);
  return float(x - turns * 6.283185307179586476925);
}
__device__ inline float sin(float x) {
  float y;
  asm("sin.approx.f32 %0, %1;" : "=f"(y) : "f"(within_a_turn(x)));
  return y;
}
__device__ inline float cos(float x) {
  float y;
  asm("cos.approx.f32 %0, %1;" : "=f"(y) : "f"(within_a_turn(x)));
  return y;
}
)cuda";

/// Right to 2^-11 of the result, one instruction: what bfloat16 hides. sigmoid(x) = (1 + tanh(x / 2)) / 2, so to 2^-12
/// of 1, takes one turn at the unit for functions where a quotient takes two.
inline constexpr std::string_view kFastTanhOfBFloat16 = R"cuda(
__device__ inline float tanh(float x) {
  float y;
  asm("tanh.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}
__device__ inline float sigmoid(float x) { return 0.5f + 0.5f * tanh(0.5f * x); }
)cuda";

/// Right to 2^-22 of 1.
inline constexpr std::string_view kFastTanh = R"cuda(
__device__ inline float tanh(float x) { return 1.0f - 2.0f * reciprocal(1.0f + exp(x + x)); }
__device__ inline float sigmoid(float x) { return reciprocal(1.0f + exp(-x)); }
)cuda";

}  // namespace tilewise::variant
