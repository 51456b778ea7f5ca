// Small transformers of random weights, and what they compute, by plain formulas in float64.
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <numbers>
#include <random>
#include <span>
#include <vector>

#include "nn/parts.h"
#include "tilewise/zoo.h"

namespace tilewise::nn {

using Row = std::vector<double>;
using Matrix = std::vector<Row>;

/// What a small model is like.
struct SmallModel {
  TransformerShape shape{.layers = 2,
                         .width = 24,
                         .h_q = 4,
                         .h_kv = 2,
                         .d_qk = 8,
                         .d_v = 6,
                         .mlp = 40,
                         .vocabulary = 50,
                         .context = 64,
                         .is_rotary = true};
  NormPlacement placement = NormPlacement::before;
  NormKind norm = NormKind::rms;
  Activation activation = Activation::silu;
  bool is_gated = true;
  bool has_biases = false;
  Pairing pairing = Pairing::halves;
  std::int64_t rotated = 8;  // elements of a head
  bool has_learned_positions = false;
  bool has_sinusoidal_positions = false;
  Variant variant = zoo::causal();
  std::function<bool(std::int64_t, std::int64_t)> keeps = [](std::int64_t query, std::int64_t key) {
    return key <= query;
  };  // the same as `variant`
  unsigned seed = 1;
};

/// Float weights: the model's, and the same in float64.
class SmallWeights {
 public:
  explicit SmallWeights(unsigned seed) : random_(seed) {}

  Linear matrix(std::int64_t rows, std::int64_t columns) {
    auto values = std::make_shared<std::vector<float>>(static_cast<std::size_t>(rows * columns));
    std::normal_distribution<float> normal(0, 1 / std::sqrt(static_cast<float>(columns)));
    for (float& value : *values) value = normal(random_);
    owners.push_back(values);
    return {{WeightKind::float32, rows, columns, reinterpret_cast<const std::byte*>(values->data())},
            Precision::precise};
  }

  std::vector<float> vector(std::int64_t count, float mean) {
    std::vector<float> values(static_cast<std::size_t>(count));
    std::normal_distribution<float> normal(mean, 0.2F);
    for (float& value : values) value = normal(random_);
    return values;
  }

  std::vector<std::shared_ptr<const void>> owners;

 private:
  std::mt19937 random_;
};

inline std::unique_ptr<Transformer::Parts> parts_of(const SmallModel& m) {
  SmallWeights weights(m.seed);
  const TransformerShape& s = m.shape;
  auto parts = std::make_unique<Transformer::Parts>();
  parts->shape = s;
  parts->variant = m.variant;
  parts->placement = m.placement;
  const auto norm = [&] {
    return Norm{m.norm, 1e-5F, weights.vector(s.width, 1),
                m.norm == NormKind::layer ? weights.vector(s.width, 0) : std::vector<float>{}};
  };
  const auto projection = [&](std::int64_t outputs, std::int64_t inputs) {
    return Projection{weights.matrix(outputs, inputs),
                      m.has_biases ? weights.vector(outputs, 0) : std::vector<float>{}};
  };
  parts->embedding = weights.matrix(s.vocabulary, s.width);
  if (m.has_learned_positions) parts->positions = weights.matrix(s.context, s.width);
  parts->has_sinusoidal_positions = m.has_sinusoidal_positions;
  if (s.is_rotary) parts->rotary = make_rotary(m.pairing, m.rotated, 100, {});
  if (s.is_encoder) {
    parts->added = weights.vector(s.width, 0);
    parts->embedding_norm = norm();
  }
  for (std::int64_t i = 0; i < s.layers; ++i) {
    parts->blocks.push_back({norm(),
                             {projection(s.h_q * s.d_qk, s.width), projection(s.h_kv * s.d_qk, s.width),
                              projection(s.h_kv * s.d_v, s.width), projection(s.width, s.h_q * s.d_v)},
                             norm(),
                             {m.activation, m.is_gated ? projection(s.mlp, s.width) : Projection{},
                              projection(s.mlp, s.width), projection(s.width, s.mlp)}});
  }
  if (!s.is_encoder) {
    parts->last_norm = norm();
    parts->logits = weights.matrix(s.vocabulary, s.width);
  }
  parts->owners = std::move(weights.owners);
  return parts;
}

inline std::shared_ptr<const Transformer> transformer_of(const SmallModel& m) {
  return std::make_shared<const Transformer>(parts_of(m));
}

inline std::vector<std::int32_t> some_tokens(std::int64_t count, const TransformerShape& shape, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_int_distribution<std::int32_t> token(0, static_cast<std::int32_t>(shape.vocabulary) - 1);
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(count));
  for (std::int32_t& each : tokens) each = token(random);
  return tokens;
}

