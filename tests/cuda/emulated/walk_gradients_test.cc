// What the backward kernels for compute capability 9.0 sum up for tables and parameters (device/walk_gradients.h), on
// this processor: a warpgroup of 64 keys walks over tiles of queries whose derivatives are given.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <random>
#include <utility>
#include <vector>

#include "cuda/device/arguments.h"
#include "cuda/launch/kernel_text.h"
#include "tests/cuda/emulated/kernel.h"
#include "tilewise/tiles.h"
#include "variant/bindings.h"
#include "variant/graph.h"

namespace tilewise::cuda::testing {
namespace {

constexpr const char* kSource = R"cuda(#include "variant.h"
#include "walk_gradients.h"

namespace tilewise::cuda {
struct WalkCall {
  const float *scores, *d_scores;  // [queries, 64]
  GradientSums gradients;
  SequenceShape shape;
  int heads;
};
}  // namespace tilewise::cuda

extern "C" __global__ void __launch_bounds__(128)
    walk(const __grid_constant__ tilewise::cuda::WalkCall call, const __grid_constant__ variant::Arguments bound) {
  using namespace tilewise::cuda;
  using Recorded = KernelVariant::Recorded;
  using Walk = WalkGradients<Recorded, kIsOrdered>;
  extern __shared__ __align__(1024) unsigned char shared[];
  Walk& sums = *reinterpret_cast<Walk*>(shared);
  const auto& arguments = reinterpret_cast<const Recorded::Arguments&>(bound);
  const int thread = threadIdx.x, lane = thread % 32, row = thread / 32 * 16;
  const int first_key = 64 * blockIdx.x;
  sums.begin(thread);
  for (int head = 0; head < call.heads; ++head) {
    __syncthreads();
    sums.begin_head(Recorded::place_of(arguments, call.shape, 0, head, head, 1), thread);
    __syncthreads();
    for (int tile = 0; tile < call.shape.queries / 64; ++tile) {
      const int first_query = 64 * tile;
      sums.look_up(call.gradients, arguments, tile % 2, first_query, first_key, thread);
      __syncthreads();
      EntryGradients<Recorded, kIsOrdered> numbers(call.gradients);
      for (int j = 0; j < 8; ++j) {
        for (int e = 0; e < 4; ++e) {
          const int query = first_query + 8 * j + lane % 4 * 2 + e % 2, key = first_key + row + lane / 4 + e / 2 * 8;
          const int entry = query * call.shape.keys + key;
          numbers.enter(j, e);
          Recorded::add_gradients<false>(arguments, sums.place(), Recorded::query_values(arguments, sums.place(), query),
                                         Recorded::key_values(arguments, sums.place(), key), query, key,
                                         call.scores[entry], call.d_scores[entry], numbers);
        }
      }
      sums.add(call.gradients, arguments, numbers, tile % 2, first_query, first_key + row, thread);
    }
    sums.end_head(call.gradients, arguments, first_key + row, thread);
  }
}
)cuda";

struct WalkCall {
  const float *scores, *d_scores;
  GradientSums gradients;
  SequenceShape shape;
  int heads;
};

constexpr int kQueries = 512, kKeys = 128, kHeads = 2;

/// What an entry adds to a table's or a parameter's element.
struct Addition {
  int element;
  double value;
};
using Additions = std::function<Addition(int head, int query, int key, double score, double d_score)>;

class WalkGradientsTest : public ::testing::Test {
 protected:
  /// `tables` and `parameters`: what entries add to them. By additions in float32, and in fixed point, by two passes.
  void expect_sums(const Variant& variant, const std::vector<std::pair<Table, Additions>>& tables,
                   const std::vector<std::pair<Parameter, Additions>>& parameters) {
    constexpr int kEntries = kQueries * kKeys;
    std::mt19937 random(11);
    std::normal_distribution<float> normal;
    std::vector<float> scores(kEntries), d_scores(kEntries);
    for (float& x : scores) x = normal(random);
    for (float& x : d_scores) x = normal(random);

    const Problem problem = Problem::uniform(1, kHeads, kHeads, kQueries, kKeys);
    const auto extents = fitting_extents(variant, problem);
    std::vector<std::vector<float>> data;
    Bindings bindings;
    for (std::size_t i = 0; i < variant.tables().size(); ++i) {
      std::size_t elements = 1;
      for (const std::int64_t extent : extents[i]) elements *= static_cast<std::size_t>(extent);
      data.emplace_back(elements, 1.0F);
    }
    for (std::size_t i = 0; i < data.size(); ++i)
      bindings.tables.push_back({variant.tables()[i], ConstTensor(data[i].data(), DType::float32, extents[i])});
    for (const Parameter& parameter : variant.parameters()) bindings.parameters.push_back({parameter, 1.0});
    const variant::Graph& graph = variant.data().graph;
    const auto bound =
        variant::pack_arguments(graph, variant::bind(graph, bindings), variant::cuda_text(variant).layout);

    std::vector<Additions> all(data.size() + variant.parameters().size());
    for (const auto& [table, additions] : tables)
      all[static_cast<std::size_t>(std::ranges::find(variant.tables(), table) - variant.tables().begin())] = additions;
    for (const auto& [parameter, additions] : parameters) {
      const auto number = std::ranges::find(variant.parameters(), parameter) - variant.parameters().begin();
      all[data.size() + static_cast<std::size_t>(number)] = additions;
    }
    std::vector<std::vector<double>> exact, magnitude;  // [numbers]
    for (std::size_t i = 0; i < all.size(); ++i) {
      const std::size_t elements = i < data.size() ? data[i].size() : 1;
      exact.emplace_back(elements), magnitude.emplace_back(elements);
      for (int head = 0; head < kHeads; ++head) {
        for (int entry = 0; entry < kEntries; ++entry) {
          const auto at = static_cast<std::size_t>(entry);
          const Addition one = all[i](head, entry / kKeys, entry % kKeys, scores[at], d_scores[at]);
          const auto n = static_cast<std::size_t>(one.element);
          exact[i][n] += one.value, magnitude[i][n] += std::abs(one.value);
        }
      }
    }
    for (const bool is_ordered : {false, true}) {
      const std::vector<double> found =
          sums_of(variant, exact, {scores.data(), d_scores.data(), {}, {}, kHeads}, bound, is_ordered);
      auto next = found.begin();
      for (std::size_t i = 0; i < all.size(); ++i) {
        // As many float32 additions one behind the other as a number has: a lane's 8 x 32 of a walk, and those of
        // warps.
        for (std::size_t n = 0; n < exact[i].size(); ++n) {
          ASSERT_NEAR(*next++, exact[i][n], 1024 * 0x1p-24 * magnitude[i][n])
              << "number " << i << ", element " << n << (is_ordered ? ", in fixed point" : "");
        }
      }
    }
  }

