// Quantised weights as kernels read them: panels of 16 rows, in which the same columns of all rows lie together.
//
// Lanes of a vector register are rows, so that a row's sum never leaves its lane, one token streams a panel from start
// to end, and many tokens share each register of unpacked weights.
//
// A panel is a run of blocks of 32 columns:
//   factors  float16 scales [16], and with a minimum float16 minima [16];
//            of the nested kinds 8-bit scales [32 / group, 16], and with a minimum 8-bit minima [16]
//   quants   for step s in [0, 8), row r and column c in [0, 4): the integer of column 4 s + c of that row, in byte
//            4 r + c of 64; 4 bits of steps s and s + 4 share a byte (low and high half), four times 64 bytes. A fifth
//            bit is bit s of byte 4 r + c of 64 more; a fifth and sixth are bits 2 (s % 4) and up of byte 4 r + c of
//            64 (s / 4). Integers of 8 bits are bytes with a sign, eight times 64.
// Nested kinds have a head before every eight blocks: float16 scales [16], and with a minimum float16 minima [16].
// Rows past the last one are zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "nn/weights.h"
#include "tilewise/executor.h"

namespace tilewise::nn {

inline constexpr std::int64_t kBlock = 32;  // columns
inline constexpr std::int64_t kPanelRows = 16;
inline constexpr std::int64_t kSteps = 8;  // of four columns, a block
inline constexpr std::int64_t kNest = 8;   // blocks that share a head

/// What a kind's blocks consist of.
struct PanelShape {
  int bits = 0;          // of an integer, which is stored without a sign, but for those of 8 bits
  int zero = 0;          // what is taken from it
  int group = 32;        // columns that share a scale
  bool minimum = false;  // added to what is scaled
  bool nested = false;   // scales and minima are integers, times a float16

  constexpr std::int64_t factor_bytes() const {
    if (nested) return kPanelRows * (kBlock / group + (minimum ? 1 : 0));
    return kPanelRows * (minimum ? 4 : 2);
  }
  constexpr std::int64_t quant_bytes() const { return kPanelRows * kBlock * bits / 8; }
  constexpr std::int64_t block_bytes() const { return factor_bytes() + quant_bytes(); }
  constexpr std::int64_t head_bytes() const { return nested ? kPanelRows * (minimum ? 4 : 2) : 0; }
  constexpr std::int64_t panel_bytes(std::int64_t columns) const {
    return columns / kBlock * block_bytes() + columns / (kBlock * kNest) * head_bytes();
  }
};

/// Of a quantised kind; of another, nothing.
constexpr PanelShape panel_shape(WeightKind kind) {
  switch (kind) {
    case WeightKind::q4_0: return {.bits = 4, .zero = 8};
    case WeightKind::q4_1: return {.bits = 4, .minimum = true};
    case WeightKind::q5_0: return {.bits = 5, .zero = 16};
    case WeightKind::q5_1: return {.bits = 5, .minimum = true};
    case WeightKind::q8_0: return {.bits = 8};
    case WeightKind::q4_k: return {.bits = 4, .minimum = true, .nested = true};
    case WeightKind::q5_k: return {.bits = 5, .minimum = true, .nested = true};
    case WeightKind::q6_k: return {.bits = 6, .zero = 32, .group = 16, .nested = true};
    default: return {};
  }
}

/// Calls body.operator()<kind>() for a quantised kind.
template <class Body>
void with_kind(WeightKind kind, const Body& body) {
  switch (kind) {
    case WeightKind::q4_0: return body.template operator()<WeightKind::q4_0>();
    case WeightKind::q4_1: return body.template operator()<WeightKind::q4_1>();
    case WeightKind::q5_0: return body.template operator()<WeightKind::q5_0>();
    case WeightKind::q5_1: return body.template operator()<WeightKind::q5_1>();
    case WeightKind::q8_0: return body.template operator()<WeightKind::q8_0>();
    case WeightKind::q4_k: return body.template operator()<WeightKind::q4_k>();
    case WeightKind::q5_k: return body.template operator()<WeightKind::q5_k>();
    case WeightKind::q6_k: return body.template operator()<WeightKind::q6_k>();
    default: return;
  }
}

constexpr bool is_quantised(WeightKind kind) { return panel_shape(kind).bits != 0; }

/// A quantised matrix in panels.
struct PanelMatrix {
  WeightKind kind = WeightKind::q4_0;
  std::int64_t rows = 0;
  std::int64_t columns = 0;
  std::shared_ptr<const std::byte> memory{};  // [panels()] of panel_bytes(), aligned to 64

  std::int64_t panels() const { return (rows + kPanelRows - 1) / kPanelRows; }
  // Defined for every processor in one place: files of one instruction set use them, and copies of an inline function
  // there could be taken for all (as in builds with -O1).
  std::int64_t panel_bytes() const;
  const std::byte* panel(std::int64_t index) const;
};

/// Copies a file's matrix into panels. Its kind is quantised, its columns whole blocks.
PanelMatrix to_panels(const WeightMatrix& stored, Executor& executor);

/// Rows [first, first + count) of a panel as float32, the values being ggml's, bit for bit.
void dequantise(const PanelMatrix& matrix, std::int64_t panel, std::int64_t first, std::int64_t count,
                float* out);  // [count, columns]

}  // namespace tilewise::nn