/// The definitions, once more, in float64 and one element at a time.
class Definition {
 public:
  explicit Definition(const SmallModel& m) : m_(m), parts_(parts_of(m)) {}

  /// Hidden states of tokens at positions from 0 on, after the last norm.
  Matrix hidden(std::span<const std::int32_t> tokens) const {
    Matrix x;
    for (std::size_t i = 0; i < tokens.size(); ++i) x.push_back(embedded(tokens[i], static_cast<std::int64_t>(i)));
    for (const BlockPart& block : parts_->blocks) {
      add(x, block.attention_norm, [&](const Matrix& rows) { return attention(block.attention, rows); });
      add(x, block.mlp_norm, [&](const Matrix& rows) {
        Matrix y;
        for (const Row& row : rows) y.push_back(mlp(block.mlp, row));
        return y;
      });
    }
    if (!parts_->last_norm) return x;
    for (Row& row : x) row = normed(*parts_->last_norm, row);
    return x;
  }

  Matrix logits(std::span<const std::int32_t> tokens) const {
    Matrix y;
    for (const Row& row : hidden(tokens)) y.push_back(product({parts_->logits, {}}, row));
    return y;
  }

  static Row normed(const Norm& norm, const Row& x) {
    const auto n = static_cast<double>(x.size());
    double mean = 0, square = 0;
    if (norm.kind == NormKind::layer) {
      for (const double v : x) mean += v / n;
    }
    for (const double v : x) square += (v - mean) * (v - mean) / n;
    Row y(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      y[i] =
          (x[i] - mean) / std::sqrt(square + static_cast<double>(norm.epsilon)) * static_cast<double>(norm.weight[i]);
      if (!norm.bias.empty()) y[i] += static_cast<double>(norm.bias[i]);
    }
    return y;
  }

  static double activated(Activation f, double x) {
    switch (f) {
      case Activation::silu: return x / (1 + std::exp(-x));
      case Activation::gelu: return x / 2 * (1 + std::erf(x / std::numbers::sqrt2));
      case Activation::gelu_tanh:
        return x / 2 * (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
      case Activation::relu: return x > 0 ? x : 0;
    }
    return 0;
  }

 private:
  static Row row_of(const Linear& matrix, std::int64_t row) {
    std::vector<float> values(static_cast<std::size_t>(matrix.columns()));
    matrix.read_row(row, values.data());
    return {values.begin(), values.end()};
  }

  static Row product(const Projection& w, const Row& x) {
    Row y(static_cast<std::size_t>(w.weights.rows()));
    for (std::size_t r = 0; r < y.size(); ++r) {
      const Row weights = row_of(w.weights, static_cast<std::int64_t>(r));
      y[r] = w.bias.empty() ? 0 : static_cast<double>(w.bias[r]);
      for (std::size_t i = 0; i < x.size(); ++i) y[r] += weights[i] * x[i];
    }
    return y;
  }

  Row embedded(std::int32_t token, std::int64_t position) const {
    Row x = row_of(parts_->embedding, token);
    const auto width = static_cast<double>(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (!parts_->added.empty()) x[i] += static_cast<double>(parts_->added[i]);
      if (m_.has_learned_positions) x[i] += row_of(parts_->positions, position)[i];
      if (m_.has_sinusoidal_positions) {
        const double angle =
            static_cast<double>(position) * std::exp(-std::log(10000.0) * static_cast<double>(i / 2 * 2) / width);
        x[i] += i % 2 == 0 ? std::sin(angle) : std::cos(angle);
      }
    }
    return parts_->embedding_norm ? normed(*parts_->embedding_norm, x) : x;
  }

  template <class Part>
  void add(Matrix& x, const Norm& norm, const Part& part) const {
    Matrix given = x;
    if (m_.placement == NormPlacement::before) {
      for (Row& row : given) row = normed(norm, row);
    }
    given = part(given);
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (m_.placement == NormPlacement::inside) given[i] = normed(norm, given[i]);
      for (std::size_t j = 0; j < x[i].size(); ++j) x[i][j] += given[i][j];
      if (m_.placement == NormPlacement::after) x[i] = normed(norm, x[i]);
    }
  }

