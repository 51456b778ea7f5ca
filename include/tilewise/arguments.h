// What a call of attention takes and gives: the arguments of the plans' and of the reference's forward and backward.
//
// Storage. Each side, queries (q, o, lse and their gradients) and keys (k, v and theirs), is stored in one of two ways,
// which the ranks tell apart:
//   - padded: one row of memory a sequence, as in q [b, h_q, s_q, d_qk]. Row j of sequence i is [i, :, j, :];
//   - packed: no batch axis, as in q [h_q, query tokens, d_qk]. Row j of sequence i is [:, first token of i + j, :],
//   with
//     Sequence::first_query_token or first_key_token. Rows of q, k and v may be shared by sequences.
// Keys have a third one, which a block table marks:
//   - paged: k [pages, h_kv, page_tokens, d_qk]. Row j of sequence i is [block_table[i, j / page_tokens], :,
//     j % page_tokens, :]. Sequences may share pages. Forward only.
// The two sides need not agree: packed queries may attend to a padded or paged cache. The axes' order in memory is free
// ([pages, page_tokens, h_kv, d] is a view), since every axis but the last has any stride; the last is contiguous.
//
// Rows outside every sequence, such as unused slots of pages, are neither read nor written; nor are keys before
// key_start read (their gradients are 0).
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "tilewise/problem.h"
#include "tilewise/tensor.h"
#include "tilewise/variant.h"

namespace tilewise {

/// Sequences whose lengths and positions lie on the plan's GPU: [b] int32 each, with the meaning and the default of
/// Sequence's member of that name; lengths are by default those of padded storage. So a call can be queued, or captured
/// in a CUDA graph, before they are known. Kernels clamp lengths and tokens to what the tensors, the pages and the plan
/// hold; that packed queries share no rows, and that reads of tables lie inside, is the caller's word, unless
/// `validate` has them checked.
struct DeviceSequences {
  std::int64_t b = 0;
  std::optional<ConstTensor> s_q{};                // [b]; needed with packed queries
  std::optional<ConstTensor> s_kv{};               // [b]; needed with packed or paged keys
  std::optional<ConstTensor> query_offset{};       // [b]
  std::optional<ConstTensor> key_offset{};         // [b]
  std::optional<ConstTensor> key_start{};          // [b]
  std::optional<ConstTensor> first_query_token{};  // [b]
  std::optional<ConstTensor> first_key_token{};    // [b]
};

/// So many consecutive rows of a sequence, from index 0 on, share a scale of float8_e4m3 where there is one for each
/// block: row j has the scale [sequence, head, j / kScaleRows].
inline constexpr std::int64_t kScaleRows = 128;

/// What the forward pass reads. The backward pass takes the very same.
struct ForwardInputs {
  ConstTensor q{};  // [b, h_q, s_q, d_qk], or packed [h_q, query tokens, d_qk]
  ConstTensor k{};  // [b, h_kv, s_kv, d_qk], packed [h_kv, key tokens, d_qk], or paged [pages, h_kv, page_tokens, d_qk]
  ConstTensor v{};  // [b, h_kv, s_kv, d_v], packed [h_kv, key tokens, d_v], or paged [pages, h_kv, page_tokens, d_v]

  /// Of k and v where they are int8, and only there: a row's elements are its numbers times its scale. float32, any
  /// strides; the extents of k and v without the last axis. Forward only. Scales are taken as they are, NaN included.
  ///
  /// Of q, k and v where they are float8_e4m3: one scale a head, or one for each kScaleRows rows of a sequence's head,
  /// however these are stored (docs/decisions/fp8.md). float32, any strides; finite, and those of v above 0.
  std::optional<ConstTensor> q_scales{};  // [h_q] or [b, h_q, blocks of s_q]
  std::optional<ConstTensor> k_scales{};  // [b, h_kv, s_kv], [h_kv, key tokens] or [pages, h_kv, page_tokens]; or, of
                                          // float8_e4m3, [h_kv] or [b, h_kv, blocks of s_kv]
  std::optional<ConstTensor> v_scales{};  // likewise

