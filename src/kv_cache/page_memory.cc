#include "kv_cache/page_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/fail.h"
#include "core/half.h"

namespace tilewise::kv_cache {
namespace {

constexpr float kMostQuant = 127.0F;

template <class Half>
void store_halves(const float* row, std::int64_t d, std::byte* out) {
  for (std::int64_t i = 0; i < d; ++i, out += sizeof(Half)) {
    const Half value(row[i]);
    std::memcpy(out, &value, sizeof(value));
  }
}

template <class Half>
void load_halves(const std::byte* stored, std::int64_t d, float* row) {
  for (std::int64_t i = 0; i < d; ++i, stored += sizeof(Half)) {
    Half value;
    std::memcpy(&value, stored, sizeof(value));
    row[i] = static_cast<float>(value);
  }
}

/// Stores a row as int8 and returns its scale.
float store_int8(const float* row, std::int64_t d, std::byte* out) {
  float largest = 0;
  bool finite = true;
  for (std::int64_t i = 0; i < d; ++i) {
    finite = finite && std::isfinite(row[i]);
    largest = std::max(largest, std::abs(row[i]));
  }
  const float scale = largest / kMostQuant, inverse = kMostQuant / largest;
  if (!finite || !std::isfinite(inverse)) {
    // Zeros and subnormals, whose inverse overflows, are 0; what is not finite must not read as a number.
    std::memset(out, 0, static_cast<std::size_t>(d));
    return finite ? 0 : std::numeric_limits<float>::quiet_NaN();
  }
  for (std::int64_t i = 0; i < d; ++i) {
    out[i] = static_cast<std::byte>(static_cast<std::int8_t>(std::nearbyint(row[i] * inverse)));
  }
  return scale;
}

}  // namespace

void Unmap::operator()(void* memory) const { munmap(memory, size); }

template <class T>
Mapped<T> PageMemory::map(const KvCacheShape& shape, std::int64_t rows_of_page, std::int64_t row_bytes) {
  std::int64_t bytes = row_bytes;
  bool fits = true;
  for (const std::int64_t extent : {shape.layers, shape.pages, rows_of_page}) {
    fits = fits && !__builtin_mul_overflow(bytes, extent, &bytes);
  }
  if (!fits) fail_argument("pages is {}: the cache would take more bytes than 64 bits count", shape.pages);
  const auto size = static_cast<std::size_t>(bytes);
  void* memory = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) {
    fail(ErrorCode::out_of_memory, "a cache of {} pages takes {} bytes, which there are not; choose fewer pages",
         shape.pages, bytes);
  }
  return {static_cast<T*>(memory), Unmap{size}};
}

PageMemory::PageMemory(const KvCacheShape& shape, std::int64_t d)
    : shape_(shape), d_(d), row_bytes_(d * size_of(shape.dtype)) {
  std::int64_t rows_of_page = 0;
  if (__builtin_mul_overflow(shape.h_kv, shape.page_tokens, &rows_of_page)) {
    fail_argument("h_kv * page_tokens is {} * {}: more rows than 64 bits count", shape.h_kv, shape.page_tokens);
  }
  rows_ = map<std::byte>(shape, rows_of_page, row_bytes_);
  if (shape.dtype == DType::int8) scales_ = map<float>(shape, rows_of_page, sizeof(float));
}

ConstTensor PageMemory::layer(std::int64_t layer) const {
  const std::array<std::int64_t, 4> extents{shape_.pages, shape_.h_kv, shape_.page_tokens, d_};
  return {rows_.get() + row_of(layer, 0, 0, 0) * row_bytes_, shape_.dtype, extents};
}

ConstTensor PageMemory::scales(std::int64_t layer) const {
  const std::array<std::int64_t, 3> extents{shape_.pages, shape_.h_kv, shape_.page_tokens};
  return {scales_.get() + row_of(layer, 0, 0, 0), DType::float32, extents};
}

void PageMemory::store(std::int64_t layer, std::int32_t page, std::int64_t head, std::int64_t slot, const float* row) {
  const std::int64_t index = row_of(layer, page, head, slot);
  std::byte* out = rows_.get() + index * row_bytes_;
  switch (shape_.dtype) {
    case DType::bfloat16: return store_halves<Bfloat16>(row, d_, out);
    case DType::float16: return store_halves<Float16>(row, d_, out);
    case DType::int8: scales_.get()[index] = store_int8(row, d_, out); return;
    default: std::memcpy(out, row, static_cast<std::size_t>(row_bytes_));
  }
}

void PageMemory::load(std::int64_t layer, std::int32_t page, std::int64_t head, std::int64_t slot, float* row) const {
  const std::int64_t index = row_of(layer, page, head, slot);
  const std::byte* stored = rows_.get() + index * row_bytes_;
  switch (shape_.dtype) {
    case DType::bfloat16: return load_halves<Bfloat16>(stored, d_, row);
    case DType::float16: return load_halves<Float16>(stored, d_, row);
    case DType::int8:
      for (std::int64_t i = 0; i < d_; ++i) {
        row[i] = static_cast<float>(static_cast<std::int8_t>(stored[i])) * scales_.get()[index];
      }
      return;
    default: std::memcpy(row, stored, static_cast<std::size_t>(row_bytes_));
  }
}

void PageMemory::copy(std::int32_t from, std::int32_t to) {
  const std::int64_t rows = shape_.h_kv * shape_.page_tokens;
  for (std::int64_t layer = 0; layer < shape_.layers; ++layer) {
    const std::int64_t source = row_of(layer, from, 0, 0), target = row_of(layer, to, 0, 0);
    std::memcpy(rows_.get() + target * row_bytes_, rows_.get() + source * row_bytes_,
                static_cast<std::size_t>(rows * row_bytes_));
    if (scales_) std::copy_n(scales_.get() + source, rows, scales_.get() + target);
  }
}

}  // namespace tilewise::kv_cache
