// Attention: a variant, planned for a shape and a device, and run forward and backward.
//
//   Attention attention(keep([](const At& at) { return at.query >= at.key; }));
//   Plan plan = attention.plan({.dtype = DType::bfloat16, .h_q = 32, .h_kv = 8, .d_qk = 128, .d_v = 128, .s_q = 4096,
//                               .s_kv = 4096, .backward = true}, Device::cpu());
//   Workspace workspace(plan.workspace_bytes());
//   plan.forward({.q = q, .k = k, .v = v}, {.o = o, .lse = lse}, workspace);
//   plan.backward({.q = q, .k = k, .v = v}, {.o = o, .lse = lse, .d_o = d_o}, {.d_q = d_q, .d_k = d_k, .d_v = d_v},
//                 workspace);
//
// Tri Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness" (2022); Dao,
// "FlashAttention-2" (2023).
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tilewise/arguments.h"
#include "tilewise/device.h"
#include "tilewise/workspace.h"

namespace tilewise {

/// The extents of a table's data, as far as a plan must know them.
struct TableShape {
  Table table;
  std::vector<std::int64_t> extents;  // [rank]
};

/// What a plan is made for. dtypes, heads and head dimensions are those of every call; b and the lengths are the most
/// that any call has.
struct PlanShape {
  DType dtype = DType::float32;     ///< Of q and o, and of d_q and d_o. float8_e4m3, of q alone, comes with scales.
  std::optional<DType> kv_dtype{};  ///< Of k and v, and of d_k and d_v; by default as dtype. int8 comes with scales.
  std::optional<DType> o_dtype{};   ///< Of o, where q is float8_e4m3 and only there; by default bfloat16.
  std::int64_t b = 1;               ///< Most sequences.
  std::int64_t h_q = 1;
  std::int64_t h_kv = 1;  ///< Divides h_q.
  std::int64_t d_qk = 64;
  std::int64_t d_v = 64;
  std::int64_t s_q = 0;   ///< Most queries of a sequence.
  std::int64_t s_kv = 0;  ///< Most keys of a sequence.
  bool backward = false;  ///< Whether backward() will be called.

  /// Whether the same call gives the same bits every time. On the processor it always does; on a GPU a backward pass
  /// then does without atomics whose order shows: d_q is summed up in up to 8 parts, which the workspace has room for,
  /// and gradients of tables and parameters take two passes.
  bool deterministic = false;

  /// Where reads of tables are proven for; calls elsewhere are proven when they are made. The position of query index
  /// 0, by default such that the last query and the last key share a position; and the rows of packed storage, by
  /// default what padded storage has.
  std::optional<std::int64_t> query_offset{};
  std::optional<std::int64_t> query_tokens{}, key_tokens{};

  /// Every table that the variant reads without clamping the index, frozen ones aside: reads are proven to lie inside.
  /// Where `backward`, also those whose gradients will be asked for, with the largest extents.
  std::vector<TableShape> tables{};
};

namespace attention {
class Backend;
}

/// How attention of a shape is computed on a device. Constant; copies share it, and threads may.
class Plan {
 public:
  /// Computes o and lse as standard_attention does (tilewise/reference.h), but for rounding.
  ///
  /// Throws Error(invalid_argument) before anything is written: on arguments that do not fit together or the plan, on a
  /// workspace that is too small, on a hole of the block table of which an entry is kept, and where reads of tables
  /// cannot be shown to lie inside for the lengths and offsets of this call. Where a proof of one of these two fails
  /// without an example it is Error(unsupported).
  void forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace& workspace) const;

  /// Likewise, in a workspace that this thread keeps, as large as the largest plan has needed so far.
  void forward(const ForwardInputs& inputs, const ForwardOutputs& outputs) const;

  /// Computes the gradients as standard_attention_backward does, from the o and lse of a forward pass with the same
  /// inputs. Throws likewise, and where o or lse is missing or the plan was made without `backward`.
  ///
  /// A gradient of a table or parameter to which some entry contributes an infinity or NaN is NaN everywhere, unless
  /// every element of the table belongs to one entry.
  void backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs,
                Workspace& workspace) const;
  void backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs) const;

  /// Bytes that a call needs, whatever its lengths.
  std::int64_t workspace_bytes() const;

  /// How many of them calls touch whose sequences all have the planned lengths, with queries from
  /// PlanShape::query_offset: a system gives memory to nothing else. On the processor, sums of a backward pass over
  /// keys of which a block of queries keeps none are left alone. All bytes where what calls bind may decide that.
  std::int64_t touched_bytes() const;

  const Variant& variant() const;
  const PlanShape& shape() const;

  /// The instruction set of the kernels that run. On the processor one of HostInfo::instruction_sets, at most the one
  /// that the environment variable TILEWISE_ISA named when the plan was made; on a GPU its architecture, as "sm_90a".
  std::string instruction_set() const;

  /// For people: the backend, its instruction set, tiles, splits, workspace and predicted traffic, and why other
  /// backends were not taken.
  std::string explain() const;

 private:
  friend class Attention;
  explicit Plan(std::shared_ptr<const attention::Backend> backend) : backend_(std::move(backend)) {}

  std::shared_ptr<const attention::Backend> backend_;
};

/// What to compute. Immutable; cheap to copy.
class Attention {
 public:
  explicit Attention(Variant variant = {}) : variant_(std::move(variant)) {}

  /// Chooses how. Throws Error(invalid_argument) on a shape that makes no sense and where a kept entry reads outside
  /// of a table, and Error(unsupported) where no backend takes it, naming each and its reason.
  Plan plan(const PlanShape& shape, const Device& device = Device::cpu()) const;

  const Variant& variant() const { return variant_; }

 private:
  Variant variant_;
};

}  // namespace tilewise
