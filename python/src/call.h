// The arrays of one call from Python, and what the library is to be told of them.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <optional>

#include "arrays.h"
#include "options.h"
#include "recipe.h"
#include "tilewise/attention.h"

namespace tilewise::python {

class Call {
 public:
  /// Throws what Array throws, and Error(invalid_argument) where arrays lie on several devices.
  Call(nanobind::handle q, nanobind::handle k, nanobind::handle v, const Options& options);

  const ForwardInputs& inputs() const { return inputs_; }

  /// Whether the last axes of q, k and v are.
  bool is_contiguous() const;

  /// Throws Error(invalid_argument) naming `name` where the array lies on another device than q.
  void expect_beside_queries(const Array& array, const char* name) const;

  /// Throw as Attention::plan does. Where `gradients_follow`, a GPU's kernels of both passes are compiled side by side,
  /// which takes as long as the slower pass rather than both.
  Plan forward_plan(Recipe& recipe, bool gradients_follow) const;
  Plan backward_plan(Recipe& recipe) const;

  bool is_on_gpu() const { return device_.is_cuda(); }
  const Array& q() const { return q_; }
  nanobind::handle q_object() const { return q_object_; }

 private:
  PlanShape backward_shape() const;
  void take_optional(const nanobind::object& object, std::optional<Array>& array, const char* name,
                     std::optional<ConstTensor>& tensor);
  void take_scales(const nanobind::object& object, std::optional<Array>& array, const char* name, Layout layout,
                   std::optional<ConstTensor>& tensor);

  nanobind::handle q_object_;
  Array q_, k_, v_;
  std::optional<Array> block_table_, k_scales_, v_scales_;
  BoundArrays bound_;
  ForwardInputs inputs_;
  bool is_deterministic_;
  Device device_;
};

/// Whether there is one, and it is not None.
inline bool is_given(const nanobind::object& object) { return object.is_valid() && !object.is_none(); }

}  // namespace tilewise::python
