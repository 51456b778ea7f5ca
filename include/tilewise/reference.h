// Standard attention: the computation that writes all scores, reads them, writes all weights and reads those. It takes
// memory and traffic of O(s_q s_kv), which the tiled algorithms avoid, and its steps can be read one by one. In float64
// it is the oracle that every kernel is held to; in the kernels' own precision it says which error is ordinary.
//
// Algorithm 0 of "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness" (Dao, Fu, Ermon, Rudra,
// Re 2022), with the backward pass of its appendix (Algorithm 3), extended by variants.
#pragma once

#include <cstdint>

#include "tilewise/arguments.h"

namespace tilewise {

/// Bytes that standard attention moved between its arithmetic and slow memory. Every step reads each of its operands
/// once and writes its result once; what a step keeps to itself (a row's maximum, an entry's score within the variant)
/// costs nothing, and neither do tables, parameters and random bits.
struct StandardTraffic {
  std::int64_t bytes_read = 0;
  std::int64_t bytes_written = 0;

  friend bool operator==(const StandardTraffic&, const StandardTraffic&) = default;
};

/// o, and lse where it is asked for, for every row of every sequence:
///
///     s = scale * q k^T; the variant's stages in order give s' or remove the entry
///     lse = log(sum over kept keys of exp(s') + exp(sink))      weight = exp(s' - lse)
///     o = sum over keys of weight * v, each weight dropped or scaled by dropout
///
/// A row that keeps nothing has o = 0 and lse = -inf, or the sink's logit. An entry with a weight of exactly 0
/// (removed, dropped or underflowed) contributes nothing, whatever v holds.
///
/// `precision` is the arithmetic: float64; float32; or float16 or bfloat16, which means float32 with these roundings to
/// 16 bits, where a framework's matrix products and softmax hand over 16-bit tensors: q, k, v when they are loaded; q
/// k^T before it is scaled; the weights; dropped weights; o. lse is not rounded. Sums run from left to right. Inputs
/// and o may have any floating dtype, whatever the precision.
///
/// Throws Error(invalid_argument) before anything is written: on shapes, dtypes, strides, lengths or bindings that do
/// not fit together, and where a kept entry reads outside of a table (unless the read is declared clamped).
StandardTraffic standard_attention(const Variant& variant, const ForwardInputs& inputs, const ForwardOutputs& outputs,
                                   DType precision = DType::float64);

/// The gradients of a loss in q, k, v, tables and parameters (the sink's included), from those in o and lse:
///
///     d_v = (dropped weights)^T d_o     d_weight = d_o v^T, dropped     delta = sum over keys of weight * d_weight
///     d_s' = weight * (d_weight - delta + d_lse)     d_sink = exp(sink - lse) * (d_lse - delta)
///     d_s from d_s' through the variant's derivative, which gives d_tables and d_parameters on the way
///     d_q = scale * d_s k     d_k = scale * d_s^T q
///
/// Scores and weights are those of the forward pass, computed again; `given.o` and `given.lse` are not read. A weight
/// of exactly 0 has gradients of exactly 0, and a score that was clamped at -2^126 passes none on.
///
/// Roundings to 16 bits, further to those above: d_o when it is loaded; d_v, d_k and d_q; d_o v^T; scale * d_s. With
/// several query heads a key head, d_k and d_v are rounded for each, then summed in float32 and rounded again, as for
/// keys and values that were repeated. Gradients of tables and parameters are summed in float32 and not rounded.
/// The traffic is that of the backward pass alone: scores and weights are there from the forward pass.
///
/// Throws as standard_attention.
StandardTraffic standard_attention_backward(const Variant& variant, const ForwardInputs& inputs,
                                            const BackwardInputs& given, const BackwardOutputs& outputs,
                                            DType precision = DType::float64);

}  // namespace tilewise
