// Values of float8_e4m3 as the tensor cores take them. Of that dtype they read operands along rows only, so v is
// transposed before the forward kernel: rows are columns of v, along which keys lie.
#pragma once

#include "arguments.h"

namespace tilewise::cuda::sm90 {

/// The key, within 16, whose value lies at a place of its row. A thread that has a row's weights of keys 2t, 2t + 1,
/// 2t + 8 and 2t + 9 from a product gives the next product those of places 4t to 4t + 3: this order makes the one the
/// other, without an exchange between threads.
__host__ __device__ constexpr int key_of_place(int place) { return place % 4 / 2 * 8 + place / 4 * 2 + place % 2; }

/// Transposes a 4 x 4 matrix of bytes, a register a row.
__device__ inline void transpose_bytes(unsigned (&x)[4]) {
  const unsigned a = __byte_perm(x[0], x[1], 0x5140), b = __byte_perm(x[2], x[3], 0x5140);  // columns 0 and 1
  const unsigned c = __byte_perm(x[0], x[1], 0x7362), d = __byte_perm(x[2], x[3], 0x7362);  // columns 2 and 3
  x[0] = __byte_perm(a, b, 0x5410), x[1] = __byte_perm(a, b, 0x7632);
  x[2] = __byte_perm(c, d, 0x5410), x[3] = __byte_perm(c, d, 0x7632);
}

/// A block of threads for each block of keys of a key head of a sequence: writes its values transposed, zeros where no
/// key is, and what its scales come to.
template <int kHeadV>
struct Float8Values {
  static_assert(kHeadV % 16 == 0);
  static constexpr int kThreads = 256, kWords = kHeadV / 4, kRuns = kHeadV / 16;  // of a row: 4 and 16 columns
  /// Words between rows in shared memory: 16 bytes times an odd number, so that eight of them lie in all banks.
  static constexpr int kPitch = 4 * (kRuns | 1);
  static constexpr int kSharedBytes = kScaleBlock * kPitch * 4;

  const ForwardArguments& arguments;
  unsigned* const shared;  // [16 keys within groups, 8 groups][kPitch]

  __device__ void run() const {
    const Float8Arguments& given = arguments.float8;
    const int block = blockIdx.x, head = blockIdx.y, sequence = blockIdx.z;
    const SequenceShape shape = arguments.sequences[sequence];
    if (block * kScaleBlock >= shape.keys) return;
    const long long of_head = static_cast<long long>(sequence) * given.h_kv + head;
    if (threadIdx.x == 0) given.blocks[of_head * given.key_blocks + block] = scales_of(sequence, head, block);
    load(shape, sequence, head, block * kScaleBlock);
    __syncthreads();
    const long long row = static_cast<long long>(given.key_blocks) * kScaleBlock;
    store(given.values + of_head * kHeadV * row + block * kScaleBlock, row);
  }

  // The two halves of it, between which all threads meet.
  __device__ void load(const SequenceShape& shape, int sequence, int head, int first_key) const {
    const TensorView& v = arguments.v;
    const unsigned char* const rows = static_cast<const unsigned char*>(v.data) + head * v.head +
                                      (arguments.keys_packed ? shape.key_token * v.row : sequence * v.batch);
    for (int i = threadIdx.x; i < kScaleBlock * kRuns; i += kThreads) {
      const int key = i / kRuns, run = i % kRuns, index = first_key + key;
      const bool exists = index >= shape.key_start && index < shape.keys;
      const uint4 values = exists ? __ldg(reinterpret_cast<const uint4*>(rows + index * v.row) + run) : uint4{};
      *reinterpret_cast<uint4*>(shared + place_in_shared(key) * kPitch + 4 * run) = values;
    }
  }

  /// Four columns of 16 keys a thread at a time; eight threads write a line of 128 bytes.
  __device__ void store(unsigned char* to, long long row) const {
    for (int i = threadIdx.x; i < kWords * 8; i += kThreads) {
      const int word = i / 8, group = i % 8;
      unsigned columns[4][4];  // [column][places 4t to 4t + 3]
#pragma unroll
      for (int t = 0; t < 4; ++t) {
        unsigned keys[4];
#pragma unroll
        for (int place = 0; place < 4; ++place) {
          keys[place] = shared[(key_of_place(4 * t + place) * 8 + group) * kPitch + word];
        }
        transpose_bytes(keys);
#pragma unroll
        for (int column = 0; column < 4; ++column) columns[column][t] = keys[column];
      }
#pragma unroll
      for (int column = 0; column < 4; ++column) {
        *reinterpret_cast<uint4*>(to + (4 * word + column) * row + 16 * group) =
            make_uint4(columns[column][0], columns[column][1], columns[column][2], columns[column][3]);
      }
    }
  }

 private:
  __device__ static int place_in_shared(int key) { return key % 16 * 8 + key / 16; }

  __device__ static float scale_at(const TensorView& scales, int sequence, int head, int block) {
    return static_cast<const float*>(scales.data)[sequence * scales.batch + head * scales.head + block * scales.row];
  }
  __device__ Float8Block scales_of(int sequence, int head, int block) const {
    const float of_keys = scale_at(arguments.float8.k_scales, sequence, head, block),
                of_values = scale_at(arguments.float8.v_scales, sequence, head, block);
    return {arguments.scale * 1.44269504088896340736f * of_keys, log2f(of_values), 1 / of_values, 0};
  }
};

}  // namespace tilewise::cuda::sm90
