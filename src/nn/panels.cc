#include "nn/panels.h"

#include <algorithm>
#include <cstring>

#include "core/half.h"
#include "nn/panel_memory.h"

namespace tilewise::nn {
namespace {

using Byte = std::uint8_t;

/// 32 columns of a row, as a file has them.
struct RowBlock {
  Byte quants[kBlock];  // as panels have them
  Byte scales[2];       // of nested kinds, for 16 or 32 columns
  Byte minimum;         // of nested kinds
  std::uint16_t scale;  // float16; of nested kinds, the head's
  std::uint16_t head_minimum;
};

std::uint16_t half_at(const Byte* from) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, from, sizeof(bits));
  return bits;
}

// Files' blocks (ggml's): blocks of 32 hold elements j and j + 16 in the low and high half of byte j, and the fifth bit
// of element i in bit i of a word.

void read_nibbles(const Byte* pairs, RowBlock& out) {
  for (int j = 0; j < 16; ++j) {
    out.quants[j] = pairs[j] & 15;
    out.quants[j + 16] = static_cast<Byte>(pairs[j] >> 4);
  }
}

void add_fifth_bits(const Byte* from, RowBlock& out) {
  std::uint32_t high = 0;
  std::memcpy(&high, from, sizeof(high));
  for (int i = 0; i < 32; ++i) out.quants[i] = static_cast<Byte>(out.quants[i] | (high >> i & 1) << 4);
}

/// Group g of a block of q4_k or q5_k: groups 2i and 2i + 1 are the low and high halves of the same 32 bytes. The 6-bit
/// scales and minima of groups 0 to 3 are the low bits of bytes 0-3 and 4-7 of 12, whose upper two bits top those of
/// groups 4 to 7, that have the halves of bytes 8-11.
void read_k_group(const Byte* block, const Byte* pairs, int g, RowBlock& out) {
  const Byte* packed = block + 4;
  if (g < 4) {
    out.scales[0] = packed[g] & 63;
    out.minimum = packed[g + 4] & 63;
  } else {
    out.scales[0] = static_cast<Byte>((packed[g + 4] & 15) | (packed[g - 4] >> 6) << 4);
    out.minimum = static_cast<Byte>((packed[g + 4] >> 4) | (packed[g] >> 6) << 4);
  }
  for (int i = 0; i < 32; ++i) {
    const Byte pair = pairs[32 * (g / 2) + i];
    out.quants[i] = static_cast<Byte>(g % 2 == 0 ? pair & 15 : pair >> 4);
  }
}

/// Run g of 32 of a block of q6_k: of each half of 128, runs 0 and 2 are the low and high halves of the first 32 bytes,
/// runs 1 and 3 of the second; bits 2r and 2r + 1 of byte i of `high` top element i of run r.
void read_q6_run(const Byte* block, int g, RowBlock& out) {
  const int half = g / 4, run = g % 4;
  const Byte *low = block + 64 * half + 32 * (run % 2), *high = block + 128 + 32 * half;
  for (int i = 0; i < 32; ++i) {
    const int quant = (run < 2 ? low[i] & 15 : low[i] >> 4) | (high[i] >> (2 * run) & 3) << 4;
    out.quants[i] = static_cast<Byte>(quant);
  }
  out.scales[0] = block[192 + 2 * g];
  out.scales[1] = block[193 + 2 * g];
}

