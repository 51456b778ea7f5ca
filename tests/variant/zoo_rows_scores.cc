#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "tests/variant/zoo_rows.h"

namespace tilewise {
namespace {

using P = const Point&;

/// ALiBi's published code (Press et al. 2022), list by list.
std::vector<double> alibi_slopes(int heads) {
  const double power = std::log2(heads);
  if (power == std::floor(power)) {
    const double start = std::pow(2.0, -std::pow(2.0, -(power - 3)));
    std::vector<double> slopes(1, start);
    while (static_cast<int>(slopes.size()) < heads) slopes.push_back(slopes.back() * start);
    return slopes;
  }
  const int closest = 1 << static_cast<int>(std::floor(power));
  std::vector<double> slopes = alibi_slopes(closest);
  const std::vector<double> twice = alibi_slopes(2 * closest);
  for (std::size_t i = 0; static_cast<int>(slopes.size()) < heads; i += 2) slopes.push_back(twice[i]);
  return slopes;
}

__extension__ using Wide = unsigned __int128;

/// base^exponent, exactly where it fits 128 bits, as the rows below see to.
Wide power(int base, int exponent) {
  Wide product = 1;
  for (int i = 0; i < exponent; ++i) product *= static_cast<unsigned>(base);
  return product;
}

/// Raffel et al. 2020, without logarithms: floor(log(d / e) / log(m / e) * w) is the largest k for which
/// (d / e)^w >= (m / e)^k, that is d^w >= m^k e^(w - k).
int t5_bucket(int relative_position, int buckets, int max_distance, bool bidirectional) {
  int bucket = 0, distance = 0;
  if (bidirectional) {
    buckets /= 2;
    bucket = relative_position > 0 ? buckets : 0;
    distance = std::abs(relative_position);
  } else {
    distance = std::max(-relative_position, 0);
  }
  const int exact = buckets / 2, wide = buckets - exact;
  if (distance < exact) return bucket + distance;
  if (distance >= max_distance) return bucket + buckets - 1;
  int k = 0;
  while (power(distance, wide) >= power(max_distance, k + 1) * power(exact, wide - k - 1)) ++k;
  return bucket + exact + k;
}

Row t5_row(int buckets, int max_distance, bool bidirectional, int length) {
  return {.call = "t5_buckets(" + std::to_string(buckets) + ", " + std::to_string(max_distance) + ", " +
                  std::to_string(bidirectional ? 1 : 0) + ")",
          .score =
              [=](double s, P p) {
                return s + noise({t5_bucket(p.key - p.query, buckets, max_distance, bidirectional), p.head});
              },
          .tables =
              [=](const Shape& of) {
                return std::vector<TableData>{{"bucket_bias", DType::float32, {buckets, of.h_q}}};
              },
          .shapes = {{.h_q = 2, .h_kv = 1, .s_q = 1, .s_kv = length},
                     {.s_q = length, .s_kv = 1, .query_offset = 0},
                     {.s_q = 9, .s_kv = 9}}};
}

/// Chi et al. 2023: the inner product of the sinusoidal embeddings of both positions, divided by the head's ratio.
double sandwich(int heads, int dimension, P p) {
  double product = 0;
  for (int i = 0; i < dimension / 2; ++i) {
    const double wavelength = std::pow(10000.0, 2.0 * i / dimension);
    product += std::sin(p.query / wavelength) * std::sin(p.key / wavelength) +
               std::cos(p.query / wavelength) * std::cos(p.key / wavelength);
  }
  const double compression_ratio = (p.head + 1) * 8.0 / heads;
  return product / compression_ratio;
}

std::vector<Row> analytic_rows() {
  std::vector<Row> rows;
  for (int heads : {1, 4, 6, 12, 16, 23}) {
    const auto slopes = alibi_slopes(heads);
    rows.push_back({.call = "alibi(" + std::to_string(heads) + ")",
                    .score =
                        [=](double s, P p) {
                          const auto slope = static_cast<float>(slopes[static_cast<std::size_t>(p.head)]);
                          return s + double{slope} * -std::abs(p.query - p.key);
                        },
                    .shapes = {{.h_q = heads, .h_kv = 1, .s_q = 5, .s_kv = 9},
                               {.h_q = heads, .h_kv = heads, .s_q = 6, .s_kv = 3}}});
  }
  rows.back().refuses = {{"alibi(0)", "heads is 0"}};
  for (const char* call : {"sandwich(4, 16)", "sandwich(4)"}) {
    const int dimension = std::string(call) == "sandwich(4)" ? 128 : 16;
    rows.push_back({.call = call, .score = [=](double s, P p) { return s + sandwich(4, dimension, p); }});
  }
  rows.back().refuses = {{"sandwich(0)", "heads is 0"},
                         {"sandwich(4, 15)", "dimension is 15, expected an even number"}};
  rows.push_back({.call = "softcap(30)", .score = [](double s, P) { return 30 * std::tanh(s / 30); }});
  rows.push_back({.call = "softcap(0.5)", .score = [](double s, P) { return 0.5 * std::tanh(2 * s); }});
  rows.back().refuses = {{"softcap(0)", "cap is 0"}, {"softcap(-30)", "cap is -30"}};
  rows.push_back({.call = "temperature(0.7)", .score = [](double s, P) { return s / 0.7; }});
  rows.back().refuses = {{"temperature(0)", "temperature is 0"}};
  // Su 2021, Qwen 2023: log_n(m) for the m-th position beyond the n trained ones, else 1.
  rows.push_back({.call = "log_n_scaling(4)", .score = [](double s, P p) {
                    const int number = p.query + 1;
                    return number > 4 ? s * std::log(number) / std::log(4) : s;
                  }});
  rows.back().refuses = {{"log_n_scaling(1)", "trained_length is 1"}};
  // Llama 4: log(floor((position + 1) / floor_scale) + 1) * attn_scale + 1, times the query.
  rows.push_back({.call = "llama4_temperature(3, 0.25)",
                  .score = [](double s, P p) { return (std::log(std::floor((p.query + 1.0) / 3) + 1) * 0.25 + 1) * s; },
                  .refuses = {{"llama4_temperature(0)", "span is 0"}, {"llama4_temperature(8, 0)", "gain is 0"}}});
  return rows;
}

std::vector<Row> bound_rows() {
  std::vector<Row> rows;
  const auto table = [](std::string name, auto extents) {
    return [=](const Shape& of) { return std::vector<TableData>{{name, DType::float32, extents(of)}}; };
  };
  using Extents = std::vector<std::int64_t>;

  rows.push_back(t5_row(32, 128, true, 140));
  rows.push_back(t5_row(32, 128, false, 140));
  rows.push_back(t5_row(8, 20, true, 30));
  rows.push_back(t5_row(4, 3, true, 9));
  rows.push_back(t5_row(2, 64, false, 70));
  rows.back().refuses = {{"t5_buckets(0)", "buckets is 0"},
                         {"t5_buckets(6, 128, 1)", "buckets is 6, expected a multiple of 4"},
                         {"t5_buckets(32, 8, 1)", "max_distance is 8, expected 9 to"},
                         {"t5_buckets(32, 128, 2)", "bidirectional is 2, expected 0 or 1"}};
  rows.push_back({.call = "relative_position(3)",
                  .score =
                      [](double s, P p) {
                        return s + noise({p.head, std::clamp(p.key - p.query, -3, 3) + 3});
                      },
                  .tables = table("distance_bias", [](const Shape& of) {
                    return Extents{of.h_q, 7};
                  })});
  rows.push_back({.call = "relative_position(0)",
                  .score =
                      [](double s, P p) {
                        return s + noise({p.head, 0});
                      },
                  .tables = table("distance_bias", [](const Shape& of) {
                    return Extents{of.h_q, 1};
                  })});
  rows.back().refuses = {{"relative_position(-1)", "max_distance is -1"}};
  rows.push_back({.call = "learned_bias()",
                  .score =
                      [](double s, P p) {
                        return s + noise({p.head, p.query, p.key});
                      },
                  .tables = table("bias",
                                  [](const Shape& of) {
                                    return Extents{of.h_q, 40, 40};
                                  }),
                  .shapes = {{.h_q = 2, .h_kv = 1, .s_q = 7, .s_kv = 7},
                             {.s_q = 3, .s_kv = 11},
                             {.s_q = 5, .s_kv = 4, .query_offset = 20, .key_offset = 30}}});
  for (int rank : {3, 4}) {
    rows.push_back({.call = "pair_bias(" + std::to_string(rank) + ")",
                    .score =
                        [=](double s, P p) {
                          return s + (rank == 3 ? noise({p.head, p.query_index, p.key_index})
                                                : noise({p.batch, p.head, p.query_index, p.key_index}));
                        },
                    .tables = table("pair", [=](const Shape& of) {
                      return rank == 3 ? Extents{of.h_q, of.s_q, of.s_kv} : Extents{of.b, of.h_q, of.s_q, of.s_kv};
                    })});
  }
  rows.back().refuses = {{"pair_bias(2)", "rank is 2, expected 3 to 4"}};
  rows.push_back({.call = "dense_bias()",
                  .score =
                      [](double s, P p) {
                        return s + noise({p.query_index, p.key_index});
                      },
                  .tables = table("addend", [](const Shape& of) {
                    return Extents{of.s_q, of.s_kv};
                  })});
  rows.push_back({.call = "dense_bias(4)",
                  .score =
                      [](double s, P p) {
                        return s + noise({p.batch, p.head, p.query_index, p.key_index});
                      },
                  .tables = table("addend", [](const Shape& of) {
                    return Extents{of.b, of.h_q, of.s_q, of.s_kv};
                  })});
  rows.back().refuses = {{"dense_bias(1)", "rank is 1"}};
  rows.push_back({.call = "attention_sink()",
                  .sink = [](P p) { return noise({p.head}); },
                  .tables = table("sink_logit", [](const Shape& of) { return Extents{of.h_q}; })});
  return rows;
}

}  // namespace

std::vector<Row> score_rows() {
  std::vector<Row> rows = analytic_rows();
  const std::vector<Row> bound = bound_rows();
  rows.insert(rows.end(), bound.begin(), bound.end());
  return rows;
}

}  // namespace tilewise
