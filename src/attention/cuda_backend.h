// Attention by a GPU's kernels: what a plan fixes, and how a call's arguments reach the kernels.
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "attention/arena.h"
#include "attention/backend.h"
#include "attention/call_state.h"
#include "cuda/launch/device_memory.h"
#include "cuda/launch/families.h"
#include "cuda/launch/sequences.h"
#include "cuda/launch/tile_lister.h"
#include "variant/call.h"

namespace tilewise::attention {

/// A plan's kernels in one direction: for rows that begin at multiples of 16 bytes, made with the plan, and for any
/// rows, which are rare, made when a call first has such.
template <class Runner>
class ByAlignment {
 public:
  using Make = std::function<std::unique_ptr<const Runner>(bool is_aligned)>;
  explicit ByAlignment(Make make) : make_(std::move(make)), aligned_(make_(true)) {}

  const Runner& aligned() const { return *aligned_; }
  const Runner& get(bool is_aligned) const {
    if (is_aligned) return *aligned_;
    const std::lock_guard<std::mutex> lock(mutex_);
    if (any_ == nullptr) any_ = make_(false);
    return *any_;
  }

 private:
  Make make_;
  std::unique_ptr<const Runner> aligned_;
  mutable std::mutex mutex_;
  mutable std::unique_ptr<const Runner> any_;
};

/// What a call of one plan works with, besides the plan: made once for a workspace, used again by each call in it.
struct CudaState final : CallState {
  variant::Call call;
  std::vector<std::byte> bound;  // the variant's, as its kernels take them
};

/// Parts of a workspace, on the GPU.
struct CudaMemory {
  cuda::SequenceShape* sequences = nullptr;  // [b]
  int* tiles = nullptr;                      // of lists, of the forward or the backward pass
  int* tile_counts = nullptr;                // [lists]
  int* tile_order = nullptr;                 // [lists]
  float* reference = nullptr;                // [b, h_q, s_q], of a backward pass
  float* delta = nullptr;                    // likewise
  float* d_q_sums = nullptr;                 // [b, h_q, s_q, d_qk]
};

class CudaBackend final : public Backend {
 public:
  CudaBackend(const Variant& variant, const PlanShape& shape, const Device& device);

  void forward(const ForwardInputs& inputs, const ForwardOutputs& outputs, Workspace& workspace) const override;
  void backward(const ForwardInputs& inputs, const BackwardInputs& given, const BackwardOutputs& outputs,
                Workspace& workspace) const override;
  std::int64_t workspace_bytes() const override { return workspace_bytes_; }
  std::string instruction_set() const override { return context_->device().architecture().name(); }
  Device device() const override { return device_; }
  std::string explain() const override;

 private:
  /// A table that the variant holds, on the GPU.
  struct FrozenTable {
    std::size_t number;  // among the graph's tables
    variant::BoundTable view;
  };

  /// One direction of a call: what its tiles are, and whether lists are of key tiles.
  struct Direction {
    TileSizes tile;
    bool by_key;
  };

  cuda::ForwardShape kernel_shape(bool is_aligned) const;
  cuda::ListExtent largest_lists(const Direction& direction) const;
  cuda::TileLists list_tiles(const CudaState& state, const CudaMemory& memory, const Direction& direction,
                             const cuda::ForwardExtent& extent, jit::StreamHandle stream) const;
  CudaMemory memory_in(Arena& arena) const;
  CudaState& state_in(Workspace& workspace) const;
  void upload_frozen_tables();
  void bind(CudaState& state, const variant::ArgumentLayout& layout) const;
  void expect_inputs(const ForwardInputs& inputs) const;
  cuda::DropoutArguments dropout_of(const variant::Call& call) const;

  Device device_;
  std::shared_ptr<const jit::Context> context_;
  bool must_prove_reads_ = false;
  std::optional<cuda::TileLister> lister_;  // where some call may remove entries
  std::vector<cuda::DeviceMemory> frozen_memory_;
  std::vector<FrozenTable> frozen_;
  cuda::SequenceWriter sequences_;
  std::optional<ByAlignment<cuda::ForwardRunner>> forward_;
  std::optional<ByAlignment<cuda::BackwardRunner>> backward_;
  std::int64_t workspace_bytes_ = 0;
};

}  // namespace tilewise::attention
