#include "attention_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <random>
#include <span>

#include "tilewise/error.h"
#include "tilewise/tiles.h"

namespace tilewise::cli {
namespace {

/// The upper half of a float32: bfloat16, rounded toward zero.
std::uint16_t bfloat16_bits(float value) {
  return static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(value) >> 16);
}

/// float16, rounded toward zero, of a value below 65504 in size; what is below 2^-14 becomes 0.
std::uint16_t float16_bits(float value) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  const std::uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
  constexpr std::uint32_t kBiases = (127 - 15) << 23, kSmallest = (127 - 14) << 23;
  return static_cast<std::uint16_t>(magnitude < kSmallest ? sign : sign | (magnitude - kBiases) >> 13);
}

/// Draws a million numbers and repeats them: a prime number of them, so that rows differ. A cache for decoding has a
/// hundred million, which would take seconds to draw, for each plan that is measured.
void fill_normal(const Tensor& tensor, unsigned seed) {
  constexpr std::size_t kDrawn = 1048573;
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const auto fill = [&]<class Element>(Element*, auto convert) {
    const std::span elements(static_cast<Element*>(tensor.data), static_cast<std::size_t>(tensor.elements()));
    const std::size_t drawn = std::min(kDrawn, elements.size());
    for (Element& element : elements.first(drawn)) element = convert(normal(random));
    for (std::size_t i = drawn; i < elements.size(); i += drawn)
      std::copy_n(elements.begin(), std::min(drawn, elements.size() - i),
                  elements.begin() + static_cast<std::ptrdiff_t>(i));
  };
  switch (tensor.dtype) {
    case DType::bfloat16: return fill(static_cast<std::uint16_t*>(nullptr), bfloat16_bits);
    case DType::float16: return fill(static_cast<std::uint16_t*>(nullptr), float16_bits);
    case DType::float64: return fill(static_cast<double*>(nullptr), [](float value) { return value; });
    default: return fill(static_cast<float*>(nullptr), [](float value) { return value; });
  }
}

}  // namespace

AttentionCase::AttentionCase(const Variant& variant, const CaseShape& shape, const Device& device,
                             const std::vector<std::string>& parameters)
    : variant_(variant),
      shape_(shape),
      problem_(Problem::uniform(shape.b, shape.h_q, shape.h_kv, shape.s_q, shape.s_kv)),
      stand_ins_(variant, problem_, parameters),
      plan_(Attention(variant).plan(plan_shape(), device)),
      workspace_(plan_.workspace_bytes(), device) {
  inputs_.q = random_tensor(shape.h_q, shape.s_q, 1);
  inputs_.k = random_tensor(shape.h_kv, shape.s_kv, 2);
  inputs_.v = random_tensor(shape.h_kv, shape.s_kv, 3);
  inputs_.tables = stand_ins_.bindings().tables;
  inputs_.parameters = stand_ins_.bindings().parameters;
  outputs_.o = tensor(shape.h_q, shape.s_q);
  const std::int64_t rows = shape.b * shape.h_q * shape.s_q;
  const DType lse = shape.dtype == DType::float64 ? DType::float64 : DType::float32;
  outputs_.lse = Tensor(zeros(rows * size_of(lse)), lse, {shape.b, shape.h_q, shape.s_q});
  if (shape.backward) bind_gradients();
  if (device.is_cuda()) move_to_gpu();
}

void AttentionCase::move_to_gpu() {
  const auto moved = [&](auto& tensor) {
    using Pointer = decltype(tensor.data);
    auto bytes = static_cast<std::size_t>(tensor.elements() * size_of(tensor.dtype));
    gpu_memory_.emplace_back(static_cast<std::int64_t>(bytes), workspace_.device());
    gpu_memory_.back().upload({static_cast<const std::byte*>(tensor.data), bytes});
    tensor.data = static_cast<Pointer>(gpu_memory_.back().data());
  };
  moved(inputs_.q), moved(inputs_.k), moved(inputs_.v), moved(outputs_.o), moved(*outputs_.lse);
  for (TableBinding& binding : inputs_.tables) moved(binding.data);
  if (shape_.backward) {
    moved(given_.d_o), moved(*gradients_.d_q), moved(*gradients_.d_k), moved(*gradients_.d_v);
    given_.o = outputs_.o;
    given_.lse = outputs_.lse;
    for (TableGradientBinding& binding : gradients_.d_tables) moved(binding.gradient);
    for (ParameterGradientBinding& binding : gradients_.d_parameters) moved(binding.gradient);
  }
  memory_.clear();
}

