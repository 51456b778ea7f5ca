// float8_e4m3 on a GPU of compute capability 9.0, held to float64 attention of the very codes and scales: no further
// from it than twice standard attention whose weights are rounded to float8_e4m3.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <optional>
#include <random>
#include <vector>

#include "core/element.h"
#include "core/float8.h"
#include "core/half.h"
#include "tests/gpu/with_hopper.h"
#include "tests/refusal.h"
#include "tilewise/attention.h"
#include "tilewise/float8.h"
#include "tilewise/reference.h"
#include "tilewise/zoo.h"

namespace tilewise::cuda::testing {
namespace {

struct Float8Case {
  std::string name;
  Variant variant;
  std::int64_t b = 1, h_q = 2, h_kv = 1, s_q = 1, s_kv = 1, d_qk = 128, d_v = 128;
  bool of_blocks = false;
  bool is_packed = false;             // lengths are `sequences`', one behind the other
  bool rises = false;                 // later keys have larger scores, block by block
  std::vector<Sequence> sequences{};  // with padded storage: shorter ones, offsets, key_start
  DType o_dtype = DType::bfloat16;
};

/// One of q, k and v: codes and scales on both sides.
struct Quantised {
  std::vector<std::uint8_t> codes;  // [b, s, h, d] or packed [tokens, h, d]
  std::vector<float> scales;        // [h] or [b, h, blocks]
  std::array<std::int64_t, 4> extents{}, strides{};
  std::vector<std::int64_t> scale_extents;
  int rank = 4;

  ConstTensor view(const void* data) const {
    const auto n = static_cast<std::size_t>(rank);
    return ConstTensor(data, DType::float8_e4m3, std::span(extents.data(), n), std::span(strides.data(), n));
  }
  ConstTensor scale_view(const void* data) const {
    return ConstTensor(data, DType::float32, std::span<const std::int64_t>(scale_extents));
  }
};

class Float8OnGpu : public WithHopper {
 protected:
  /// Random numbers as codes: normal ones, whose magnitude differs by rows so that blocks differ in their scales.
  static Quantised quantised(const Float8Case& given, std::int64_t heads, std::int64_t rows, std::int64_t d,
                             bool is_key, std::mt19937_64& random) {
    Quantised made;
    const std::int64_t b = given.is_packed ? 1 : given.b;
    std::vector<float> values(static_cast<std::size_t>(b * rows * heads * d));
    std::normal_distribution<float> normal;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto row = static_cast<std::int64_t>(i) / (heads * d) % rows;
      values[i] = normal(random) * (given.of_blocks ? std::exp2(static_cast<float>(row / 128 % 3) - 1) : 1.0f);
      if (given.rises && is_key) values[i] *= 1 + static_cast<float>(row) / 32;
    }
    made.codes.resize(values.size());
    made.rank = given.is_packed ? 3 : 4;
    if (given.is_packed) {
      made.extents = {heads, rows, d};
      made.strides = {d, heads * d, 1};
    } else {
      made.extents = {given.b, heads, rows, d};
      made.strides = {rows * heads * d, d, heads * d, 1};
    }
    const std::int64_t blocks = (rows + kScaleRows - 1) / kScaleRows;
    const auto n = static_cast<std::size_t>(made.rank);
    // A packed tensor's blocks are its sequences', which are not quantised together: any scales will do.
    if (given.of_blocks && given.is_packed) {
      std::uniform_real_distribution<float> scale(0.5f, 2);
      made.scale_extents = {static_cast<std::int64_t>(given.sequences.size()), heads, blocks};
      made.scales.resize(given.sequences.size() * static_cast<std::size_t>(heads * blocks));
      for (float& one : made.scales) one = scale(random);
      for (std::size_t i = 0; i < values.size(); ++i) made.codes[i] = Float8E4m3(values[i]).bits;
      return made;
    }
    made.scale_extents = given.of_blocks ? std::vector{given.b, heads, blocks} : std::vector{heads};
    made.scales.resize(static_cast<std::size_t>(given.of_blocks ? given.b * heads * blocks : heads));
    quantize_float8(ConstTensor(values.data(), DType::float32, std::span(made.extents.data(), n),
                                std::span(made.strides.data(), n)),
                    Tensor(made.codes.data(), DType::float8_e4m3, std::span(made.extents.data(), n),
                           std::span(made.strides.data(), n)),
                    Tensor(made.scales.data(), DType::float32, std::span<const std::int64_t>(made.scale_extents)));
    return made;
  }

