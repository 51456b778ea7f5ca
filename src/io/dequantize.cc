#include "io/dequantize.h"

#include <array>
#include <cstring>

#include "core/fail.h"
#include "core/half.h"

namespace tilewise::io {
namespace {

using Byte = std::uint8_t;

template <class T>
T load(const Byte* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

float half_at(const Byte* from) { return static_cast<float>(load<Float16>(from)); }

template <class T>
void plain(const Byte* stored, float* out) {
  *out = static_cast<float>(load<T>(stored));
}

// Blocks of 32: byte j of the 4-bit part holds elements j (low half) and j + 16.

void q4_0(const Byte* block, float* out) {
  const float scale = half_at(block);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>((block[2 + j] & 15) - 8) * scale;
    out[j + 16] = static_cast<float>((block[2 + j] >> 4) - 8) * scale;
  }
}

void q4_1(const Byte* block, float* out) {
  const float scale = half_at(block), minimum = half_at(block + 2);
  for (int j = 0; j < 16; ++j) {
    out[j] = static_cast<float>(block[4 + j] & 15) * scale + minimum;
    out[j + 16] = static_cast<float>(block[4 + j] >> 4) * scale + minimum;
  }
}

// Bit i of `high` is the fifth bit of element i.

void q5_0(const Byte* block, float* out) {
  const float scale = half_at(block);
  const auto high = load<std::uint32_t>(block + 2);
  for (int i = 0; i < 32; ++i) {
    const Byte pair = block[6 + i % 16];
    const int low = i < 16 ? pair & 15 : pair >> 4;
    out[i] = static_cast<float>((low | static_cast<int>(high >> i & 1) << 4) - 16) * scale;
  }
}

void q5_1(const Byte* block, float* out) {
  const float scale = half_at(block), minimum = half_at(block + 2);
  const auto high = load<std::uint32_t>(block + 4);
  for (int i = 0; i < 32; ++i) {
    const Byte pair = block[8 + i % 16];
    const int low = i < 16 ? pair & 15 : pair >> 4;
    out[i] = static_cast<float>(low | static_cast<int>(high >> i & 1) << 4) * scale + minimum;
  }
}

void q8_0(const Byte* block, float* out) {
  const float scale = half_at(block);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(static_cast<std::int8_t>(block[2 + i])) * scale;
}

/// 6-bit scale and minimum of a group of 32 in q4_k and q5_k, packed into 12 bytes: those of groups 0 to 3 in the low
/// six bits of bytes 0-3 and 4-7; of groups 4 to 7 in the halves of bytes 8-11, their upper two bits atop the former.
struct Group {
  int scale, minimum;
};
Group group_of(const Byte* packed, int group) {
  if (group < 4) return {packed[group] & 63, packed[group + 4] & 63};
  return {(packed[group + 4] & 15) | (packed[group - 4] >> 6) << 4, (packed[group + 4] >> 4) | (packed[group] >> 6)
                                                                                                   << 4};
}

// Groups 2i and 2i + 1 are the low and the high halves of the same 32 bytes.

void q4_k(const Byte* block, float* out) {
  const float scale = half_at(block), minimum = half_at(block + 2);
  for (int g = 0; g < 8; ++g) {
    const Group group = group_of(block + 4, g);
    const float step = scale * static_cast<float>(group.scale), base = minimum * static_cast<float>(group.minimum);
    const Byte* quants = block + 16 + 32 * (g / 2);
    for (int i = 0; i < 32; ++i) {
      const int quant = g % 2 == 0 ? quants[i] & 15 : quants[i] >> 4;
      out[32 * g + i] = step * static_cast<float>(quant) - base;
    }
  }
}

void q5_k(const Byte* block, float* out) {
  const float scale = half_at(block), minimum = half_at(block + 2);
  const Byte* high = block + 16;  // bit g of byte i: the fifth bit of element i of group g
  for (int g = 0; g < 8; ++g) {
    const Group group = group_of(block + 4, g);
    const float step = scale * static_cast<float>(group.scale), base = minimum * static_cast<float>(group.minimum);
    const Byte* quants = block + 48 + 32 * (g / 2);
    for (int i = 0; i < 32; ++i) {
      const int low = g % 2 == 0 ? quants[i] & 15 : quants[i] >> 4;
      out[32 * g + i] = step * static_cast<float>(low | (high[i] >> g & 1) << 4) - base;
    }
  }
}

// Two halves of 128, each of four runs of 32: runs 0 and 2 are the low and high halves of the first 32 bytes of 4-bit
// parts, runs 1 and 3 of the second; bits 2r and 2r + 1 of byte i of `high` top element i of run r. A scale serves 16.

void q6_k(const Byte* block, float* out) {
  const float scale = half_at(block + 208);
  for (int half = 0; half < 2; ++half) {
    const Byte *low = block + 64 * half, *high = block + 128 + 32 * half;
    const Byte* scales = block + 192 + 8 * half;
    for (int run = 0; run < 4; ++run) {
      for (int i = 0; i < 32; ++i) {
        const Byte pair = low[32 * (run % 2) + i];
        const int quant = (run < 2 ? pair & 15 : pair >> 4) | (high[i] >> (2 * run) & 3) << 4;
        const auto step = static_cast<float>(static_cast<std::int8_t>(scales[2 * run + i / 16]));
        out[128 * half + 32 * run + i] = scale * step * static_cast<float>(quant - 32);
      }
    }
  }
}

using BlockReader = void (*)(const Byte* block, float* out);

/// Null where there is none.
BlockReader reader_of(Storage storage) {
  switch (storage) {
    case Storage::float64: return plain<double>;
    case Storage::float32: return plain<float>;
    case Storage::float16: return plain<Float16>;
    case Storage::bfloat16: return plain<Bfloat16>;
    case Storage::q4_0: return q4_0;
    case Storage::q4_1: return q4_1;
    case Storage::q5_0: return q5_0;
    case Storage::q5_1: return q5_1;
    case Storage::q8_0: return q8_0;
    case Storage::q4_k: return q4_k;
    case Storage::q5_k: return q5_k;
    case Storage::q6_k: return q6_k;
    default: return nullptr;
  }
}

}  // namespace

bool reads_as_float32(Storage storage) { return reader_of(storage) != nullptr; }

void dequantize(Storage storage, const std::byte* stored, std::int64_t elements, float* out) {
  const BlockReader read = reader_of(storage);
  const StorageInfo& type = info(storage);
  if (read == nullptr) fail(ErrorCode::unsupported, "elements stored as {} do not read as float32", type.name);
  if (elements < 0 || elements % type.block_elements != 0) {
    fail_argument("elements is {}; expected a multiple of {}, the elements of a block of {}", elements,
                  type.block_elements, type.name);
  }
  const auto* block = reinterpret_cast<const Byte*>(stored);
  for (std::int64_t i = 0; i < elements; i += type.block_elements, block += type.block_bytes) read(block, out + i);
}

void read_rows(const FileTensor& tensor, std::int64_t first, std::int64_t count, float* out) {
  if (first < 0 || count < 0 || first > tensor.rows() || count > tensor.rows() - first) {
    fail_argument("rows [{}, {} + {}) of tensor '{}' were asked for; it has {}", first, first, count, tensor.name,
                  tensor.rows());
  }
  const std::int64_t row_bytes = *bytes_of(tensor.storage, tensor.columns());
  dequantize(tensor.storage, tensor.bytes.data() + first * row_bytes, count * tensor.columns(), out);
}

}  // namespace tilewise::io
