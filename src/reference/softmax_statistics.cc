#include "reference/softmax_statistics.h"

#include <algorithm>

namespace tilewise::reference {

void Statistics::add(Machine& machine, float weight, std::span<const float> v) {
  denominator() += weight;
  machine.add_scaled(numerator(), weight, v);
}

Statistics statistics_of(Machine& machine, std::span<const float> q, const Tile& k, const Tile& v) {
  Statistics part(machine, static_cast<std::int64_t>(v.row(0).size()));
  Tile scores(machine, 1, k.rows());
  for (std::int64_t key = 0; key < k.rows(); ++key) {
    const float score = machine.dot(q, k.row(key));
    scores.row(0)[static_cast<std::size_t>(key)] = score;
    part.maximum() = std::max(part.maximum(), score);
  }
  for (std::int64_t key = 0; key < k.rows(); ++key) {
    const float score = scores.row(0)[static_cast<std::size_t>(key)];
    part.add(machine, machine.exp(score - part.maximum()), v.row(key));
  }
  return part;
}

void merge(Machine& machine, Statistics& total, const Statistics& part) {
  const float maximum = std::max(total.maximum(), part.maximum());
  if (maximum == -std::numeric_limits<float>::infinity()) return;  // no keys on either side: nothing to scale by
  machine.scale(total.sums(), machine.exp(total.maximum() - maximum));
  machine.add_scaled(total.sums(), machine.exp(part.maximum() - maximum), part.sums());
  total.maximum() = maximum;
}

}  // namespace tilewise::reference
