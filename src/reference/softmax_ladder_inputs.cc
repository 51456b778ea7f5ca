#include <cmath>

#include "core/fail.h"
#include "core/philox.h"
#include "tilewise/softmax_ladder.h"

namespace tilewise {
namespace {

/// `count` numbers uniform in [-1, 1), multiples of 2^-23 so that they are exact, times `factor`. Each `stream` under a
/// seed is a sequence of its own.
std::vector<float> uniform_numbers(std::int64_t count, double factor, std::uint64_t seed, std::uint32_t stream) {
  const PhiloxKey key{static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
  std::vector<float> numbers(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    const std::uint64_t block = i / 4;
    const auto words =
        philox4x32({static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), stream, 0}, key);
    numbers[i] = static_cast<float>(factor * ((words[i % 4] >> 8) * 0x1p-23 - 1));
  }
  return numbers;
}

void check_extent(const char* name, std::int64_t extent) {
  if (extent < 0) fail_argument("{} is {}; expected 0 or more", name, extent);
}

}  // namespace

LadderProblem LadderInputs::problem() const {
  return {.q = ConstTensor(q.data(), DType::float32, {s_q, d_qk}),
          .k = ConstTensor(k.data(), DType::float32, {s_kv, d_qk}),
          .v = ConstTensor(v.data(), DType::float32, {s_kv, d_v})};
}

LadderInputs random_ladder_inputs(std::int64_t s_q, std::int64_t s_kv, std::int64_t d_qk, std::int64_t d_v,
                                  double score_deviation, std::uint64_t seed) {
  check_extent("s_q", s_q);
  check_extent("s_kv", s_kv);
  check_extent("d_qk", d_qk);
  check_extent("d_v", d_v);
  if (!(score_deviation >= 0) || !std::isfinite(score_deviation)) {
    fail_argument("score_deviation is {}; expected a finite number of 0 or more", score_deviation);
  }
  // A number uniform in [-1, 1) has variance 1/3, so a score, d_qk products of two, has variance d_qk / 9.
  const double q_factor = d_qk > 0 ? 3 * score_deviation / std::sqrt(static_cast<double>(d_qk)) : 0;
  return {.s_q = s_q,
          .s_kv = s_kv,
          .d_qk = d_qk,
          .d_v = d_v,
          .q = uniform_numbers(s_q * d_qk, q_factor, seed, 0),
          .k = uniform_numbers(s_kv * d_qk, 1, seed, 1),
          .v = uniform_numbers(s_kv * d_v, 1, seed, 2)};
}

}  // namespace tilewise
