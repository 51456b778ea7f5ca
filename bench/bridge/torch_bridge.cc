// Public plans behind a C interface, for bench/compare_torch_cuda.py: tensors and streams are PyTorch's.
//
// Every function returns 0 or, after a failure, 1: bridge_error() then says what failed.
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "guarded.h"
#include "tilewise/attention.h"
#include "tilewise/error.h"
#include "tilewise/tiles.h"

namespace {

using namespace tilewise;  // NOLINT(google-build-using-namespace): this file has no other subject

/// A plan and the workspace of the stream that it was last used on.
struct Bridge {
  Plan plan;
  std::string text;  // what bridge_plan has told
  std::optional<Workspace> workspace;
  std::vector<TableBinding> tables;  // of those that the variant does not hold, at most one

  Workspace& on(void* stream) {
    if (!workspace || workspace->stream() != stream) workspace.emplace(plan.workspace_bytes(), Device::cuda(), stream);
    return *workspace;
  }

  /// [b, h, s, d], stored as [b, s, h, d] without gaps.
  Tensor tensor(void* data, DType dtype, std::int64_t heads, std::int64_t rows, std::int64_t d) const {
    const PlanShape& shape = plan.shape();
    const std::array<std::int64_t, 4> extents = {shape.b, heads, rows, d},
                                      strides = {rows * heads * d, d, heads * d, 1};
    return Tensor(data, dtype, extents, strides);
  }
  Tensor of_queries(void* data, std::int64_t d) const {
    return tensor(data, plan.shape().dtype, plan.shape().h_q, plan.shape().s_q, d);
  }
  Tensor of_keys(void* data, std::int64_t d) const {
    return tensor(data, plan.shape().dtype, plan.shape().h_kv, plan.shape().s_kv, d);
  }
  Tensor of_output(void* data) const {
    const bool is_scaled = plan.shape().dtype == DType::float8_e4m3;
    return tensor(data, is_scaled ? DType::bfloat16 : plan.shape().dtype, plan.shape().h_q, plan.shape().s_q,
                  plan.shape().d_v);
  }
  /// [h], or [b, h, blocks], without gaps.
  ConstTensor scales(void* data, std::int64_t heads, std::int64_t rows, bool of_blocks) const {
    if (!of_blocks) return ConstTensor(data, DType::float32, {heads});
    return ConstTensor(data, DType::float32, {plan.shape().b, heads, (rows + kScaleRows - 1) / kScaleRows});
  }
  Tensor lse(void* data) const {
    return Tensor(data, DType::float32, {plan.shape().b, plan.shape().h_q, plan.shape().s_q});
  }
  ForwardInputs inputs(void** tensors) const {
    return {.q = of_queries(tensors[0], plan.shape().d_qk),
            .k = of_keys(tensors[1], plan.shape().d_qk),
            .v = of_keys(tensors[2], plan.shape().d_v),
            .tables = tables};
  }
};

}  // namespace

