// One problem of attention with its data, ready to run: what the bench commands measure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "stand_ins.h"
#include "tilewise/attention.h"
#include "tilewise/gpu_memory.h"

namespace tilewise::cli {

struct CaseShape {
  std::int64_t b = 1, h_q = 1, h_kv = 1;
  std::int64_t s_q = 0, s_kv = 0;
  std::int64_t d = 64;
  DType dtype = DType::float32;
  bool backward = false;
  bool table_gradients = true;  // in a backward pass, those of tables and parameters too
};

/// Inputs drawn from a normal distribution, always the same ones; tables that the variant wants bound are stand-ins
/// (stand_ins.h), and a backward pass computes their gradients too.
class AttentionCase {
 public:
  /// The device's executor must outlive it. Throws Error as StandIns, Attention::plan and GpuMemory.
  AttentionCase(const Variant& variant, const CaseShape& shape, const Device& device,
                const std::vector<std::string>& parameters = {});

  /// On a GPU these queue; finish() waits.
  void forward();
  void backward();  ///< After a forward(); needs shape.backward.
  void finish() const;

  const Plan& plan() const { return plan_; }
  const CaseShape& shape() const { return shape_; }

  double kept_entries() const;  ///< Of all sequences and query heads; the most, where it depends on scores.
  /// Tiles that are not empty over all tiles, of 64 x 64, or 128 x 128 on a GPU.
  double kept_share() const;

 private:
  struct Free {
    void operator()(void* memory) const;
  };
  void* zeros(std::int64_t bytes);                // kept until the end, at a cache line's start
  void move_to_gpu();                             // all tensors of the call
  Tensor tensor(std::int64_t h, std::int64_t s);  // [b, h, s, d], zeros
  Tensor random_tensor(std::int64_t h, std::int64_t s, unsigned seed);
  PlanShape plan_shape() const;
  void bind_gradients();

  Variant variant_;
  CaseShape shape_;
  Problem problem_;
  StandIns stand_ins_;
  Plan plan_;
  Workspace workspace_;
  std::vector<std::unique_ptr<void, Free>> memory_;
  std::vector<GpuMemory> gpu_memory_;
  ForwardInputs inputs_;
  ForwardOutputs outputs_;
  BackwardInputs given_;
  BackwardOutputs gradients_;
};

}  // namespace tilewise::cli