 private:
  /// All sums, one behind the other, as the program makes them.
  std::vector<double> sums_of(const Variant& variant, const std::vector<std::vector<double>>& like, WalkCall call,
                              const std::vector<std::byte>& bound, bool is_ordered) {
    std::size_t elements = 0;
    for (const auto& one : like) elements += one.size();
    std::vector<float> sums(elements);
    std::vector<unsigned> largest(elements);
    std::vector<long long> fixed(elements);
    call.shape.queries = kQueries, call.shape.keys = kKeys;
    call.gradients.first = sums.data(), call.gradients.largest = largest.data(), call.gradients.fixed = fixed.data();
    float* next = sums.data();
    for (std::size_t i = 0; i < like.size(); next += like[i++].size()) {
      if (i < variant.tables().size()) {
        call.gradients.tables[i] = next;
      } else {
        call.gradients.parameters[i - variant.tables().size()] = next;
      }
    }
    jit::Program program;
    program.name = "walk.cu", program.kernels = {"walk"};
    program.source = fmt::format("constexpr bool kIsOrdered = {};\n{}", is_ordered, kSource);
    program.headers = device_headers();
    program.headers.push_back(gradients_header(variant, kernel_text(variant, DType::bfloat16, true)));
    const EmulatedProgram walk(program);
    const auto run = [&](int pass) {
      call.gradients.pass = pass;
      EXPECT_TRUE(walk.launch("walk", {kKeys / 64, 1, 1}, 128, &call, bound.data()));
    };
    if (!is_ordered) {
      run(GradientSums::kAtomics);
      return {sums.begin(), sums.end()};
    }
    run(GradientSums::kFindLargest);
    run(GradientSums::kAddFixed);
    std::vector<double> found;
    // A unit is 2^-31 of the power of two above the largest magnitude.
    for (std::size_t i = 0; i < elements; ++i)
      found.push_back(std::ldexp(static_cast<double>(fixed[i]), static_cast<int>(largest[i] >> 23) - 127 + 1 - 31));
    return found;
  }
};

TEST_F(WalkGradientsTest, OneTableOfEachClass) {
  const Table by_distance("by_distance", DType::float32, 2), by_key("by_key", DType::float32, 2),
      by_query("by_query", DType::float32, 1), by_head("by_head", DType::float32, 1),
      by_entry("by_entry", DType::float32, 2);
  expect_sums(score([&](Expr s, const At& at) {
                return s + by_distance(at.head, at.query_index - at.key_index + kKeys) +
                       s * by_key(at.head, at.key_index) + by_query(at.query_index) + by_head(at.head) * s +
                       by_entry(at.query_index, at.key_index);
              }),
              {{by_distance,
                [](int head, int query, int key, double, double d) {
                  return Addition{head * (kQueries + kKeys) + query - key + kKeys, d};
                }},
               {by_key,
                [](int head, int, int key, double s, double d) {
                  return Addition{head * kKeys + key, s * d};
                }},
               {by_query,
                [](int, int query, int, double, double d) {
                  return Addition{query, d};
                }},
               {by_head,
                [](int head, int, int, double s, double d) {
                  return Addition{head, s * d};
                }},
               {by_entry,
                [](int, int query, int key, double, double d) {
                  return Addition{query * kKeys + key, d};
                }}},
              {});
}

// Most tiles have one element, first that of large negative distances, later that of large ones.
TEST_F(WalkGradientsTest, ClampedDistances) {
  const Table near("near", DType::float32, 2), far("far", DType::float32, 1);
  const Parameter gain("gain", 0.5, 2);
  expect_sums(score([&](Expr s, const At& at) {
                const Expr distance = at.query_index - at.key_index;
                return s * gain + near(at.head, min(max(distance, -20), 30) + 20) +
                       s * far(floor_divide(min(max(distance, 0), 300), 100));
              }),
              {{near,
                [](int head, int query, int key, double, double d) {
                  return Addition{head * 51 + std::clamp(query - key, -20, 30) + 20, d};
                }},
               {far,
                [](int, int query, int key, double s, double d) {
                  return Addition{std::clamp(query - key, 0, 300) / 100, s * d};
                }}},
              {{gain, [](int, int, int, double s, double d) {
                  return Addition{0, s * d};
                }}});
}

}  // namespace
}  // namespace tilewise::cuda::testing
