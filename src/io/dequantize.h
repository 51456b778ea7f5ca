// Stored elements as float32.
#pragma once

#include <cstddef>
#include <cstdint>

#include "io/storage.h"

namespace tilewise::io {

/// Whether elements of that storage read as float32: the floating ones (float64 rounds) and the blocks.
bool reads_as_float32(Storage storage);

/// out[i] = the value of element i. `stored` holds whole blocks, unaligned. In float32, in the order of ggml's own
/// definitions, so that the values are its, bit for bit. Throws Error(invalid_argument) where `elements` is no whole
/// number of blocks, and Error(unsupported) on integers.
void dequantize(Storage storage, const std::byte* stored, std::int64_t elements, float* out);  // out [elements]

/// Rows [first, first + count) of a tensor. Throws Error(invalid_argument) where it has not that many, and as above.
void read_rows(const FileTensor& tensor, std::int64_t first, std::int64_t count, float* out);  // [count, columns]

}  // namespace tilewise::io
