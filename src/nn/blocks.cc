#include "nn/blocks.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/round_up.h"

namespace tilewise::nn {
namespace {

/// Elements for which other threads pay: some 5 microseconds of the cheapest pass, where handing out takes one.
constexpr std::int64_t kShared = 8 * 1024;

}  // namespace

Blocks::Blocks(const Transformer::Parts& parts, std::int64_t tokens, Executor& executor)
    : parts_(parts), shape_(parts.shape), executor_(executor) {
  attention::Arena measure;
  take(measure, tokens);
  memory_ = Workspace(measure.used());
  attention::Arena arena({memory_.data(), static_cast<std::size_t>(memory_.bytes())});
  take(arena, tokens);
}

void Blocks::take(attention::Arena& arena, std::int64_t tokens) {
  hidden_ = arena.take<float>(tokens * shape_.width);
  normed_ = arena.take<float>(tokens * shape_.width);
  q_ = arena.take<float>(tokens * shape_.h_q * shape_.d_qk);
  k_ = arena.take<float>(tokens * shape_.h_kv * shape_.d_qk);
  v_ = arena.take<float>(tokens * shape_.h_kv * shape_.d_v);
  o_ = arena.take<float>(tokens * shape_.h_q * shape_.d_v);
  gate_ = arena.take<float>(parts_.blocks.front().mlp.is_gated() ? tokens * shape_.mlp : 0);
  up_ = arena.take<float>(tokens * shape_.mlp);
  if (!parts_.rotary) return;
  cosines_ = arena.take<float>(tokens * parts_.rotary->d() / 2);
  sines_ = arena.take<float>(tokens * parts_.rotary->d() / 2);
}

/// body(row) for all rows of the step, by several threads where that pays.
template <class Body>
void Blocks::for_rows(std::int64_t elements_of_a_row, const Body& body) {
  const std::int64_t together = std::max<std::int64_t>(1, kShared / 4 / elements_of_a_row);
  if (rows_ * elements_of_a_row < kShared) {
    for (std::int64_t row = 0; row < rows_; ++row) body(row);
    return;
  }
  executor_.parallel_for(ceil_div(rows_, together), [&](std::int64_t part, int) {
    const std::int64_t end = std::min(rows_, (part + 1) * together);
    for (std::int64_t row = part * together; row < end; ++row) body(row);
  });
}

void Blocks::embed(std::int64_t row, std::int32_t token, std::int64_t position) {
  const std::int64_t width = shape_.width;
  float* hidden = hidden_ + row * width;
  float* other = normed_ + row * width;
  const auto add = [&](const float* values) {
    for (std::int64_t i = 0; i < width; ++i) hidden[i] += values[i];
  };
  parts_.embedding.read_row(token, hidden);
  if (!parts_.added.empty()) add(parts_.added.data());
  if (parts_.positions.rows() > 0) {
    parts_.positions.read_row(position, other);
    add(other);
  }
  if (parts_.has_sinusoidal_positions) {
    sinusoidal_position(position, width, other);
    add(other);
  }
  if (parts_.embedding_norm) normalise(*parts_.embedding_norm, hidden, hidden);
  if (!parts_.rotary) return;
  const std::int64_t half = parts_.rotary->d() / 2;
  rotary_angles(*parts_.rotary, static_cast<double>(position), cosines_ + row * half, sines_ + row * half);
}

void Blocks::forward(std::int64_t tokens, std::span<const std::int64_t> wanted, Attend& attend) {
  rows_ = tokens;
  const bool before = parts_.placement == NormPlacement::before;
  if (before) enter(parts_.blocks.front().attention_norm);
  for (std::int64_t layer = 0; layer < shape_.layers; ++layer) {
    const BlockPart& block = parts_.blocks[static_cast<std::size_t>(layer)];
    const bool is_last = layer + 1 == shape_.layers;
    attention_inputs(block);
    if (is_last && wanted.empty()) {
      rows_ = 0;
      // Keys and values are all that is left of these tokens.
      return attend.attend(layer, {0, q_, k_, v_, o_});
    }
    attend.attend(layer, {tokens, q_, k_, v_, o_});
    if (is_last) keep(wanted);
    project(o_, block.attention.out, normed_);
    join(block.attention_norm, before ? &block.mlp_norm : nullptr);
    mlp(block.mlp);
    const Norm* next = is_last ? nullptr : &parts_.blocks[static_cast<std::size_t>(layer + 1)].attention_norm;
    join(block.mlp_norm, before ? next : nullptr);
  }
  if (!parts_.last_norm) return;
  for_rows(shape_.width, [&](std::int64_t row) {
    normalise(*parts_.last_norm, hidden_ + row * shape_.width, hidden_ + row * shape_.width);
  });
}

void Blocks::logits(std::int64_t rows, float* logits) {
  const Product product{&parts_.logits, logits, shape_.vocabulary};
  multiply({hidden_, rows, shape_.width, shape_.width}, {&product, 1}, scratch_, executor_);
}

void Blocks::attention_inputs(const BlockPart& block) {
  const AttentionPart& a = block.attention;
  const std::int64_t q = shape_.h_q * shape_.d_qk, k = shape_.h_kv * shape_.d_qk, v = shape_.h_kv * shape_.d_v;
  const auto bias = [](const Projection& p) { return p.bias.empty() ? nullptr : p.bias.data(); };
  const std::array<Product, 3> products{Product{&a.q.weights, q_, q, bias(a.q)},
                                        Product{&a.k.weights, k_, k, bias(a.k)},
                                        Product{&a.v.weights, v_, v, bias(a.v)}};
  multiply({input(), rows_, shape_.width, shape_.width}, products, scratch_, executor_);
  if (!parts_.rotary) return;
  const std::int64_t half = parts_.rotary->d() / 2;
  for_rows(q + k, [&](std::int64_t row) {
    const float *cosines = cosines_ + row * half, *sines = sines_ + row * half;
    rotate(*parts_.rotary, cosines, sines, q_ + row * q, shape_.h_q, shape_.d_qk);
    rotate(*parts_.rotary, cosines, sines, k_ + row * k, shape_.h_kv, shape_.d_qk);
  });
}

/// Moves the rows that are wanted to the front, of what the rest of the block reads.
void Blocks::keep(std::span<const std::int64_t> wanted) {
  const std::int64_t o = shape_.h_q * shape_.d_v;
  const auto move = [](float* rows, std::int64_t width, std::int64_t from, std::int64_t to) {
    if (from != to)
      std::memcpy(rows + to * width, rows + from * width, static_cast<std::size_t>(width) * sizeof(float));
  };
  rows_ = 0;
  for (const std::int64_t row : wanted) {
    move(hidden_, shape_.width, row, rows_);
    move(o_, o, row, rows_);
    ++rows_;
  }
}

void Blocks::mlp(const MlpPart& mlp) {
  const std::int64_t width = shape_.mlp;
  const auto bias = [](const Projection& p) { return p.bias.empty() ? nullptr : p.bias.data(); };
  const Rows x{input(), rows_, shape_.width, shape_.width};
  const std::array<Product, 2> products{Product{&mlp.up.weights, up_, width, bias(mlp.up)},
                                        Product{&mlp.gate.weights, gate_, width, bias(mlp.gate)}};
  multiply(x, std::span(products).first(mlp.is_gated() ? 2 : 1), scratch_, executor_);
  for_rows(width, [&](std::int64_t row) {
    float* up = up_ + row * width;
    if (mlp.is_gated()) {
      activate_gated(mlp.activation, gate_ + row * width, up, width, up);
    } else {
      activate(mlp.activation, up, width);
    }
  });
  project(up_, mlp.down, normed_);
}

void Blocks::project(const float* x, const Projection& projection, float* y) {
  const std::int64_t inputs = projection.weights.columns(), outputs = projection.weights.rows();
  const Product product{&projection.weights, y, outputs, projection.bias.empty() ? nullptr : projection.bias.data()};
  multiply({x, rows_, inputs, inputs}, {&product, 1}, scratch_, executor_);
}

/// What the first part of the first block reads.
void Blocks::enter(const Norm& norm) {
  const std::int64_t width = shape_.width;
  for_rows(width, [&](std::int64_t row) { normalise(norm, hidden_ + row * width, normed_ + row * width); });
}

/// Adds what a part gave to the residual; where norms come before the parts, the next part's input follows.
void Blocks::join(const Norm& norm, const Norm* next) {
  const std::int64_t width = shape_.width;
  for_rows(width, [&](std::int64_t row) {
    float *hidden = hidden_ + row * width, *given = normed_ + row * width;
    if (parts_.placement == NormPlacement::inside) normalise(norm, given, given);
    for (std::int64_t i = 0; i < width; ++i) hidden[i] += given[i];
    if (parts_.placement == NormPlacement::after) normalise(norm, hidden, hidden);
    if (next != nullptr) normalise(*next, hidden, given);
  });
}

}  // namespace tilewise::nn