  /// Makes k and v paged: the page of each page_tokens keys of a sequence, int32. -1 is a hole, a page that is not
  /// there: the variant must keep no entry of it. What is behind a sequence's last page, or before the page of its
  /// key_start, is not looked at.
  std::optional<ConstTensor> block_table{};  // [b, pages of a sequence]

  std::optional<double> scale{};  ///< scores = scale * q.k. Any finite number; by default 1 / sqrt(d_qk).

  std::vector<TableBinding> tables{};          ///< Each table of the variant once, except frozen ones.
  std::vector<ParameterBinding> parameters{};  ///< Each parameter of the variant once.

  /// Lengths and positions, within what the tensors hold. Empty with padded storage: every sequence fills its rows.
  /// With pages first_key_token counts for the variant alone.
  std::vector<Sequence> sequences{};  // [b]

  std::optional<double> dropout_probability{};  ///< In [0, 1], in place of the one that the variant was given.
  std::uint64_t seed = 0;                       ///< Of dropout's random bits.
  std::uint64_t seed_offset = 0;  ///< Counts calls under one seed: below 2^32 (docs/decisions/dropout.md).

  /// On a GPU, in place of what the host would give: sequences, and the seed and its offset, [2] int64.
  std::optional<DeviceSequences> device_sequences{};
  std::optional<ConstTensor> device_seed{};

  /// On a GPU: waits for the stream and checks what lies there as if the host had given it, lengths and positions, the
  /// block table, and values of tables. Not while a CUDA graph is captured.
  bool validate = false;
};

/// What the forward pass writes. Outputs' elements share no memory, neither within a tensor nor with another output or
/// anything that the call reads; slices of one buffer are fine.
struct ForwardOutputs {
  Tensor o{};                   // [b, h_q, s_q, d_v], or packed [h_q, query tokens, d_v]
  std::optional<Tensor> lse{};  // [b, h_q, s_q], or packed [h_q, query tokens]; float32 or float64

  /// The largest score, scale * q.k before the variant's functions, of each query head over all kept entries of all
  /// sequences: what QK-clip (Kimi Team, "Kimi K2", 2025) keeps from growing. float32; -inf where nothing is kept; NaN
  /// scores do not count. Head dimensions up to 256 on a GPU.
  std::optional<Tensor> max_score{};  // [h_q]
};

/// What the backward pass reads besides ForwardInputs: the forward pass's outputs, and the gradients of the loss in
/// them. The storage is the queries' (see above).
struct BackwardInputs {
  std::optional<ConstTensor> o{};      // [b, h_q, s_q, d_v]: needed by every backend but the reference
  std::optional<ConstTensor> lse{};    // [b, h_q, s_q]: likewise
  ConstTensor d_o{};                   // [b, h_q, s_q, d_v]
  std::optional<ConstTensor> d_lse{};  // [b, h_q, s_q]; by default 0
};

/// Where the gradient in a table that a call binds goes. Only for tables of reals; what it held is overwritten.
struct TableGradientBinding {
  Table table;
  Tensor gradient;  // [extents of the bound data]
};

/// Where the gradient in a real parameter goes; what it held is overwritten.
struct ParameterGradientBinding {
  Parameter parameter;
  Tensor gradient;  // []: rank 0, one element
};

/// What the backward pass writes; what is left out is not computed. Outputs share no memory, as for ForwardOutputs; so
/// sequences that share keys have no d_k and d_v.
struct BackwardOutputs {
  std::optional<Tensor> d_q{};                           // as q
  std::optional<Tensor> d_k{};                           // as k, summed over the query heads that share a key head
  std::optional<Tensor> d_v{};                           // as v, likewise
  std::vector<TableGradientBinding> d_tables{};          ///< Each table at most once; summed over all reads.
  std::vector<ParameterGradientBinding> d_parameters{};  ///< Each parameter at most once; summed over all uses.
};

}  // namespace tilewise
