#include "attention/cuda_gradients.h"

#include <algorithm>

#include "core/fail.h"
#include "cuda/launch/pointers.h"

namespace tilewise::attention {
namespace {

template <class Handle>
std::size_t number_of(const std::vector<Handle>& handles, const Handle& handle) {
  return static_cast<std::size_t>(std::ranges::find(handles, handle) - handles.begin());
}

}  // namespace

CudaGradients::CudaGradients(const Variant& variant, const PlanShape& shape, jit::Compiler& compiler,
                             std::shared_ptr<const jit::Context> context)
    : variant_(variant), tables_(shape.tables), is_deterministic_(shape.deterministic), context_(std::move(context)) {
  for (const Table& table : variant.tables()) {
    const auto planned = std::ranges::find(tables_, table, &TableShape::table);
    const bool has_gradient = table.type() == Type::real && !table.frozen_data() && planned != tables_.end();
    first_.push_back(has_gradient ? elements_ : -1);
    if (!has_gradient) continue;
    std::int64_t elements = 1;
    for (const std::int64_t extent : planned->extents) elements *= extent;
    elements_ += elements;
  }
  for (const Parameter& parameter : variant.parameters()) {
    first_.push_back(parameter.type() == Type::real ? elements_ : -1);
    elements_ += parameter.type() == Type::real ? 1 : 0;
  }
  if (elements_ == 0) return;
  constexpr auto kMost = static_cast<std::size_t>(cuda::GradientSums::kMost);
  if (variant.tables().size() > kMost || variant.parameters().size() > kMost) {
    fail(ErrorCode::unsupported,
         "the variant has {} tables and {} parameters; the GPU's backward kernels take up to {}",
         variant.tables().size(), variant.parameters().size(), kMost);
  }
  writer_.emplace(compiler, context_);
}

CudaGradients::Memory CudaGradients::memory_in(Arena& arena) const {
  Memory memory;
  memory.sums = arena.take<float>(elements_);
  if (!is_deterministic_) return memory;
  memory.largest = arena.take<unsigned>(elements_);
  memory.fixed = arena.take<long long>(elements_);
  return memory;
}

void CudaGradients::check(const variant::Call& call, const BackwardOutputs& outputs) const {
  for (const auto& [table, gradient] : outputs.d_tables) {
    const std::size_t number = number_of(variant_.tables(), table);
    const auto planned = std::ranges::find(tables_, table, &TableShape::table);
    if (planned == tables_.end()) {
      fail_argument("d_tables names '{}', whose extents the plan does not have; expected it in PlanShape::tables",
                    table.name());
    }
    for (std::size_t axis = 0; axis < planned->extents.size(); ++axis) {
      if (call.bound.tables[number].extents[axis] > planned->extents[axis]) {
        fail_argument("table '{}': axis {} has extent {}; the plan was made for at most {}", table.name(), axis,
                      call.bound.tables[number].extents[axis], planned->extents[axis]);
      }
    }
    cuda::expect_on_gpu(*context_, table.name(), gradient);
  }
  for (const auto& [parameter, gradient] : outputs.d_parameters)
    cuda::expect_on_gpu(*context_, parameter.name(), gradient);
}

cuda::GradientSums CudaGradients::sums_in(const Memory& memory, const BackwardOutputs& outputs) const {
  cuda::GradientSums sums{};
  sums.first = memory.sums, sums.largest = memory.largest, sums.fixed = memory.fixed;
  for (const auto& [table, gradient] : outputs.d_tables) {
    const std::size_t number = number_of(variant_.tables(), table);
    sums.tables[number] = memory.sums + first_[number];
  }
  for (const auto& [parameter, gradient] : outputs.d_parameters) {
    const std::size_t number = number_of(variant_.parameters(), parameter);
    sums.parameters[number] = memory.sums + first_[variant_.tables().size() + number];
  }
  return sums;
}

void CudaGradients::store(const cuda::GradientSums& sums, const BackwardOutputs& outputs,
                          jit::StreamHandle stream) const {
  for (const auto& [table, gradient] : outputs.d_tables)
    writer_->store(sums, sums.tables[number_of(variant_.tables(), table)], gradient, stream);
  for (const auto& [parameter, gradient] : outputs.d_parameters)
    writer_->store(sums, sums.parameters[number_of(variant_.parameters(), parameter)], gradient, stream);
}

}  // namespace tilewise::attention