  /// What v's scale of a key is.
  static float scale_of(const Quantised& tensor, std::int64_t sequence, std::int64_t head, std::int64_t row) {
    if (tensor.scale_extents.size() == 1) return tensor.scales[static_cast<std::size_t>(head)];
    const std::int64_t heads = tensor.scale_extents[1], blocks = tensor.scale_extents[2];
    return tensor.scales[static_cast<std::size_t>((sequence * heads + head) * blocks + row / kScaleRows)];
  }

  /// o of float64 attention, and of standard attention that rounds a row's weights times v's scales to float8_e4m3, and
  /// o to its dtype. Both from one pass of the reference, with unit vectors for v: its weights. The largest weight lies
  /// anywhere from 32 to 64 before it is rounded, as in an algorithm that has a row's largest score in the end only:
  /// always at 32, it would be exact, and rows that one key rules would have no error.
  struct Expected {
    std::vector<double> exact, standard;  // as o
    std::vector<double> lse;
  };
  static Expected expected_of(const Float8Case& given, const ForwardInputs& inputs, const Quantised& v,
                              const std::vector<Sequence>& sequences, std::int64_t q_rows) {
    const std::int64_t b = given.is_packed ? 1 : given.b, d_v = given.d_v, group = given.h_q / given.h_kv;
    Expected expected;
    expected.exact.assign(static_cast<std::size_t>(b * q_rows * given.h_q * d_v), std::nan(""));
    expected.standard = expected.exact;
    expected.lse.assign(static_cast<std::size_t>(b * given.h_q * q_rows), std::nan(""));
    // Values that pick out a key: weights [queries, keys].
    std::int64_t keys = 0;
    for (const Sequence& sequence : sequences) keys = std::max(keys, sequence.s_kv);
    const std::int64_t v_rows = v.extents[static_cast<std::size_t>(v.rank - 2)];
    std::vector<float> unit(static_cast<std::size_t>(v_rows * keys));
    std::vector<double> weights(static_cast<std::size_t>(b * q_rows * given.h_q * keys), std::nan(""));
    for (const Sequence& sequence : sequences) {
      for (std::int64_t key = 0; key < sequence.s_kv; ++key)
        unit[static_cast<std::size_t>((sequence.first_key_token + key) * keys + key)] = 1;
    }
    ForwardInputs with_units = inputs;
    with_units.v_scales.reset();
    const auto strided = [&](auto* data, DType dtype, std::int64_t heads, std::int64_t rows, std::int64_t d,
                             bool shared) {
      using Pointer = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(data)>>, const void*, void*>;
      std::vector<std::int64_t> extents{given.b, heads, rows, d}, strides{rows * heads * d, d, heads * d, 1};
      if (shared) strides = {0, 0, d, 1};
      if (given.is_packed) extents.erase(extents.begin()), strides.erase(strides.begin());
      return BasicTensor<Pointer>(data, dtype, std::span<const std::int64_t>(extents),
                                  std::span<const std::int64_t>(strides));
    };
    with_units.v = strided(static_cast<const float*>(unit.data()), DType::float32, given.h_kv, v_rows, keys, true);
    std::vector<std::int64_t> lse_extents{given.b, given.h_q, q_rows};
    if (given.is_packed) lse_extents.erase(lse_extents.begin());
    standard_attention(given.variant, with_units,
                       {.o = strided(weights.data(), DType::float64, given.h_q, q_rows, keys, false),
                        .lse = Tensor(expected.lse.data(), DType::float64, lse_extents)});
    for (std::size_t i = 0; i < sequences.size(); ++i) {
      const Sequence& sequence = sequences[i];
      const auto at = static_cast<std::int64_t>(i);
      for (std::int64_t query = 0; query < sequence.s_q; ++query) {
        for (std::int64_t head = 0; head < given.h_q; ++head) {
          const std::int64_t row =
              ((given.is_packed ? sequence.first_query_token : at * q_rows) + query) * given.h_q + head;
          const double* const of_row = weights.data() + row * keys;
          double largest = 0;
          for (std::int64_t key = 0; key < sequence.s_kv; ++key)
            largest = std::max(largest, of_row[key] * scale_of(v, at, head / group, key));
          const double peak = 32 * std::exp2(std::fmod(0.618 * static_cast<double>(row), 1.0));
          std::vector<double> exact(static_cast<std::size_t>(d_v)), standard = exact;
          for (std::int64_t key = sequence.key_start; key < sequence.s_kv; ++key) {
            const float scale = scale_of(v, at, head / group, key);
            const double rounded =
                largest == 0 ? 0
                             : static_cast<double>(Float8E4m3(of_row[key] * scale / largest * peak)) * largest / peak;
            const std::int64_t v_row = (given.is_packed ? sequence.first_key_token : at * v_rows) + key;
            for (std::int64_t column = 0; column < d_v; ++column) {
              const auto code = static_cast<double>(Float8E4m3::from_bits(
                  v.codes[static_cast<std::size_t>((v_row * given.h_kv + head / group) * d_v + column)]));
              exact[static_cast<std::size_t>(column)] += of_row[key] * scale * code;
              standard[static_cast<std::size_t>(column)] += rounded * code;
            }
          }
          for (std::int64_t column = 0; column < d_v; ++column) {
            const auto c = static_cast<std::size_t>(column), to = static_cast<std::size_t>(row * d_v + column);
            expected.exact[to] = exact[c];
            expected.standard[to] = given.o_dtype == DType::bfloat16 ? static_cast<double>(Bfloat16(standard[c]))
                                                                     : static_cast<double>(Float16(standard[c]));
          }
        }
      }
    }
    return expected;
  }