extern "C" {

const char* bridge_error() { return error.c_str(); }

/// `variant` and `dtype` are textual forms; `sizes` is b, h_q, h_kv, s_q, s_kv, d_qk, d_v, and the extents of `table`,
/// float32 [rows, columns] on the GPU: what the variant's table reads that it does not hold, or null. `backward` is 1
/// for plans with a backward pass, 2 for deterministic ones. What is made is closed by bridge_close.
int bridge_open(const char* variant, const char* dtype, const int* sizes, int backward, void* table, void** made) {
  return guarded([&] {
    PlanShape shape{.dtype = dtype_from_string(dtype),
                    .b = sizes[0],
                    .h_q = sizes[1],
                    .h_kv = sizes[2],
                    .d_qk = sizes[5],
                    .d_v = sizes[6],
                    .s_q = sizes[3],
                    .s_kv = sizes[4],
                    .backward = backward != 0,
                    .deterministic = backward == 2};
    const Variant parsed = parse_variant(variant);
    std::vector<TableBinding> tables;
    for (const Table& one : parsed.tables()) {
      if (one.frozen_data()) continue;
      tables.push_back({one, Tensor(table, DType::float32, {sizes[7], sizes[8]})});
      shape.tables.push_back({one, {sizes[7], sizes[8]}});
    }
    auto bridge =
        std::make_unique<Bridge>(Bridge{Attention(parsed).plan(shape, Device::cuda()), {}, {}, std::move(tables)});
    *made = bridge.release();
  });
}

void bridge_close(void* bridge) { delete static_cast<Bridge*>(bridge); }

/// Tiles of 128 x 128 that the mask keeps entries of, over all tiles; of a variant that binds no tables.
int bridge_kept_share(const char* variant, int s_q, int s_kv, double* share) {
  return guarded(
      [&] { *share = classify_tiles(parse_variant(variant), {}, Problem::uniform(1, 1, 1, s_q, s_kv)).kept_share(); });
}

/// The plan's explanation, made when it is asked for: with it bridge_open took 70 to 120 ms where kernels were at hand.
const char* bridge_plan(void* bridge) {
  Bridge& b = *static_cast<Bridge*>(bridge);
  b.text = b.plan.explain();
  return b.text.c_str();
}

/// `tensors`: q, k, v, o, [b, s, h, d] without gaps, on the GPU, and lse, float32 [b, h_q, s_q], or null.
int bridge_forward(void* bridge, void** tensors, void* stream) {
  return guarded([&] {
    Bridge& b = *static_cast<Bridge*>(bridge);
    ForwardOutputs outputs{.o = b.of_output(tensors[3])};
    if (tensors[4] != nullptr) outputs.lse = b.lse(tensors[4]);
    b.plan.forward(b.inputs(tensors), outputs, b.on(stream));
  });
}

/// The same of float8_e4m3, with o in bfloat16. `tensors`: as above, and the scales of q, k and v: of heads, [h], or of
/// blocks, [b, h, blocks of 128 rows].
int bridge_forward_float8(void* bridge, void** tensors, int of_blocks, void* stream) {
  return guarded([&] {
    Bridge& b = *static_cast<Bridge*>(bridge);
    const PlanShape& shape = b.plan.shape();
    ForwardInputs inputs = b.inputs(tensors);
    inputs.q_scales = b.scales(tensors[5], shape.h_q, shape.s_q, of_blocks != 0);
    inputs.k_scales = b.scales(tensors[6], shape.h_kv, shape.s_kv, of_blocks != 0);
    inputs.v_scales = b.scales(tensors[7], shape.h_kv, shape.s_kv, of_blocks != 0);
    ForwardOutputs outputs{.o = b.of_output(tensors[3])};
    if (tensors[4] != nullptr) outputs.lse = b.lse(tensors[4]);
    b.plan.forward(inputs, outputs, b.on(stream));
  });
}

/// `tensors`: q, k, v, o, lse as above, d_o, d_q, d_k, d_v, and the gradient of the table, as it is, or null.
int bridge_backward(void* bridge, void** tensors, void* stream) {
  return guarded([&] {
    Bridge& b = *static_cast<Bridge*>(bridge);
    const PlanShape& shape = b.plan.shape();
    std::vector<TableGradientBinding> d_tables;
    for (const TableBinding& one : b.tables) {
      if (tensors[9] == nullptr) continue;
      const auto& extents = one.data.extents;
      d_tables.push_back({one.table, Tensor(tensors[9], DType::float32, {extents[0], extents[1]})});
    }
    b.plan.backward(b.inputs(tensors),
                    {.o = b.of_queries(tensors[3], shape.d_v),
                     .lse = b.lse(tensors[4]),
                     .d_o = b.of_queries(tensors[5], shape.d_v)},
                    {.d_q = b.of_queries(tensors[6], shape.d_qk),
                     .d_k = b.of_keys(tensors[7], shape.d_qk),
                     .d_v = b.of_keys(tensors[8], shape.d_v),
                     .d_tables = d_tables},
                    b.on(stream));
  });
}

}  // extern "C"