/// Block b of 32 columns of a row.
RowBlock read_block(WeightKind kind, const Byte* row, std::int64_t b) {
  const BlockSize size = block_size(kind);
  const Byte* block = row + b / (size.elements / kBlock) * size.bytes;
  const auto group = static_cast<int>(b % (size.elements / kBlock));
  const PanelShape shape = panel_shape(kind);
  RowBlock out{};
  out.scale = half_at(kind == WeightKind::q6_k ? block + 208 : block);
  if (shape.minimum) out.head_minimum = half_at(block + 2);
  switch (kind) {
    case WeightKind::q4_0: read_nibbles(block + 2, out); break;
    case WeightKind::q4_1: read_nibbles(block + 4, out); break;
    case WeightKind::q5_0: read_nibbles(block + 6, out), add_fifth_bits(block + 2, out); break;
    case WeightKind::q5_1: read_nibbles(block + 8, out), add_fifth_bits(block + 4, out); break;
    case WeightKind::q8_0: std::memcpy(out.quants, block + 2, kBlock); break;
    case WeightKind::q4_k: read_k_group(block, block + 16, group, out); break;
    case WeightKind::q5_k:
      read_k_group(block, block + 48, group, out);
      for (int i = 0; i < 32; ++i) {
        out.quants[i] = static_cast<Byte>(out.quants[i] | (block[16 + i] >> group & 1) << 4);
      }
      break;
    case WeightKind::q6_k: read_q6_run(block, group, out); break;
    default: break;
  }
  return out;
}

void write_quants(const PanelShape& shape, const RowBlock& block, std::int64_t row, Byte* quants) {
  if (shape.bits == 8) {
    for (int step = 0; step < 8; ++step) std::memcpy(quants + 64 * step + 4 * row, block.quants + 4 * step, 4);
    return;
  }
  Byte pairs[16];
  for (int i = 0; i < 16; ++i) pairs[i] = static_cast<Byte>((block.quants[i] & 15) | (block.quants[i + 16] & 15) << 4);
  for (int step = 0; step < 4; ++step) std::memcpy(quants + 64 * step + 4 * row, pairs + 4 * step, 4);
  // What is above four bits: of all eight steps in a byte, or of four in each of two.
  const int width = shape.bits - 4, steps = width == 1 ? 8 : 4;
  for (int part = 0; part < width; ++part) {
    Byte high[4] = {};
    for (int i = 0; i < 4 * steps; ++i) {
      const int quant = block.quants[4 * steps * part + i];
      high[i % 4] = static_cast<Byte>(high[i % 4] | quant >> 4 << (i / 4 * width));
    }
    std::memcpy(quants + 256 + 64 * part + 4 * row, high, sizeof(high));
  }
}

void write_halves(const PanelShape& shape, const RowBlock& block, std::int64_t row, Byte* to) {
  std::memcpy(to + 2 * row, &block.scale, 2);
  if (shape.minimum) std::memcpy(to + 2 * (kPanelRows + row), &block.head_minimum, 2);
}

/// Where block b of a panel is; its head is before the first of eight.
std::int64_t block_offset(const PanelShape& shape, std::int64_t b) {
  return b * shape.block_bytes() + (b / kNest + 1) * shape.head_bytes();
}

void pack_row(const PanelShape& shape, WeightKind kind, const Byte* stored, std::int64_t blocks, std::int64_t row,
              Byte* panel) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    const RowBlock block = read_block(kind, stored, b);
    Byte* to = panel + block_offset(shape, b);
    if (!shape.nested) {
      write_halves(shape, block, row, to);
    } else {
      if (b % kNest == 0) write_halves(shape, block, row, to - shape.head_bytes());
      const std::int64_t scales = kBlock / shape.group;
      for (std::int64_t g = 0; g < scales; ++g) to[kPanelRows * g + row] = block.scales[g];
      if (shape.minimum) to[kPanelRows * scales + row] = block.minimum;
    }
    write_quants(shape, block, row, to + shape.factor_bytes());
  }
}

template <PanelShape kShape>
int quant_of(const Byte* quants, std::int64_t row, std::int64_t column) {
  const std::int64_t step = column / 4, byte = 4 * row + column % 4;
  if constexpr (kShape.bits == 8) return static_cast<std::int8_t>(quants[64 * step + byte]);
  const int low = quants[64 * (step % 4) + byte] >> (step < 4 ? 0 : 4) & 15;
  if constexpr (kShape.bits == 5) return low | (quants[256 + byte] >> step & 1) << 4;
  if constexpr (kShape.bits == 6) return low | (quants[256 + 64 * (step / 4) + byte] >> (2 * (step % 4)) & 3) << 4;
  return low;
}

