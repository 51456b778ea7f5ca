// New keys and values into a paged cache on a GPU.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "tilewise/arguments.h"
#include "tilewise/workspace.h"

namespace tilewise {

/// Rotary position embedding: pairs of columns are turned by position / base^(2 pair / columns) (Su et al., "RoFormer:
/// Enhanced Transformer with Rotary Position Embedding", 2021).
struct Rotary {
  std::int64_t columns = 0;  ///< The first columns of a key, even and at most d_qk.
  double base = 10000;
  bool interleaved = false;  ///< Pairs are columns 2i and 2i + 1; else i and i + columns / 2.
};

/// What a cache holds, and how keys come into it.
struct GpuCacheShape {
  DType dtype = DType::bfloat16;  ///< bfloat16, float16 or float32, of new rows and of pages.
  std::int64_t b = 1;             ///< Most sequences of a call.
  std::int64_t h_kv = 1;
  std::int64_t d_qk = 64;
  std::int64_t d_v = 64;
  std::optional<Rotary> rotary{};
};

/// New tokens of some sequences, and the pages that they go into, all on the GPU. The sequences are those of the
/// attention call that follows, whose queries belong to the same tokens: s_q of them are new, of s_kv in all, so new
/// token j becomes key index s_kv - s_q + j at position key_offset + that, and lies where query j does.
struct GpuCacheAppend {
  ConstTensor k{};                    // [b, h_kv, s, d_qk], or packed [h_kv, tokens, d_qk]
  ConstTensor v{};                    // [b, h_kv, s, d_v], or packed [h_kv, tokens, d_v]
  Tensor k_pages{};                   // [pages, h_kv, page_tokens, d_qk]
  Tensor v_pages{};                   // [pages, h_kv, page_tokens, d_v]
  ConstTensor block_table{};          // [b, pages of a sequence], int32; what goes into a hole, -1, is dropped
  std::vector<Sequence> sequences{};  // [b]
  std::optional<DeviceSequences> device_sequences{};  ///< In place of them; s_q and s_kv are needed.
};

/// The kernel that appends, for one kind of cache. Constant; copies share it, and threads may.
class GpuCacheAppender {
 public:
  /// Throws Error(invalid_argument) on a shape that makes no sense, Error(unsupported) on another dtype; Error(device).
  GpuCacheAppender(const GpuCacheShape& shape, const Device& device);

  /// Bytes that append() needs, whatever the call.
  std::int64_t workspace_bytes() const;

  /// Queues the copying on the workspace's stream; it waits for nothing and can be captured in a CUDA graph. Throws
  /// Error(invalid_argument) where arguments do not fit together or the shape, or do not lie on the GPU, or where pages
  /// share memory with what is read or with each other; values that are the first columns of unrotated keys may, in
  /// pages that are, too, as for latent attention. Two sequences must not append to one page's slot.
  void append(const GpuCacheAppend& call, Workspace& workspace) const;

 private:
  struct State;
  std::shared_ptr<const State> state_;
};

}  // namespace tilewise
