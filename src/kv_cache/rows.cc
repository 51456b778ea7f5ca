// Rows in and out of pages.
#include <algorithm>
#include <array>
#include <cstring>

#include "core/check_tensor.h"
#include "core/element.h"
#include "core/fail.h"
#include "kv_cache/cache.h"

namespace tilewise::kv_cache {
namespace {

void expect_row_tensor(std::string_view name, const ConstTensor& tensor, std::int64_t h_kv, std::int64_t d) {
  if (tensor.rank != 3) fail_argument("{} has rank {}; expected [h_kv, n, d]", name, tensor.rank);
  check_memory(name, tensor);
  check_floating(name, tensor);
  const std::array<std::int64_t, 3> expected{h_kv, tensor.extents[1], d};
  check_extents(name, tensor, expected, "[h_kv, n, d] of the cache");
}

/// A row as float32: where it lies, or else in `other`.
const float* load_row(const ConstTensor& tensor, std::int64_t head, std::int64_t i, std::vector<float>& other) {
  const void* found = element_at(tensor, head, i, 0);
  if (tensor.dtype == DType::float32) return static_cast<const float*>(found);
  other.resize(static_cast<std::size_t>(tensor.extents[2]));
  const auto* elements = static_cast<const char*>(found);
  const std::int64_t size = size_of(tensor.dtype);
  for (float& value : other) {
    value = static_cast<float>(load_real(elements, tensor.dtype));
    elements += size;
  }
  return other.data();
}

void store_row(const Tensor& tensor, std::int64_t head, std::int64_t i, std::span<const float> row) {
  auto* elements = static_cast<char*>(element_at(tensor, head, i, 0));
  const std::int64_t size = size_of(tensor.dtype);
  for (const float value : row) {
    store_real(elements, tensor.dtype, static_cast<double>(value));
    elements += size;
  }
}

}  // namespace

std::int64_t Cache::page_end(std::int64_t first, std::int64_t count) const {
  return count == 0 ? first / shape_.page_tokens : (first + count - 1) / shape_.page_tokens + 1;
}

void Cache::expect_rows(const State& state, std::int64_t layer, std::int64_t first, const ConstTensor& k,
                        const ConstTensor& v) const {
  expect_layer(layer);
  expect_row_tensor("k", k, shape_.h_kv, shape_.d_qk);
  expect_row_tensor("v", v, shape_.h_kv, shape_.d_v);
  const std::int64_t count = k.extents[1];
  if (v.extents[1] != count) fail_argument("v has {} tokens; expected {}, as k", v.extents[1], count);
  if (first < 0 || first > state.length || count > state.length - first) {
    fail_argument("tokens [{}, {} + {}) of a sequence that has {}; append() makes room", first, first, count,
                  state.length);
  }
  for (std::int64_t page = first / shape_.page_tokens; page < page_end(first, count); ++page) {
    if (state.pages[static_cast<std::size_t>(page)] < 0) fail_argument("page {} of the sequence was given up", page);
  }
}

void Cache::write(KvSequence sequence, std::int64_t layer, std::int64_t first, const ConstTensor& k,
                  const ConstTensor& v) {
  const State& state = at(sequence);
  expect_rows(state, layer, first, k, v);
  const std::int64_t count = k.extents[1];
  for (std::int64_t page = first / shape_.page_tokens; page < page_end(first, count); ++page) {
    const std::int32_t number = state.pages[static_cast<std::size_t>(page)];
    if (others_have(number)) {
      fail_argument("page {} of the sequence has {} owners{}; make_private() copies it", page, pool_.owners(number),
                    pool_.is_indexed(number) ? " and is offered for reuse" : "");
    }
  }
  std::vector<float> row;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t token = first + i, slot = token % shape_.page_tokens;
    const std::int32_t page = state.pages[static_cast<std::size_t>(token / shape_.page_tokens)];
    for (std::int64_t head = 0; head < shape_.h_kv; ++head) {
      keys_.store(layer, page, head, slot, load_row(k, head, i, row));
      values_.store(layer, page, head, slot, load_row(v, head, i, row));
    }
  }
}

void Cache::read(KvSequence sequence, std::int64_t layer, std::int64_t first, const Tensor& k, const Tensor& v) const {
  const State& state = at(sequence);
  expect_rows(state, layer, first, k, v);
  std::vector<float> row(static_cast<std::size_t>(std::max(shape_.d_qk, shape_.d_v)));
  const auto key = std::span(row).first(static_cast<std::size_t>(shape_.d_qk));
  const auto value = std::span(row).first(static_cast<std::size_t>(shape_.d_v));
  for (std::int64_t i = 0; i < k.extents[1]; ++i) {
    const std::int64_t token = first + i, slot = token % shape_.page_tokens;
    const std::int32_t page = state.pages[static_cast<std::size_t>(token / shape_.page_tokens)];
    for (std::int64_t head = 0; head < shape_.h_kv; ++head) {
      keys_.load(layer, page, head, slot, key.data());
      store_row(k, head, i, key);
      values_.load(layer, page, head, slot, value.data());
      store_row(v, head, i, value);
    }
  }
}

}  // namespace tilewise::kv_cache
