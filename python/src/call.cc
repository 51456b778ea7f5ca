#include "call.h"

#include <string>

#include "openmp.h"
#include "shape.h"
#include "tilewise/error.h"

namespace nb = nanobind;

namespace tilewise::python {

namespace {

Device device_of(const Array& array, const char* name) {
  switch (array.device_type()) {
    case dlpack::DeviceType::cpu: return Device::cpu();
    case dlpack::DeviceType::cuda:
    case dlpack::DeviceType::cuda_managed: return Device::cuda(array.device_id());
    default:
      throw Error(ErrorCode::unsupported, std::string(name) + " lies on a device of DLPack's kind " +
                                              std::to_string(static_cast<int>(array.device_type())) +
                                              "; Tilewise computes on the processor and on CUDA GPUs");
  }
}

// For the processor. The fast exchange means PyTorch, or a framework with OpenMP's threads as well.
Device processor_of(const Array& q, const Array& k) {
  if (!q.is_from_exchange() || k.view().rank < 3) return Device::cpu();
  const std::int64_t products = q.view().elements() * k.view().extents[static_cast<std::size_t>(k.view().rank - 2)];
  constexpr std::int64_t kTooFewToShare = std::int64_t{1} << 20;  // some tens of microseconds on one core
  Executor* executor = products < kTooFewToShare ? &calling_thread() : openmp_executor();
  return executor != nullptr ? Device::cpu(*executor) : Device::cpu();
}

}  // namespace

Call::Call(nb::handle q, nb::handle k, nb::handle v, const Options& options)
    : q_object_(q),
      q_(q, "q"),
      k_(k, "k"),
      v_(v, "v"),
      bound_(options),
      is_deterministic_(options.deterministic),
      device_(device_of(q_, "q")) {
  expect_beside_queries(k_, "k");
  expect_beside_queries(v_, "v");
  if (!device_.is_cuda()) device_ = processor_of(q_, k_);
  inputs_.q = in_own_layout(q_.read(), options.layout);
  inputs_.k = in_own_layout(k_.read(), options.layout);
  inputs_.v = in_own_layout(v_.read(), options.layout);
  take_optional(options.block_table, block_table_, "block_table", inputs_.block_table);
  take_scales(options.k_scales, k_scales_, "k_scales", options.layout, inputs_.k_scales);
  take_scales(options.v_scales, v_scales_, "v_scales", options.layout, inputs_.v_scales);
  inputs_.scale = options.scale;
  inputs_.tables = bound_.tables();
  inputs_.parameters = options.parameters;
  inputs_.sequences = options.sequences;
  inputs_.dropout_probability = options.dropout;
  inputs_.seed = options.seed;
  inputs_.seed_offset = options.seed_offset;
  if (options.query_offset) set_query_offset(inputs_, *options.query_offset);
}

bool Call::is_contiguous() const {
  const auto holds = [](const ConstTensor& tensor) {
    return tensor.rank == 0 || tensor.strides[static_cast<std::size_t>(tensor.rank - 1)] == 1;
  };
  return holds(inputs_.q) && holds(inputs_.k) && holds(inputs_.v);
}

void Call::expect_beside_queries(const Array& array, const char* name) const {
  const Device expected = device_of(q_, "q"), found = device_of(array, name);
  if (!(expected == found)) {
    throw Error(ErrorCode::invalid_argument, std::string(name) + " lies on " + found.text() + " and q on " +
                                                 expected.text() + "; expected all arrays on one device");
  }
}

Plan Call::forward_plan(Recipe& recipe, bool gradients_follow) const {
  const PlanShape shape = shape_of(inputs_, false);
  constexpr std::int64_t kFewQueries = 16;
  const bool is_decoding = shape.s_q <= kFewQueries && shape.s_q < shape.s_kv;
  if (!gradients_follow || !is_on_gpu()) return recipe.plan(shape, device_, is_decoding);
  const PlanShape backward = backward_shape();
  return recipe.plan(shape, device_, is_decoding, &backward);
}

Plan Call::backward_plan(Recipe& recipe) const { return recipe.plan(backward_shape(), device_, false); }

PlanShape Call::backward_shape() const {
  PlanShape shape = shape_of(inputs_, true);
  shape.deterministic = is_deterministic_;
  return shape;
}

void Call::take_optional(const nb::object& object, std::optional<Array>& array, const char* name,
                         std::optional<ConstTensor>& tensor) {
  if (!is_given(object)) return;
  array.emplace(object, name);
  expect_beside_queries(*array, name);
  tensor = array->read();
}

void Call::take_scales(const nb::object& object, std::optional<Array>& array, const char* name, Layout layout,
                       std::optional<ConstTensor>& tensor) {
  take_optional(object, array, name, tensor);
  if (tensor) tensor = in_own_layout(*tensor, layout, false);
}

}  // namespace tilewise::python
