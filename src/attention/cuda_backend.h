// Attention by a GPU's kernels: what a plan fixes, and how a call's arguments reach the kernels.
#pragma once

#include <compare>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "attention/arena.h"
#include "attention/backend.h"
#include "attention/call_state.h"
#include "attention/cuda_gradients.h"
#include "cuda/launch/decode.h"
#include "cuda/launch/device_memory.h"
#include "cuda/launch/families.h"
#include "cuda/launch/sequences.h"
#include "cuda/launch/tile_lister.h"
#include "jit/compile_ahead.h"
#include "variant/call.h"

namespace tilewise::attention {

/// What a call's tensors look like, as far as kernels differ by it.
struct Form {
  bool is_aligned = true;  // rows begin at multiples of 16 bytes
  bool is_paged = false;
  int page_multiple = 1;        // ForwardShape's
  bool values_in_keys = false;  // v is the first columns of k, in decoding
  bool has_gradients = false;   // of tables and parameters, in a backward pass
  bool has_max_score = false;   // the largest score of each head is asked for

  friend auto operator<=>(const Form&, const Form&) = default;
};

/// A plan's kernels of one kind: those for the usual form made with the plan, others when a call first has such.
template <class Kernels>
class ByForm {
 public:
  using Make = std::function<std::unique_ptr<const Kernels>(const Form& form)>;
  explicit ByForm(Make make) : make_(std::move(make)), usual_(make_({})) {}

  const Kernels& usual() const { return *usual_; }
  const Kernels& get(const Form& form) const {
    if (form == Form()) return *usual_;
    const std::lock_guard<std::mutex> lock(mutex_);
    std::unique_ptr<const Kernels>& made = others_[form];
    if (made == nullptr) made = make_(form);
    return *made;
  }

 private:
  Make make_;
  std::unique_ptr<const Kernels> usual_;
  mutable std::mutex mutex_;
  mutable std::map<Form, std::unique_ptr<const Kernels>> others_;
};

/// What a call of one plan works with, besides the plan: made once for a workspace, used again by each call in it.
struct CudaState final : CallState {
  variant::Call call;
  std::vector<std::byte> bound;  // the variant's, as its kernels take them
  jit::KernelChain backward;
};

/// Parts of a workspace, on the GPU.
struct CudaMemory {
  cuda::SequenceShape* written_sequences = nullptr;  // [b], of a call whose sequences are not the plan's longest
  const cuda::SequenceShape* sequences = nullptr;    // [b], these or the plan's own; or null
  int* tiles = nullptr;                              // of lists, of the forward or the backward pass
  int* tile_counts = nullptr;                        // [lists]
  cuda::RowStart* tile_order = nullptr;              // [lists]
  float* partial_o = nullptr;                        // of decoding, or of lists in parts
  float* partial_lse = nullptr;                      // likewise
  unsigned char* float8_values = nullptr;            // [b, h_kv, bytes of a sequence's values], of float8_e4m3
  cuda::Float8Block* float8_blocks = nullptr;        // [b, h_kv, blocks of a sequence], likewise
  float* reference = nullptr;                        // [b, h_q, s_q], of a backward pass
  float* delta = nullptr;                            // likewise
  float* d_q_sums = nullptr;                         // [parts, b, h_q, s_q, d_qk]
  int* tile_turns = nullptr;                         // of lists, of a deterministic backward pass
  int* d_q_turns = nullptr;                          // [b, h_q, tiles of 64 queries]
  CudaGradients::Memory gradients;                   // likewise
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
  /// Sequences of at most this many queries are decoded, where all heads of a key head make at most that many rows:
  /// each 16 rows read the keys anew.
  static constexpr std::int64_t kDecodeQueries = 16, kDecodeRows = 128;

  /// A table that the variant holds, on the GPU.
  struct FrozenTable {
    std::size_t number;  // among the graph's tables
    variant::BoundTable view;
  };

  /// One direction of a call: what its tiles are, and whether lists are of key tiles.
  struct Direction {
    cuda::ListTile tile;
    bool by_key;