  void expect_right(const Float8Case& given) {
    SCOPED_TRACE(fmt::format("{}, b {}, heads {}/{}, s {}/{}, d {}/{}, scales of {}{}", given.name, given.b, given.h_q,
                             given.h_kv, given.s_q, given.s_kv, given.d_qk, given.d_v,
                             given.of_blocks ? "blocks" : "heads", given.is_packed ? ", packed" : ""));
    std::mt19937_64 random(static_cast<std::uint64_t>(given.s_q * 1000 + given.s_kv));
    std::vector<Sequence> sequences = given.sequences;
    if (sequences.empty()) sequences = Problem::uniform(given.b, 1, 1, given.s_q, given.s_kv).sequences;
    if (!given.is_packed)
      for (Sequence& sequence : sequences) sequence.first_query_token = sequence.first_key_token = 0;
    Quantised q = quantised(given, given.h_q, given.s_q, given.d_qk, false, random);
    Quantised k = quantised(given, given.h_kv, given.s_kv, given.d_qk, true, random);
    Quantised v = quantised(given, given.h_kv, given.s_kv, given.d_v, false, random);
    const auto inputs_at = [&](const auto& place) {
      ForwardInputs inputs{.q = q.view(place(q.codes)),
                           .k = k.view(place(k.codes)),
                           .v = v.view(place(v.codes)),
                           .q_scales = q.scale_view(place(q.scales)),
                           .k_scales = k.scale_view(place(k.scales)),
                           .v_scales = v.scale_view(place(v.scales))};
      if (!given.sequences.empty()) inputs.sequences = sequences;
      return inputs;
    };
    const Expected expected =
        expected_of(given, inputs_at([](const auto& x) { return x.data(); }), v, sequences, given.s_q);
    // What no sequence has, keys before key_start too, is NaN: no kernel may let it through.
    if (!given.is_packed) {
      for (std::size_t i = 0; i < sequences.size(); ++i) {
        for (std::int64_t row = 0; row < given.s_kv; ++row) {
          if (row >= sequences[i].key_start && row < sequences[i].s_kv) continue;
          for (const auto& [tensor, d] : {std::pair{&k, given.d_qk}, {&v, given.d_v}}) {
            const std::int64_t first = (static_cast<std::int64_t>(i) * given.s_kv + row) * given.h_kv * d;
            std::fill_n(tensor->codes.begin() + first, given.h_kv * d, std::uint8_t{0x7f});
          }
        }
      }
    }
    const jit::DeviceArray<std::uint8_t> q_codes(*context_, q.codes), k_codes(*context_, k.codes),
        v_codes(*context_, v.codes);
    const jit::DeviceArray<float> q_scales(*context_, q.scales), k_scales(*context_, k.scales),
        v_scales(*context_, v.scales);
    const jit::DeviceArray<std::uint16_t> o(*context_, std::vector<std::uint16_t>(expected.exact.size(), 0x7fff));
    const jit::DeviceArray<float> lse(*context_, std::vector<float>(expected.lse.size(), std::nanf("")));
    const auto pointer = [](const auto& array) { return reinterpret_cast<void*>(array.pointer()); };
    ForwardInputs inputs{.q = q.view(pointer(q_codes)),
                         .k = k.view(pointer(k_codes)),
                         .v = v.view(pointer(v_codes)),
                         .q_scales = q.scale_view(pointer(q_scales)),
                         .k_scales = k.scale_view(pointer(k_scales)),
                         .v_scales = v.scale_view(pointer(v_scales))};
    if (!given.sequences.empty()) inputs.sequences = sequences;
    std::vector<std::int64_t> extents{given.b, given.h_q, given.s_q, given.d_v},
        strides{given.s_q * given.h_q * given.d_v, given.d_v, given.h_q * given.d_v, 1},
        lse_extents{given.b, given.h_q, given.s_q};
    if (given.is_packed) {
      extents.erase(extents.begin()), strides.erase(strides.begin()), lse_extents.erase(lse_extents.begin());
    }
    std::int64_t s_q = 0, s_kv = 0;
    for (const Sequence& sequence : sequences) {
      s_q = std::max(s_q, sequence.s_q);
      s_kv = std::max(s_kv, sequence.s_kv);
    }
    const Plan plan = Attention(given.variant)
                          .plan({.dtype = DType::float8_e4m3,
                                 .o_dtype = given.o_dtype,
                                 .b = static_cast<std::int64_t>(sequences.size()),
                                 .h_q = given.h_q,
                                 .h_kv = given.h_kv,
                                 .d_qk = given.d_qk,
                                 .d_v = given.d_v,
                                 .s_q = s_q,
                                 .s_kv = s_kv},
                                Device::cuda());
    plan.forward(inputs, {.o = Tensor(pointer(o), given.o_dtype, std::span<const std::int64_t>(extents),
                                      std::span<const std::int64_t>(strides)),
                          .lse = Tensor(pointer(lse), DType::float32, lse_extents)});
    compare(given, expected, o.values(), lse.values());
  }

