// Standard attention as frameworks run it, to measure beside: matrix products by BLAS, softmax between them in vector
// lanes, and the s_q x s_kv weights kept in memory for the backward pass.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "tilewise/executor.h"

namespace tilewise::cli {

/// Plain attention in float32, h heads of s queries and s keys. Uses the processor's best instruction set.
///
/// It is given every advantage: products are OpenBLAS's, on as many threads as the executor has; softmax follows its
/// block of scores while that is in the cache; the backward pass keeps two matrices where a framework keeps three.
class StandardCase {
 public:
  /// The executor must outlive it. Throws Error(out_of_memory).
  StandardCase(std::int64_t h, std::int64_t s, std::int64_t d, Executor& executor);

  void forward();
  void backward();  ///< After a forward().

  /// Bytes of the weights and of their gradients: what tiled attention does without.
  static std::int64_t extra_bytes(std::int64_t h, std::int64_t s) { return 2 * h * s * s * 4; }

  const float* q() const { return q_.get(); }  // [h, s, d]
  const float* k() const { return k_.get(); }  // likewise
  const float* v() const { return v_.get(); }
  const float* d_o() const { return d_o_.get(); }
  const float* o() const { return o_.get(); }
  const float* d_q() const { return d_q_.get(); }
  const float* d_k() const { return d_k_.get(); }
  const float* d_v() const { return d_v_.get(); }

 private:
  struct Free {
    void operator()(float* memory) const;
  };
  using Buffer = std::unique_ptr<float, Free>;
  static Buffer zeros(std::int64_t count);
  static Buffer normal(std::int64_t count, unsigned seed);

  void forward_rows(std::int64_t head, std::int64_t begin, std::int64_t end);
  void backward_rows(std::int64_t head, std::int64_t begin, std::int64_t end);
  void backward_keys(std::int64_t head, std::int64_t begin, std::int64_t end);
  template <class Body>
  void for_blocks(const Body& body);

  std::int64_t h_, s_, d_;
  float scale_;
  Executor& executor_;
  Buffer q_, k_, v_, o_, d_o_, d_q_, d_k_, d_v_;  // [h, s, d]
  Buffer weights_, d_scores_;                     // [h, s, s]; d_scores_ holds d_weights on the way
};

}  // namespace tilewise::cli