    bool operator==(const Direction&) const = default;
  };

  /// The lists of all calls whose sequences are as long as the plan's, where nothing that a call binds decides what is
  /// kept.
  struct KeptLists {
    Direction direction;
    cuda::DeviceMemory tiles, counts, order;
    std::optional<cuda::DeviceMemory> turns;  // of a deterministic backward pass
    cuda::TileLists lists;
  };

  cuda::ForwardShape kernel_shape(const Form& form) const;
  cuda::ForwardExtent largest_extent() const;
  std::vector<jit::CompileAhead::Make> programs_ahead(const tiles::Mask& mask) const;
  bool may_decode(bool mask_follows_head) const;
  void make_decoder();
  std::optional<cuda::DecodePlan> decode_plan(const Form& form) const;
  std::optional<cuda::DecodePlan> plan_decoding(const cuda::ForwardShape& kernel) const;
  std::vector<Form> decode_forms() const;
  bool decodes(const Form& form, const cuda::ForwardExtent& extent) const;
  cuda::Making making(const cuda::ForwardShape& kernel) const;
  std::string explain_refusals() const;
  void note_refusals(const char* direction, const std::vector<std::string>& reasons);
  void measure_lists();
  bool can_keep_lists() const;
  std::vector<std::byte> bytes_of_lists() const;
  KeptLists* lists_of(const Direction& direction);
  std::optional<KeptLists> listed(const Direction& direction) const;
  std::int64_t visited_keys(const KeptLists& kept) const;
  bool find_small_parts();
  bool has_long_key_rows();
  cuda::ListExtent list_extent(const Direction& direction) const;
  std::vector<cuda::RowStart> order_of(const KeptLists& kept) const;
  void find_long_rows(KeptLists& kept);
  void find_heads_together(KeptLists& kept, const cuda::ListExtent& extent,
                           const std::vector<cuda::RowStart>& order) const;
  void keep_lists();
  cuda::TileLists list_tiles(const CudaState& state, const CudaMemory& memory, const Direction& direction,
                             const cuda::ForwardExtent& extent, jit::StreamHandle stream) const;
  CudaMemory memory_in(Arena& arena) const;
  CudaState& state_in(Workspace& workspace) const;
  void upload_frozen_tables();
  void bind(CudaState& state) const;
  void measure_decoding();
  bool are_longest(const ForwardInputs& inputs, const variant::Call& call) const;
  void write_sequences(const ForwardInputs& inputs, const variant::Call& call, CudaMemory& memory,
                       jit::StreamHandle stream) const;
  void validate(const ForwardInputs& inputs, jit::StreamHandle stream) const;

  Device device_;
  std::shared_ptr<const jit::Context> context_;
  bool must_prove_reads_ = false;
  std::optional<cuda::TileLister> lister_;        // where some call may remove entries
  std::int64_t most_tiles_ = 0, most_lists_ = 0;  // of the lists of any call
  bool has_small_parts_ = false;                  // as a forward kernel is made for
  bool has_long_rows_ = false;                    // likewise a backward kernel
  std::list<KeptLists> kept_lists_;
  std::vector<cuda::DeviceMemory> frozen_memory_;
  std::vector<FrozenTable> frozen_;
  std::optional<cuda::SequenceWriter> sequences_;
  std::optional<ByForm<cuda::ForwardRunner>> forward_;  // up to head dimensions of 256
  std::optional<ByForm<cuda::DecodeKernels>> decode_;   // where the plan is for few queries
  std::optional<ByForm<cuda::BackwardRunner>> backward_;
  std::optional<CudaGradients> gradients_;     // of a backward pass
  std::int64_t partial_rows_ = 0;              // of decoding or of lists in parts, in a workspace
  std::optional<cuda::DeviceMemory> longest_;  // [b] SequenceShape: every sequence as long as the plan's, from 0 on
  std::int64_t workspace_bytes_ = 0;
};

}  // namespace tilewise::attention
