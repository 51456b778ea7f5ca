#include "tilewise/traffic.h"

#include <algorithm>

#include "core/fail.h"
#include "tiles/counts.h"

namespace tilewise {
namespace {

constexpr std::int64_t kStatisticBytes = 4;  // maxima, sums and lse are float32

void expect_shape(const AttentionShape& shape) {
  if (shape.d_qk < 1 || shape.d_v < 1) {
    fail_argument("shape: d_qk is {} and d_v is {}, expected both at least 1", shape.d_qk, shape.d_v);
  }
}

double real(std::int64_t number) { return static_cast<double>(number); }

/// Algorithm 1 for one query head of one sequence.
Traffic algorithm_1(const Sequence& sequence, const AttentionShape& shape, std::int64_t fast_memory) {
  const std::int64_t element = size_of(shape.dtype), widest = std::max(shape.d_qk, shape.d_v);
  const std::int64_t tile_keys = std::max<std::int64_t>(1, fast_memory / element / (4 * widest));
  const double passes = real((sequence.s_kv + tile_keys - 1) / tile_keys);
  const double statistics = real(2 * sequence.s_q * kStatisticBytes), o = real(sequence.s_q * shape.d_v * element);
  const double q = real(sequence.s_q * shape.d_qk * element),
               kv = real(sequence.s_kv * (shape.d_qk + shape.d_v) * element);
  return {kv + passes * (q + o + statistics), passes * (o + statistics)};
}

/// Adds the traffic of `heads` alike heads.
void add(Traffic& sum, const Traffic& head, std::int64_t heads = 1) {
  sum.bytes_read += real(heads) * head.bytes_read;
  sum.bytes_written += real(heads) * head.bytes_written;
}

}  // namespace

Traffic standard_traffic(const Problem& problem, const AttentionShape& shape) {
  problem.validate();
  expect_shape(shape);
  const double element = real(size_of(shape.dtype));
  Traffic sum;
  for (const Sequence& sequence : problem.sequences) {
    const double scores = real(sequence.s_q) * real(sequence.s_kv);
    const double inputs = real(sequence.s_q * shape.d_qk + sequence.s_kv * (shape.d_qk + shape.d_v));
    add(sum, {(inputs + 2 * scores) * element, (2 * scores + real(sequence.s_q * shape.d_v)) * element}, problem.h_q);
  }
  return sum;
}

Traffic tiled_traffic(const Variant& variant, const Bindings& bindings, const Problem& problem,
                      const AttentionShape& shape, TileSizes tile) {
  expect_shape(shape);
  const std::int64_t element = size_of(shape.dtype);
  tiles::Classifier classifier(variant, bindings, problem);
  Traffic sum;
  for (std::int64_t i = 0; i < problem.b(); ++i) {
    const Sequence& sequence = problem.sequences[static_cast<std::size_t>(i)];
    for (std::int64_t head = 0; head < problem.h_q; ++head) {
      const TileMap map = tiles::map_of(classifier, tile, i, head);
      std::int64_t keys_read = 0;
      for (std::int64_t column = 0; column < map.columns; ++column) {
        const std::int64_t keys = std::min(tile.keys, sequence.s_kv - column * tile.keys);
        keys_read += keys * map.kept_in_column[static_cast<std::size_t>(column)];
      }
      add(sum, {real(sequence.s_q * shape.d_qk * element) + real(keys_read) * real((shape.d_qk + shape.d_v) * element),
                real(sequence.s_q * (shape.d_v * element + kStatisticBytes))});
    }
  }
  return sum;
}

std::vector<TrafficLawPoint> traffic_law(const Problem& problem, const AttentionShape& shape) {
  problem.validate();
  expect_shape(shape);
  const double element = real(size_of(shape.dtype)), d = real(shape.d_qk + shape.d_v) / 2;
  std::vector<TrafficLawPoint> points;
  for (std::int64_t fast_memory = std::int64_t{16} << 10; fast_memory <= std::int64_t{16} << 20; fast_memory *= 4) {
    TrafficLawPoint point{.fast_memory = fast_memory, .tiled = {}, .law = 0};
    for (const Sequence& sequence : problem.sequences) {
      add(point.tiled, algorithm_1(sequence, shape, fast_memory), problem.h_q);
      const double entries = real(problem.h_q) * real(sequence.s_q) * real(sequence.s_kv);
      point.law += entries * d * d / (real(fast_memory) / element) * element;
    }
    points.push_back(point);
  }
  return points;
}

}  // namespace tilewise