  static void compare(const Float8Case& given, const Expected& expected, const std::vector<std::uint16_t>& o,
                      const std::vector<float>& lse) {
    double largest = 0, largest_standard = 0, square = 0, square_standard = 0, magnitude = 0;
    for (std::size_t i = 0; i < o.size(); ++i) {
      if (std::isnan(expected.exact[i])) {
        ASSERT_EQ(o[i], 0x7fff) << "written outside of the output, at " << i;
        continue;
      }
      const double got = given.o_dtype == DType::bfloat16 ? static_cast<double>(Bfloat16::from_bits(o[i]))
                                                          : static_cast<double>(Float16::from_bits(o[i]));
      ASSERT_FALSE(std::isnan(got)) << "at " << i;
      const double error = std::abs(got - expected.exact[i]),
                   of_standard = std::abs(expected.standard[i] - expected.exact[i]);
      largest = std::max(largest, error), largest_standard = std::max(largest_standard, of_standard);
      square += error * error, square_standard += of_standard * of_standard;
      magnitude = std::max(magnitude, std::abs(expected.exact[i]));
    }
    // Two units of the output's largest number, as everywhere. What tensor cores cut off of their sums, of which they
    // keep 14 bits, is as much again where there is but little to round: a unit of 2^-13 of the largest number.
    const double unit = std::ldexp(magnitude, given.o_dtype == DType::bfloat16 ? -7 : -10) + std::ldexp(magnitude, -13);
    EXPECT_LE(largest, 2 * largest_standard + 2 * unit);
    EXPECT_LE(std::sqrt(square), 2 * std::sqrt(square_standard) + unit * std::sqrt(static_cast<double>(o.size())));
    for (std::size_t i = 0; i < lse.size(); ++i) {
      if (std::isnan(expected.lse[i])) continue;
      if (std::isinf(expected.lse[i])) {
        EXPECT_EQ(lse[i], expected.lse[i]) << i;
      } else {
        EXPECT_NEAR(lse[i], expected.lse[i], 1e-3 * std::max(1.0, std::abs(expected.lse[i]))) << i;
      }
    }
  }
};

Float8Case case_of(std::string name, Variant variant, std::int64_t s_q, std::int64_t s_kv, std::int64_t d_qk,
                   std::int64_t d_v, bool of_blocks) {
  return {.name = std::move(name),
          .variant = std::move(variant),
          .s_q = s_q,
          .s_kv = s_kv,
          .d_qk = d_qk,
          .d_v = d_v,
          .of_blocks = of_blocks};
}

TEST_F(Float8OnGpu, AwkwardLengths) {
  for (const bool of_blocks : {false, true}) {
    for (const auto& [s_q, s_kv] :
         {std::pair{1, 1}, {1, 129}, {63, 31}, {64, 32}, {128, 128}, {129, 127}, {300, 523}, {65, 1000}}) {
      expect_right(case_of("full", Variant(), s_q, s_kv, 128, 128, of_blocks));
      expect_right(case_of("causal", zoo::causal(), s_q, s_kv, 128, 128, of_blocks));
    }
    expect_right(case_of("window", zoo::window(100), 400, 600, 128, 128, of_blocks));
  }
}

TEST_F(Float8OnGpu, HeadDimensions) {
  for (const auto& [d_qk, d_v] : {std::pair{64, 64}, {256, 256}, {16, 16}, {96, 48}, {192, 128}, {80, 240}}) {
    expect_right(case_of("full", Variant(), 200, 333, d_qk, d_v, false));
    expect_right(case_of("causal", zoo::causal(), 333, 450, d_qk, d_v, true));
  }
}

TEST_F(Float8OnGpu, ManyHeadsAndGroups) {
  Float8Case given = case_of("causal", zoo::causal(), 260, 150, 64, 64, true);
  given.b = 3, given.h_q = 40, given.h_kv = 4;
  expect_right(given);
  given.variant = Variant();
  given.o_dtype = DType::float16;
  expect_right(given);
}

TEST_F(Float8OnGpu, RowsThatOutgrowTheirBasesOrBeginLate) {
  for (const bool of_blocks : {false, true}) {
    Float8Case given = case_of("rising", Variant(), 140, 777, 128, 128, of_blocks);
    given.rises = true;
    expect_right(given);
    given.variant = zoo::causal();
    expect_right(given);
    expect_right(case_of("late keys", keep([](const At& at) { return at.key_index >= 2 * at.query_index + 100; }), 300,
                         900, 128, 128, of_blocks));
    expect_right(case_of("nothing", keep([](const At& at) { return at.query_index < 0; }), 70, 200, 64, 64, of_blocks));
  }
}

TEST_F(Float8OnGpu, PackedSequencesAndLeftPadding) {
  const std::vector<std::int64_t> s_q = {5, 330, 0, 64, 1}, s_kv = {270, 330, 10, 0, 300};
  for (const bool of_blocks : {false, true}) {
    for (const Variant& variant : {Variant(), zoo::causal()}) {
      Float8Case given = case_of("packed", variant, 400, 910, 128, 64, of_blocks);
      given.is_packed = true;
      given.sequences = Problem::packed(2, 1, s_q, s_kv).sequences;
      expect_right(given);
      given = case_of("left padding", variant, 150, 400, 64, 128, of_blocks);
      given.b = 3;
      given.sequences = {{.s_q = 150, .s_kv = 400, .key_start = 130},
                         {.s_q = 100, .s_kv = 333, .key_offset = 7, .key_start = 5},
                         {.s_q = 1, .s_kv = 129, .query_offset = 40}};
      expect_right(given);
    }
  }
}

TEST_F(Float8OnGpu, RefusesByName) {
  const auto refuse = [](const char* part, const Variant& variant, auto change) {
    PlanShape shape{.dtype = DType::float8_e4m3, .d_qk = 64, .d_v = 64, .s_q = 100, .s_kv = 100};
    change(shape);
    const std::string message =
        refusal([&] { Attention(variant).plan(shape, Device::cuda()); }, ErrorCode::unsupported);
    EXPECT_NE(message.find(part), std::string::npos) << message;
  };
  const auto same = [](PlanShape&) {};
  refuse("without score functions", zoo::softcap(30), same);
  refuse("without dropout", dropout(0.5), same);
  refuse("d_qk is 40", Variant(), [](PlanShape& shape) { shape.d_qk = 40; });
  refuse("o_dtype is float32", Variant(), [](PlanShape& shape) { shape.o_dtype = DType::float32; });
  refuse("portable", Variant(), [](PlanShape& shape) { shape.d_qk = 40; });
  refuse("kv_dtype is bfloat16", Variant(), [](PlanShape& shape) { shape.kv_dtype = DType::bfloat16; });
}

}  // namespace
}  // namespace tilewise::cuda::testing
