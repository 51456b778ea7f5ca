// The AMX engine over tile registers in software, for machines without them: its layouts, shapes and remainders are the
// same. After the definitions of Intel's Software Developer's Manual, volume 2.
#include "cpu/isa/amx_kernels.h"

#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace tilewise::cpu::testing {
const Kernels* emulated_amx_kernels();
const Kernels* emulated_amx_code_kernels();
namespace {

struct Register {
  unsigned char bytes[16][64];
};
thread_local Register registers[8];
thread_local TileShapes shapes;

/// What a processor answers with an exception.
void require(bool condition) {
  if (!condition) std::abort();
}

float widened(std::uint16_t half) {
  const std::uint32_t bits = std::uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

struct EmulatedTiles {
  static void configure(const TileShapes& wanted) {
    for (int i = 0; i < 8; ++i) require(wanted.rows[i] <= 16 && wanted.row_bytes[i] <= 64);
    shapes = wanted;
    std::memset(registers, 0, sizeof registers);
  }
  static void release() { shapes = {.palette = 0}; }

  template <int kTile>
  static void zero() {
    require(shapes.rows[kTile] > 0);
    std::memset(&registers[kTile], 0, sizeof(Register));
  }
  template <int kTile>
  static void load(const void* rows, std::int64_t stride) {
    zero<kTile>();
    for (int row = 0; row < shapes.rows[kTile]; ++row) {
      std::memcpy(registers[kTile].bytes[row], static_cast<const char*>(rows) + row * stride, shapes.row_bytes[kTile]);
    }
  }
  template <int kTile>
  static void store(void* rows, std::int64_t stride) {
    require(shapes.rows[kTile] > 0);
    for (int row = 0; row < shapes.rows[kTile]; ++row) {
      std::memcpy(static_cast<char*>(rows) + row * stride, registers[kTile].bytes[row], shapes.row_bytes[kTile]);
    }
  }
  template <int kSum, int kLeft, int kRight>
  static void dot() {
    const int columns = shapes.row_bytes[kSum] / 4, pairs = shapes.row_bytes[kLeft] / 4;
    require(shapes.rows[kSum] == shapes.rows[kLeft] && shapes.rows[kRight] == pairs &&
            shapes.row_bytes[kRight] == shapes.row_bytes[kSum]);
    for (int row = 0; row < shapes.rows[kSum]; ++row) {
      std::uint16_t left[32];
      std::memcpy(left, registers[kLeft].bytes[row], sizeof left);
      for (int column = 0; column < columns; ++column) {
        float even = 0, odd = 0, sum;
        for (int pair = 0; pair < pairs; ++pair) {
          std::uint16_t right[2];
          std::memcpy(right, registers[kRight].bytes[pair] + 4 * column, sizeof right);
          even = __builtin_fmaf(widened(left[2 * pair]), widened(right[0]), even);
          odd = __builtin_fmaf(widened(left[2 * pair + 1]), widened(right[1]), odd);
        }
        std::memcpy(&sum, registers[kSum].bytes[row] + 4 * column, sizeof sum);
        sum += even + odd;
        std::memcpy(registers[kSum].bytes[row] + 4 * column, &sum, sizeof sum);
      }
    }
  }
  template <int kSum, int kLeft, int kRight>
  static void dot_signed() {
    dot_bytes<std::int8_t, kSum, kLeft, kRight>();
  }
  template <int kSum, int kLeft, int kRight>
  static void dot_unsigned() {
    dot_bytes<std::uint8_t, kSum, kLeft, kRight>();
  }

 private:
  template <class Left, int kSum, int kLeft, int kRight>
  static void dot_bytes() {
    const int columns = shapes.row_bytes[kSum] / 4, fours = shapes.row_bytes[kLeft] / 4;
    require(shapes.rows[kSum] == shapes.rows[kLeft] && shapes.rows[kRight] == fours &&
            shapes.row_bytes[kRight] == shapes.row_bytes[kSum]);
    for (int row = 0; row < shapes.rows[kSum]; ++row) {
      Left left[64];
      std::memcpy(left, registers[kLeft].bytes[row], sizeof left);
      for (int column = 0; column < columns; ++column) {
        std::uint32_t sum;
        std::memcpy(&sum, registers[kSum].bytes[row] + 4 * column, sizeof sum);
        for (int i = 0; i < 4 * fours; ++i) {
          std::int8_t right;
          std::memcpy(&right, registers[kRight].bytes[i / 4] + 4 * column + i % 4, sizeof right);
          sum += static_cast<std::uint32_t>(left[i] * right);
        }
        std::memcpy(registers[kSum].bytes[row] + 4 * column, &sum, sizeof sum);
      }
    }
  }
};

}  // namespace

const Kernels* emulated_amx_kernels() {
  static constexpr Kernels kKernels = amx_kernels_of<AmxEngine<EmulatedTiles, AmxConfig>>("emulated_amx");
  return &kKernels;
}

const Kernels* emulated_amx_code_kernels() {
  static const Kernels kKernels = with_code_tiles<EmulatedTiles>(avx512_kernels(), "emulated_amx_codes");
  return &kKernels;
}

}  // namespace tilewise::cpu::testing
