// Which entries of a tile stay (device/stays.h), on this processor: what a warp finds out along diagonals against each
// entry by itself.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <random>
#include <vector>

#include "cuda/launch/kernel_text.h"
#include "tests/cuda/emulated/kernel.h"

namespace tilewise::cuda::testing {
namespace {

constexpr const char* kSource = R"cuda(#include "stays.h"

struct StaysCall {{
  const int* kept;  // [16 + kKeys - 1], by key - query + 15
  int* stay;        // [32, kKeys / 8, 4]
  int begin, end;
}};

extern "C" __global__ void __launch_bounds__(32) look_up(const __grid_constant__ StaysCall call) {{
  constexpr int kKeys = {};
  const int lane = threadIdx.x;
  auto stays = tilewise::cuda::stays_along_diagonals<kKeys>(
      lane, [&](int query, int key) {{ return call.kept[key - query + 15] != 0; }});
  stays.remove_outside(lane, call.begin, call.end);
  for (int j = 0; j < kKeys / 8; ++j) {{
    for (int e = 0; e < 4; ++e) call.stay[(lane * (kKeys / 8) + j) * 4 + e] = stays.keeps(j, e);
  }}
}}
extern "C" __global__ void __launch_bounds__(32) set(const __grid_constant__ StaysCall call) {{
  constexpr int kKeys = {};
  const int lane = threadIdx.x;
  tilewise::cuda::Stays<kKeys> stays{{}};
  for (int j = 0; j < kKeys / 8; ++j) {{
    if (j % 3 == 0) stays.set(j);
    for (int e = 0; e < 4; ++e) stays.set(j, e, call.kept[j] != 0 && e != j % 4);
  }}
  for (int half = 0; half < 2; ++half) {{
    if (call.begin == half) stays.remove_row(half);
  }}
  for (int j = 0; j < kKeys / 8; ++j) {{
    for (int e = 0; e < 4; ++e) call.stay[(lane * (kKeys / 8) + j) * 4 + e] = stays.keeps(j, e);
  }}
}}
)cuda";

struct StaysCall {
  const int* kept;
  int* stay;
  int begin, end;
};

EmulatedProgram program_of(int keys) {
  jit::Program program;
  program.name = "stays.cu";
  program.source = fmt::format(kSource, keys, keys);
  program.headers = device_headers();
  program.kernels = {"look_up", "set"};
  return EmulatedProgram(program);
}

TEST(Stays, AlongDiagonalsAreThoseOfEachEntry) {
  const unsigned seed = 17;
  std::mt19937 random(seed);
  for (const int keys : {64, 80, 96, 112, 128}) {
    const EmulatedProgram program = program_of(keys);
    const auto blocks = static_cast<std::size_t>(keys) / 8;
    for (int round = 0; round < 12; ++round) {
      std::vector<int> kept(static_cast<std::size_t>(keys) + 15);
      for (int& one : kept) one = static_cast<int>(random() % 2);
      // Ranges that cut nothing, one end, both, and all.
      const std::array<std::array<int, 2>, 6> ranges{{{-5, keys + 9},
                                                      {0, keys},
                                                      {static_cast<int>(random() % 40), keys},
                                                      {0, 1 + static_cast<int>(random() % 70)},
                                                      {3, 37},
                                                      {-200, -64}}};
      const auto [begin, end] = ranges[static_cast<std::size_t>(round) % ranges.size()];
      std::vector<int> stay(32 * blocks * 4, -1);
      const StaysCall call{kept.data(), stay.data(), begin, end};
      ASSERT_TRUE(program.launch("look_up", {1, 1, 1}, 32, &call, nullptr));
      for (int i = 0; i < static_cast<int>(stay.size()); ++i) {
        const int e = i % 4, j = i / 4 % (keys / 8), lane = i / 4 / (keys / 8);
        const int query = lane / 4 + e / 2 * 8, key = 8 * j + lane % 4 * 2 + e % 2;
        const bool expected = kept[static_cast<std::size_t>(key - query + 15)] != 0 && key >= begin && key < end;
        ASSERT_EQ(stay[static_cast<std::size_t>(i)], expected) << keys << " keys, query " << query << ", key " << key
                                                               << ", [" << begin << ", " << end << "), seed " << seed;
      }
    }
  }
}

TEST(Stays, AreWhatWasSet) {
  for (const int keys : {64, 112, 128}) {
    const EmulatedProgram program = program_of(keys);
    const auto blocks = static_cast<std::size_t>(keys) / 8;
    std::vector<int> kept(static_cast<std::size_t>(keys) + 15), stay(32 * blocks * 4, -1);
    for (std::size_t i = 0; i < kept.size(); ++i) kept[i] = i % 5 < 3 ? 1 : 0;
    for (const int removed : {-1, 0, 1}) {
      const StaysCall call{kept.data(), stay.data(), removed, 0};
      ASSERT_TRUE(program.launch("set", {1, 1, 1}, 32, &call, nullptr));
      for (std::size_t i = 0; i < stay.size(); ++i) {
        const std::size_t e = i % 4, j = i / 4 % blocks;
        const bool expected = (j % 3 == 0 || (kept[j] != 0 && e != j % 4)) && static_cast<int>(e / 2) != removed;
        ASSERT_EQ(stay[i], expected) << keys << " keys, block " << j << ", entry " << e << " without row " << removed;
      }
    }
  }
}

}  // namespace
}  // namespace tilewise::cuda::testing
