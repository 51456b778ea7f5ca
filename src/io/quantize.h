// float32 as int8 with a scale for each 32 elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace tilewise::io {

/// Writes elements / 32 blocks of q8_0 (storage.h): scale = largest magnitude / 127, rounded to float16 as it is
/// stored; q = round(x * (127 / largest magnitude)), halves away from zero. These are ggml's roundings, so equal input
/// gives equal files. `name` is for messages.
///
/// Throws Error(invalid_argument) where `elements` is no multiple of 32, on an infinity or NaN, and where a scale
/// exceeds float16 (magnitudes above 8.3e6), since none of those could be read back.
void quantize_q8_0(const float* values, std::int64_t elements, std::byte* out, std::string_view name);

}  // namespace tilewise::io
