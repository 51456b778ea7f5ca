#include "variant/call_tensors.h"

#include "core/check_tensor.h"
#include "core/element.h"
#include "core/fail.h"

namespace tilewise::variant {
namespace {

void check_storage(std::string_view name, const ConstTensor& tensor) {
  if (tensor.rank != 3 && tensor.rank != 4) {
    fail_argument("{} has rank {}; expected 4, [b, heads, length, d], or 3 for packed storage, [heads, tokens, d]",
                  name, tensor.rank);
  }
  check_memory(name, tensor);
  if (axis_from_end(tensor, 0) < 1) fail_argument("{} has a last axis of 0; expected at least 1", name);
}

/// Of float8_e4m3: a scale for each head, or for each block of rows of a sequence's head.
void check_block_scales(const char* name, const ConstTensor& tensor, const char* scales_name,
                        const ConstTensor& scales) {
  const std::int64_t heads = axis_from_end(tensor, 2);
  if (scales.rank == 1)
    return check_extents(scales_name, scales, Extents{{heads}, 1}, "one for each head of what it scales");
  if (scales.rank != 3) {
    fail_argument("{} has rank {}; expected 1, [heads], or 3, [b, heads, blocks of {} rows], as {} is float8_e4m3",
                  scales_name, scales.rank, kScaleRows, name);
  }
  if (scales.extents[1] != heads) {
    fail_argument("{} has extents {}; expected {} heads, as {}", scales_name, extents_text(scales), heads, name);
  }
}

/// int8, of k or v, and float8_e4m3 are as good as a floating dtype where they come with scales.
void check_scales(const char* name, const ConstTensor& tensor, const char* scales_name,
                  const std::optional<ConstTensor>& scales) {
  const bool is_float8 = tensor.dtype == DType::float8_e4m3;
  if (!is_float8 && tensor.dtype != DType::int8) {
    check_floating(name, tensor);
    if (scales)
      fail_argument("{} is given, but {} has dtype {}; expected it with int8 and float8_e4m3 alone", scales_name, name,
                    to_string(tensor.dtype));
    return;
  }
  if (!scales) {
    fail_argument("{} is missing; expected a scale for each head {} of {}, which is {}", scales_name,
                  is_float8 ? "or block of rows" : "and token", name, to_string(tensor.dtype));
  }
  if (is_float8) {
    check_block_scales(name, tensor, scales_name, *scales);
  } else {
    check_extents(scales_name, *scales, without_last_axis(tensor), "as what it scales without the last axis");
  }
  check_elements(scales_name, *scales);
  if (scales->dtype != DType::float32)
    fail_argument("{} has dtype {}; expected float32", scales_name, to_string(scales->dtype));
}

}  // namespace

Extents with_last_axis(const ConstTensor& tensor, std::int64_t last) {
  Extents extents = extents_of(tensor);
  extents.values[extents.rank - 1] = last;
  return extents;
}

Extents without_last_axis(const ConstTensor& tensor) {
  Extents extents = extents_of(tensor);
  --extents.rank;
  return extents;
}

void check_lse_dtype(std::string_view name, const ConstTensor& tensor) {
  if (tensor.dtype != DType::float32 && tensor.dtype != DType::float64)
    fail_argument("{} has dtype {}; expected float32 or float64", name, to_string(tensor.dtype));
}

void check_given(std::string_view name, const ConstTensor& tensor, const Extents& expected, std::string_view meaning) {
  check_extents(name, tensor, expected, meaning);
  check_floating(name, tensor);
  check_memory(name, tensor);
}

void check_output(std::string_view name, const ConstTensor& tensor, const Extents& expected, std::string_view meaning) {
  check_given(name, tensor, expected, meaning);
  check_distinct_elements(name, tensor);
}

void check_column(const char* name, const std::optional<ConstTensor>& column, std::int64_t extent, DType dtype) {
  if (!column) return;
  if (column->rank != 1 || column->extents[0] != extent || column->dtype != dtype) {
    fail_argument("{} is {} of extents {}; expected {} of extents [{}]", name, to_string(column->dtype),
                  extents_text(*column), to_string(dtype), extent);
  }
  check_memory(name, *column);
}

void check_shapes(const ForwardInputs& inputs) {
  check_storage("q", inputs.q);
  check_storage("k", inputs.k);
  check_storage("v", inputs.v);
  if (axis_from_end(inputs.q, 0) != axis_from_end(inputs.k, 0)) {
    fail_argument("q has extents {} and k has {}; expected the same last axis, d_qk", extents_text(inputs.q),
                  extents_text(inputs.k));
  }
  check_extents("v", inputs.v, with_last_axis(inputs.k, axis_from_end(inputs.v, 0)), "as k but for the last axis, d_v");
  if (inputs.q.dtype == DType::int8) check_floating("q", inputs.q);
  check_scales("q", inputs.q, "q_scales", inputs.q_scales);
  check_scales("k", inputs.k, "k_scales", inputs.k_scales);
  check_scales("v", inputs.v, "v_scales", inputs.v_scales);
  if (!inputs.block_table) return;
  const ConstTensor& table = *inputs.block_table;
  if (table.rank != 2) fail_argument("block_table has rank {}; expected 2, [b, pages of a sequence]", table.rank);
  check_memory("block_table", table);
  if (table.dtype != DType::int32) fail_argument("block_table has dtype {}; expected int32", to_string(table.dtype));
  if (inputs.k.rank != 4) {
    fail_argument("k has rank {} beside a block_table; expected 4, [pages, h_kv, page_tokens, d_qk]", inputs.k.rank);
  }
}

}  // namespace tilewise::variant
