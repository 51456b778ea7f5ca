#include "io/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/fail.h"
#include "core/half.h"
#include "io/cursor.h"

namespace tilewise::io {
namespace {

constexpr int kBlock = 32;
constexpr float kMostQuant = 127.0F;

float largest_magnitude(const float* values) {
  float largest = 0;
  for (int i = 0; i < kBlock; ++i) {
    if (!std::isfinite(values[i])) return values[i];
    largest = std::max(largest, std::abs(values[i]));
  }
  return largest;
}

}  // namespace

void quantize_q8_0(const float* values, std::int64_t elements, std::byte* out, std::string_view name) {
  if (elements < 0 || elements % kBlock != 0) {
    fail_argument("tensor '{}' has rows of {} elements; q8_0 takes multiples of {}", printable(name), elements, kBlock);
  }
  for (std::int64_t begin = 0; begin < elements; begin += kBlock) {
    const float* block = values + begin;
    const float largest = largest_magnitude(block);
    const float exact = largest / kMostQuant;
    const Float16 scale{exact};
    if (!std::isfinite(static_cast<float>(scale))) {
      fail_argument("tensor '{}' has the value {} in elements {} to {}; q8_0 holds finite values up to 8.3e6",
                    printable(name), largest, begin, begin + kBlock - 1);
    }
    const float inverse = exact == 0 ? 0 : 1 / exact;
    std::memcpy(out, &scale, sizeof(scale));
    out += sizeof(scale);
    for (int i = 0; i < kBlock; ++i) {
      // 1 / exact overflows where the block holds nothing but subnormals, whose scale float16 has as 0.
      const float quant = std::isfinite(inverse) ? std::round(block[i] * inverse) : 0;
      *out++ = static_cast<std::byte>(static_cast<std::int8_t>(quant));
    }
  }
}

}  // namespace tilewise::io