float float_at(const Byte* halves, std::int64_t index) {
  return static_cast<float>(Float16::from_bits(half_at(halves + 2 * index)));
}

template <PanelShape kShape>
void dequantise_block(const Byte* block, const Byte* head, std::int64_t row, float* out) {
  const Byte* halves = kShape.nested ? head : block;
  const float scale = float_at(halves, row), minimum = kShape.minimum ? float_at(halves, kPanelRows + row) : 0;
  constexpr std::int64_t kScales = kBlock / kShape.group;
  for (std::int64_t i = 0; i < kBlock; ++i) {
    const auto quant = static_cast<float>(quant_of<kShape>(block + kShape.factor_bytes(), row, i) - kShape.zero);
    if constexpr (!kShape.nested) {
      out[i] = kShape.minimum ? quant * scale + minimum : quant * scale;
    } else {
      const Byte step = block[kPanelRows * (i / kShape.group) + row];
      if constexpr (kShape.minimum) {
        const auto below = static_cast<float>(block[kPanelRows * kScales + row]);
        out[i] = scale * static_cast<float>(step) * quant - minimum * below;
      } else {
        out[i] = scale * static_cast<float>(static_cast<std::int8_t>(step)) * quant;
      }
    }
  }
}

template <PanelShape kShape>
void dequantise_rows(const Byte* panel, std::int64_t blocks, std::int64_t first, std::int64_t count, float* out) {
  for (std::int64_t b = 0; b < blocks; ++b) {
    const Byte* head = panel + block_offset(kShape, b / kNest * kNest) - kShape.head_bytes();
    for (std::int64_t r = 0; r < count; ++r) {
      dequantise_block<kShape>(panel + block_offset(kShape, b), head, first + r, out + (r * blocks + b) * kBlock);
    }
  }
}

}  // namespace

std::int64_t PanelMatrix::panel_bytes() const { return panel_shape(kind).panel_bytes(columns); }

const std::byte* PanelMatrix::panel(std::int64_t index) const { return memory.get() + index * panel_bytes(); }

PanelMatrix to_panels(const WeightMatrix& stored, Executor& executor) {
  PanelMatrix matrix{.kind = stored.kind, .rows = stored.rows, .columns = stored.columns};
  const PanelShape shape = panel_shape(stored.kind);
  const std::int64_t bytes = matrix.panel_bytes(), blocks = stored.columns / kBlock;
  const BlockSize size = block_size(stored.kind);
  const std::int64_t row_bytes = stored.columns / size.elements * size.bytes;
  std::shared_ptr<std::byte> memory = allocate_panels(matrix.panels() * bytes);
  executor.parallel_for(matrix.panels(), [&](std::int64_t panel, int) {
    auto* to = reinterpret_cast<Byte*>(memory.get() + panel * bytes);
    std::memset(to, 0, static_cast<std::size_t>(bytes));
    const std::int64_t first = panel * kPanelRows, count = std::min(kPanelRows, stored.rows - first);
    for (std::int64_t r = 0; r < count; ++r) {
      const auto* from = reinterpret_cast<const Byte*>(stored.stored + (first + r) * row_bytes);
      pack_row(shape, stored.kind, from, blocks, r, to);
    }
  });
  matrix.memory = std::move(memory);
  return matrix;
}

void dequantise(const PanelMatrix& matrix, std::int64_t panel, std::int64_t first, std::int64_t count, float* out) {
  const auto* stored = reinterpret_cast<const Byte*>(matrix.panel(panel));
  const std::int64_t blocks = matrix.columns / kBlock;
  with_kind(matrix.kind,
            [&]<WeightKind kKind>() { dequantise_rows<panel_shape(kKind)>(stored, blocks, first, count, out); });
}

}  // namespace tilewise::nn