  Row mlp(const MlpPart& part, const Row& x) const {
    Row up = product(part.up, x);
    const Row gate = m_.is_gated ? product(part.gate, x) : Row{};
    for (std::size_t i = 0; i < up.size(); ++i)
      up[i] = m_.is_gated ? activated(part.activation, gate[i]) * up[i] : activated(part.activation, up[i]);
    return product(part.down, up);
  }

  /// Turns a head's row by its position: as complex numbers.
  void turn(double* head, std::size_t position) const {
    const auto d = static_cast<std::size_t>(m_.rotated);
    for (std::size_t i = 0; i < d / 2; ++i) {
      const std::size_t a = m_.pairing == Pairing::halves ? i : 2 * i;
      const std::size_t b = m_.pairing == Pairing::halves ? i + d / 2 : 2 * i + 1;
      const double angle =
          static_cast<double>(position) * std::pow(100.0, -2.0 * static_cast<double>(i) / static_cast<double>(d));
      const double x = head[a], y = head[b];
      head[a] = std::cos(angle) * x - std::sin(angle) * y;
      head[b] = std::sin(angle) * x + std::cos(angle) * y;
    }
  }

  Matrix attention(const AttentionPart& part, const Matrix& x) const {
    const auto h_q = static_cast<std::size_t>(m_.shape.h_q), h_kv = static_cast<std::size_t>(m_.shape.h_kv);
    const auto d_qk = static_cast<std::size_t>(m_.shape.d_qk), d_v = static_cast<std::size_t>(m_.shape.d_v);
    Matrix q, k, v, y;
    for (std::size_t i = 0; i < x.size(); ++i) {
      q.push_back(product(part.q, x[i]));
      k.push_back(product(part.k, x[i]));
      v.push_back(product(part.v, x[i]));
      if (!m_.shape.is_rotary) continue;
      for (std::size_t head = 0; head < h_q; ++head) turn(&q[i][head * d_qk], i);
      for (std::size_t head = 0; head < h_kv; ++head) turn(&k[i][head * d_qk], i);
    }
    for (std::size_t i = 0; i < x.size(); ++i) {
      Row o(h_q * d_v);
      for (std::size_t head = 0; head < h_q; ++head) {
        const std::size_t kv_head = head / (h_q / h_kv);
        double sum = 0;
        Row weights(x.size());
        for (std::size_t j = 0; j < x.size(); ++j) {
          if (!m_.keeps(static_cast<std::int64_t>(i), static_cast<std::int64_t>(j))) continue;
          double score = 0;
          for (std::size_t d = 0; d < d_qk; ++d) score += q[i][head * d_qk + d] * k[j][kv_head * d_qk + d];
          weights[j] = std::exp(score / std::sqrt(static_cast<double>(d_qk)));
          sum += weights[j];
        }
        for (std::size_t j = 0; j < x.size(); ++j) {
          for (std::size_t d = 0; d < d_v; ++d) o[head * d_v + d] += weights[j] / sum * v[j][kv_head * d_v + d];
        }
      }
      y.push_back(product(part.out, o));
    }
    return y;
  }

  SmallModel m_;
  std::unique_ptr<Transformer::Parts> parts_;
};

}  // namespace tilewise::nn
