#include "attention/check_append.h"

#include <cmath>

#include "core/fail.h"
#include "core/shared_memory.h"
#include "variant/call_tensors.h"

namespace tilewise::attention {
namespace {

void expect_dtype(const char* name, const ConstTensor& tensor, DType dtype) {
  if (tensor.dtype != dtype)
    fail_argument("{} has dtype {}; the appender was made for {}", name, to_string(tensor.dtype), to_string(dtype));
}

void check_pages(const char* name, const ConstTensor& pages, std::int64_t h_kv, std::int64_t d, DType dtype) {
  if (pages.rank != 4) fail_argument("{} has rank {}; expected 4, [pages, h_kv, page_tokens, d]", name, pages.rank);
  variant::check_output(name, pages, {{pages.extents[0], h_kv, pages.extents[2], d}, 4},
                        "[pages, h_kv, page_tokens, d]");
  expect_dtype(name, pages, dtype);
}

/// [b, h_kv, s, d] or packed [h_kv, tokens, d].
void check_rows(const GpuCacheShape& shape, const GpuCacheAppend& call) {
  if (call.k.rank != 3 && call.k.rank != 4) {
    fail_argument("k has rank {}; expected 4, [b, h_kv, s, d_qk], or 3 for packed storage, [h_kv, tokens, d_qk]",
                  call.k.rank);
  }
  variant::Extents expected = variant::with_last_axis(call.k, shape.d_qk);
  expected.values[expected.rank - 3] = shape.h_kv;
  variant::check_given("k", call.k, expected, "with the appender's h_kv and d_qk");
  variant::check_given("v", call.v, variant::with_last_axis(call.k, shape.d_v), "as k but for the last axis, d_v");
  expect_dtype("k", call.k, shape.dtype);
  expect_dtype("v", call.v, shape.dtype);
}

bool begin_alike(const ConstTensor& a, const ConstTensor& b) { return a.data == b.data && a.strides == b.strides; }

/// Where values are columns of keys, as in a cache of latent attention, both write the same bytes.
bool values_are_in_keys(const GpuCacheShape& shape, const GpuCacheAppend& call) {
  return begin_alike(call.k, call.v) && begin_alike(call.k_pages, call.v_pages) && shape.d_v <= shape.d_qk &&
         (!shape.rotary || shape.rotary->columns == 0);
}

void check_own_memory(const GpuCacheShape& shape, const GpuCacheAppend& call) {
  const auto expect_apart = [](const char* name, const ConstTensor& pages, const char* other,
                               const ConstTensor& tensor) {
    if (share_memory(pages, tensor)) {
      fail_argument("{} shares memory with {}; expected memory of its own, for it is written while others are in use",
                    name, other);
    }
  };
  for (const auto& [name, pages] : {std::pair{"k_pages", &call.k_pages}, {"v_pages", &call.v_pages}}) {
    expect_apart(name, *pages, "k", call.k);
    expect_apart(name, *pages, "v", call.v);
    expect_apart(name, *pages, "block_table", call.block_table);
    if (!call.device_sequences) continue;
    for (const auto& [column, of_sequences] : variant::kSequenceColumns) {
      const auto& given = (*call.device_sequences).*of_sequences;
      if (given) expect_apart(name, *pages, column, *given);
    }
  }
  if (!values_are_in_keys(shape, call)) expect_apart("k_pages", call.k_pages, "v_pages", call.v_pages);
}

}  // namespace

const GpuCacheShape& check_append_shape(const GpuCacheShape& shape) {
  if (shape.dtype != DType::bfloat16 && shape.dtype != DType::float16 && shape.dtype != DType::float32) {
    fail(ErrorCode::unsupported, "dtype is {}; caches on a GPU are appended to as bfloat16, float16 and float32",
         to_string(shape.dtype));
  }
  const auto expect = [](const char* name, std::int64_t size, std::int64_t most) {
    if (size < 1 || size > most) fail_argument("{} is {}; expected 1 to {}", name, size, most);
  };
  expect("b", shape.b, 65535);
  expect("h_kv", shape.h_kv, 65535);
  expect("d_qk", shape.d_qk, 65536);
  expect("d_v", shape.d_v, 65536);
  if (!shape.rotary) return shape;
  const Rotary& rotary = *shape.rotary;
  if (rotary.columns < 0 || rotary.columns % 2 != 0 || rotary.columns > shape.d_qk)
    fail_argument("rotary.columns is {}; expected an even number from 0 to d_qk, {}", rotary.columns, shape.d_qk);
  if (!(rotary.base > 0) || !std::isfinite(rotary.base))
    fail_argument("rotary.base is {}; expected a finite number above 0", rotary.base);
  return shape;
}

variant::Call check_append(const GpuCacheShape& shape, const GpuCacheAppend& call) {
  check_pages("k_pages", call.k_pages, shape.h_kv, shape.d_qk, shape.dtype);
  check_pages("v_pages", call.v_pages, shape.h_kv, shape.d_v, shape.dtype);
  check_rows(shape, call);
  ForwardInputs inputs;
  inputs.q = call.k;
  inputs.k = call.k_pages;
  inputs.v = call.v_pages;
  inputs.block_table = call.block_table;
  inputs.sequences = call.sequences;
  inputs.device_sequences = call.device_sequences;
  variant::Call checked;
  variant::check_inputs(Variant(), inputs, checked, variant::TableData::elsewhere);
  if (checked.problem.b() > shape.b)
    fail_argument("b is {}; the appender was made for at most {}", checked.problem.b(), shape.b);
  check_own_memory(shape, call);
  return checked;
}

}  // namespace tilewise::attention