void AttentionCase::Free::operator()(void* memory) const { std::free(memory); }

void* AttentionCase::zeros(std::int64_t bytes) {
  constexpr std::int64_t kLine = 64;
  const auto rounded = static_cast<std::size_t>((bytes + kLine - 1) / kLine * kLine);
  memory_.emplace_back(std::aligned_alloc(static_cast<std::size_t>(kLine), rounded));
  if (memory_.back() == nullptr && rounded > 0)
    throw Error(ErrorCode::out_of_memory, fmt::format("{} bytes of data could not be had", bytes));
  return std::memset(memory_.back().get(), 0, rounded);
}

Tensor AttentionCase::tensor(std::int64_t h, std::int64_t s) {
  return {zeros(shape_.b * h * s * shape_.d * size_of(shape_.dtype)), shape_.dtype, {shape_.b, h, s, shape_.d}};
}

Tensor AttentionCase::random_tensor(std::int64_t h, std::int64_t s, unsigned seed) {
  const Tensor made = tensor(h, s);
  fill_normal(made, seed);
  return made;
}

PlanShape AttentionCase::plan_shape() const {
  PlanShape planned{.dtype = shape_.dtype,
                    .b = shape_.b,
                    .h_q = shape_.h_q,
                    .h_kv = shape_.h_kv,
                    .d_qk = shape_.d,
                    .d_v = shape_.d,
                    .s_q = shape_.s_q,
                    .s_kv = shape_.s_kv,
                    .backward = shape_.backward};
  for (const auto& [table, data] : stand_ins_.bindings().tables)
    planned.tables.push_back({table, {data.extents.begin(), data.extents.begin() + data.rank}});
  return planned;
}

void AttentionCase::bind_gradients() {
  given_.o = outputs_.o;
  given_.lse = outputs_.lse;
  given_.d_o = random_tensor(shape_.h_q, shape_.s_q, 4);
  gradients_.d_q = tensor(shape_.h_q, shape_.s_q);
  gradients_.d_k = tensor(shape_.h_kv, shape_.s_kv);
  gradients_.d_v = tensor(shape_.h_kv, shape_.s_kv);
  if (!shape_.table_gradients) return;
  for (const auto& [table, data] : stand_ins_.bindings().tables) {
    if (table.type() != Type::real) continue;
    const std::span extents(data.extents.data(), static_cast<std::size_t>(data.rank));
    gradients_.d_tables.push_back({table, Tensor(zeros(data.elements() * 4), DType::float32, extents)});
  }
  for (const auto& [parameter, value] : stand_ins_.bindings().parameters) {
    if (parameter.type() != Type::real) continue;
    gradients_.d_parameters.push_back({parameter, Tensor(zeros(4), DType::float32, std::span<const std::int64_t>())});
  }
}

void AttentionCase::finish() const { synchronize(workspace_.device()); }

void AttentionCase::forward() { plan_.forward(inputs_, outputs_, workspace_); }

void AttentionCase::backward() { plan_.backward(inputs_, given_, gradients_, workspace_); }

double AttentionCase::kept_entries() const {
  double kept = 0;
  for (std::int64_t sequence = 0; sequence < problem_.b(); ++sequence) {
    for (std::int64_t head = 0; head < problem_.h_q; ++head)
      kept += static_cast<double>(count_entries(variant_, stand_ins_.bindings(), problem_, sequence, head).most);
  }
  return kept;
}

double AttentionCase::kept_share() const {
  // The granularity at which the cost of masks is stated, on processors and on GPUs.
  const TileSizes tile = workspace_.device().is_cuda() ? TileSizes{128, 128} : TileSizes{64, 64};
  double sum = 0;
  for (std::int64_t sequence = 0; sequence < problem_.b(); ++sequence) {
    for (std::int64_t head = 0; head < problem_.h_q; ++head)
      sum += classify_tiles(variant_, stand_ins_.bindings(), problem_, tile, sequence, head).kept_share();
  }
  return sum / static_cast<double>(std::max<std::int64_t>(problem_.b() * problem_.h_q, 1));
}

}  // namespace tilewise::cli
