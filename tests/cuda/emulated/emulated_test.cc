// The portable forward and backward kernels for 16-bit inputs without a GPU: what a program for the run-time compiler
// computes, run on this processor (kernel.h), by the rule of exactness. That a GPU does the same is not shown here.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "cuda/launch/backward.h"
#include "cuda/launch/forward_program.h"
#include "cuda/launch/kernel_text.h"
#include "tests/cuda/emulated/kernel.h"
#include "tests/reference/attention_data.h"
#include "tilewise/tiles.h"
#include "tilewise/zoo.h"
#include "variant/bindings.h"
#include "variant/graph.h"

namespace tilewise::cuda::testing {
namespace {

using reference::Array;
using reference::AttentionData;

constexpr std::int64_t kHeads = 2;
const jit::Architecture kArchitecture = jit::Architecture::parse("sm_90a");

/// Lists of tiles as device/classify.h makes them, by the host's classifier.
struct Lists {
  std::vector<int> tiles, count;
  std::vector<RowStart> order;
  std::int64_t rows = 0, columns = 0;
  int long_rows = 0, parts = 1;

  Lists(const Variant& variant, const Bindings& bindings, const Problem& problem, ListTile listed, bool by_key) {
    const TileSizes tile{listed.queries, listed.keys}, part_of_tile{listed.part_queries, listed.part_keys};
    const std::int64_t part_rows = (tile.queries + part_of_tile.queries - 1) / part_of_tile.queries;
    const std::int64_t across = tile.keys / part_of_tile.keys;
    const std::int64_t s_q = problem.sequences.front().s_q, s_kv = problem.sequences.front().s_kv;
    for (std::int64_t head = 0; head < problem.h_q; ++head) {
      const TileMap whole = classify_tiles(variant, bindings, problem, tile, 0, head);
      const TileMap of_parts = classify_tiles(variant, bindings, problem, part_of_tile, 0, head);
      rows = by_key ? whole.columns : whole.rows, columns = by_key ? whole.rows : whole.columns;
      for (std::int64_t row = 0; row < rows; ++row) {
        count.push_back(0);
        tiles.resize(count.size() * static_cast<std::size_t>(columns));
        for (std::int64_t column = 0; column < columns; ++column) {
          const std::int64_t i = by_key ? column : row, j = by_key ? row : column;
          if (whole.at(i, j) == TileClass::empty) continue;
          int bits = 0;
          for (std::int64_t part = 0; part < across * part_rows; ++part) {
            const std::int64_t query = i * part_rows + part / across, key = across * j + part % across;
            if (query >= of_parts.rows || key >= of_parts.columns) continue;
            const TileClass found = of_parts.at(query, key);
            const bool is_full = found == TileClass::full && (key + 1) * part_of_tile.keys <= s_kv;
            bits |= (found == TileClass::empty ? 0 : is_full ? 1 : 2) << 2 * part;
          }
          const bool is_full = whole.at(i, j) == TileClass::full && (j + 1) * tile.keys <= s_kv;
          // As walk.h's Visit has it.
          const int entry = static_cast<int>(column) << 13 | (is_full ? 0x555 << 1 : bits << 1 | 1);
          tiles[(count.size() - 1) * static_cast<std::size_t>(columns) + static_cast<std::size_t>(count.back()++)] =
              entry;
        }
      }
      for (std::int64_t row = rows; row-- > 0;) {  // any order will do, but for long rows
        const auto list = static_cast<std::size_t>(head * rows + row);
        const std::int64_t own = std::max<std::int64_t>(row * tile.queries + s_kv - s_q, 0) / tile.keys;
        const std::int64_t first = tiles[list * static_cast<std::size_t>(columns)] >> 13;
        const std::int64_t index = std::min<std::int64_t>(std::max<std::int64_t>(own - first, 0), count[list] - 1);
        const std::int64_t start = by_key || count[list] == 0 ? 0 : index;
        const int entry = tiles[list * static_cast<std::size_t>(columns) + static_cast<std::size_t>(start)];
        order.push_back({static_cast<int>(row), count[list], static_cast<int>(start), count[list] == 0 ? 0 : entry});
      }
      std::stable_sort(order.end() - rows, order.end(), [](RowStart a, RowStart b) { return a.count > b.count; });
    }
  }

  TileLists view() const {
    return {.tiles = tiles.data(),
            .count = count.data(),
            .order = order.data(),
            .capacity = columns,
            .sequence_rows = kHeads * rows,
            .head_rows = rows,
            .long_rows = long_rows,
            .parts = parts,
            .heads_together = 0,
            .padding = 0,
            .turns = nullptr};
  }
};

TensorView view_of(Array& array) {
  const Tensor tensor = array.tensor();
  return {tensor.data, tensor.strides[0], tensor.strides[1], tensor.strides[2]};
}

/// No error is larger than c times standard attention's, give or take two units in the last place of the largest
/// number.
void expect_close(const char* what, const Array& exact, const Array& found, const Array& usual, double c) {
  double largest = 0, usual_largest = 0, square = 0, usual_square = 0, magnitude = 0;
  for (std::int64_t i = 0; i < exact.size(); ++i) {
    const double x = exact.get(i), error = std::abs(found.get(i) - x), usual_error = std::abs(usual.get(i) - x);
    ASSERT_FALSE(std::isnan(error)) << what << ", element " << i;
    largest = std::max(largest, error), usual_largest = std::max(usual_largest, usual_error);
    square += error * error, usual_square += usual_error * usual_error;
    magnitude = std::max(magnitude, std::abs(x));
  }
  EXPECT_GT(magnitude, 0) << what;
  EXPECT_LE(largest, c * usual_largest + 2 * 0x1p-7 * magnitude) << what;
  EXPECT_LE(square, c * c * usual_square) << what;
}

/// One sequence of two heads in bfloat16, and what standard attention makes of it.
class EmulatedKernels : public ::testing::Test {
 protected:
  void make(const Variant& variant, std::int64_t s_q, std::int64_t s_kv, std::int64_t d) {
    variant_ = variant;
    kernel_ = {.d_qk = static_cast<int>(d), .d_v = static_cast<int>(d), .has_lists = true};
    const reference::Shape shape{
        .h_q = kHeads, .h_kv = kHeads, .d_qk = d, .d_v = d, .sequences = {{.s_q = s_q, .s_kv = s_kv}}};
    data_.emplace(shape, 3, DType::bfloat16, DType::float32);
    problem_ = Problem::uniform(1, kHeads, kHeads, s_q, s_kv);
    bind_tables();
    exact_.emplace(shape, 3, DType::float64, DType::float64);
    usual_ = data_;
    exact_->inputs = usual_->inputs = data_->inputs;
    standard_attention(variant, exact_->inputs, exact_->outputs());
    standard_attention(variant, usual_->inputs, usual_->outputs(), DType::bfloat16);
    sequence_ = {static_cast<int>(s_q), static_cast<int>(s_kv), 0, static_cast<int>(s_kv - s_q), 0, 0, 0, 0};
    bound_ = variant::pack_arguments(variant.data().graph, variant::bind(variant.data().graph, bindings_),
                                     variant::cuda_text(variant).layout);
  }

  void bind_tables() {
    std::mt19937 random(7);
    std::normal_distribution<float> normal;
    const auto extents = fitting_extents(variant_, problem_);
    bindings_ = {};
    tables_.clear();
    tables_.reserve(variant_.tables().size());
    for (std::size_t i = 0; i < variant_.tables().size(); ++i) {
      if (variant_.tables()[i].frozen_data()) continue;
      tables_.emplace_back(extents[i], DType::float32, false);
      for (std::int64_t j = 0; j < tables_.back().size(); ++j) tables_.back().set(j, normal(random));
      bindings_.tables.push_back({variant_.tables()[i], tables_.back().view()});
    }
    data_->inputs.tables = bindings_.tables;
  }

  /// `long_rows` rows of each head in `parts`, by a block each.
  void expect_forward(int long_rows = 0, int parts = 1) {
    const Multiprocessor limits = Multiprocessor::of(kArchitecture);
    const ForwardPlan plan = choose_forward(kernel_, limits, kept_fields(variant_, kernel_.dtype));
    const EmulatedProgram program(
        forward_program(variant_, kernel_text(variant_, kernel_.dtype, false), kernel_, plan, kArchitecture));
    Lists lists(variant_, bindings_, problem_, plan.tile(), false);
    lists.long_rows = long_rows, lists.parts = parts;
    const auto partial_rows = static_cast<std::size_t>(kHeads * long_rows * plan.query_tile() * parts);
    std::vector<float> partial_o(partial_rows * static_cast<std::size_t>(kernel_.d_v)), partial_lse(partial_rows);
    ForwardArguments arguments{};
    arguments.q = view_of(data_->q), arguments.k = view_of(data_->k), arguments.v = view_of(data_->v);
    arguments.o = view_of(data_->o), arguments.lse = view_of(data_->lse);
    arguments.sequences = &sequence_;
    arguments.lists = lists.view();
    arguments.heads_per_kv = 1;
    arguments.scale = scale();
    arguments.partial_o = partial_o.data(), arguments.partial_lse = partial_lse.data();
    data_->o.fill(std::numeric_limits<double>::quiet_NaN());
    const int blocks = static_cast<int>(lists.rows) + long_rows * (parts - 1);
    ASSERT_TRUE(program.launch("forward", {blocks, kHeads, 1}, plan.threads(), &arguments, bound_.data()));
    const int merged = long_rows * plan.query_tile();
    if (merged > 0) {
      ASSERT_TRUE(program.launch("merge", {merged / 4, kHeads, 1}, 128, &arguments, bound_.data()));
    }
    expect_close("o", exact_->o, data_->o, usual_->o, 2);
  }

  void expect_backward(bool has_gradients, int long_rows = 0) {
    kernel_.has_gradients = has_gradients;
    const bool has_scores = changes_scores(variant_);
    const BackwardPlan plan =
        choose_backward(kernel_, has_scores, Multiprocessor::of(kArchitecture), kept_fields(variant_, kernel_.dtype));
    const EmulatedProgram program(
        backward_program(variant_, kernel_text(variant_, kernel_.dtype, true), kernel_, plan, kArchitecture));
    Lists lists(variant_, bindings_, problem_, {plan.queries, plan.keys}, true);
    lists.long_rows = long_rows;
    std::vector<Array> d_exact, d_usual;
    BackwardOutputs of_exact = exact_->gradients(), of_usual = usual_->gradients();
    std::vector<float> sums(static_cast<std::size_t>(has_gradients ? tables_.front().size() : 1));
    if (has_gradients) {
      const auto extents = fitting_extents(variant_, problem_);
      d_exact.emplace_back(extents[0], DType::float64, false), d_usual.emplace_back(extents[0], DType::float64, false);
      of_exact.d_tables = {{variant_.tables()[0], d_exact[0].tensor()}};
      of_usual.d_tables = {{variant_.tables()[0], d_usual[0].tensor()}};
    }
    usual_->d_o = exact_->d_o = data_->d_o;
    standard_attention_backward(variant_, exact_->inputs, {.d_o = data_->d_o.view()}, of_exact);
    standard_attention_backward(variant_, usual_->inputs, {.d_o = data_->d_o.view()}, of_usual, DType::bfloat16);
    for (std::int64_t i = 0; i < data_->o.size(); ++i) data_->o.set(i, exact_->o.get(i));
    for (std::int64_t i = 0; i < data_->lse.size(); ++i) data_->lse.set(i, exact_->lse.get(i));

    const std::size_t rows = kHeads * static_cast<std::size_t>(sequence_.queries);
    const int row_blocks = (sequence_.queries + 127) / 128 * 8;
    std::vector<float> reference(rows), delta(rows);
    std::vector<float> d_q_sums(static_cast<std::size_t>(kHeads * row_blocks * 16 * kernel_.d_qk), NAN);
    BackwardArguments arguments{};
    arguments.q = view_of(data_->q), arguments.k = view_of(data_->k), arguments.v = view_of(data_->v);
    arguments.o = view_of(data_->o), arguments.d_o = view_of(data_->d_o), arguments.lse = view_of(data_->lse);
    arguments.d_q = view_of(data_->d_q), arguments.d_k = view_of(data_->d_k), arguments.d_v = view_of(data_->d_v);
    arguments.reference = reference.data(), arguments.delta = delta.data(), arguments.d_q_sums = d_q_sums.data();
    arguments.d_q_parts = 1;
    arguments.key_tiles = static_cast<int>(lists.rows);
    arguments.sequences = &sequence_;
    arguments.lists = lists.view();
    arguments.heads_per_kv = 1;
    arguments.h_q = kHeads, arguments.s_q = sequence_.queries;
    arguments.scale = scale();
    if (has_gradients) arguments.gradients.tables[0] = sums.data();
    arguments.gradients.first = sums.data();
    // A warp to 8 queries, then one to 16 of them.
    ASSERT_TRUE(program.launch("prepare", {row_blocks / 2, kHeads, 1}, 128, &arguments, bound_.data()));
    ASSERT_TRUE(
        program.launch("backward", {arguments.key_tiles, kHeads, 1}, plan.threads(), &arguments, bound_.data()));
    ASSERT_TRUE(program.launch("finish", {row_blocks / 4, kHeads, 1}, 128, &arguments, nullptr));
    expect_close("d_q", exact_->d_q, data_->d_q, usual_->d_q, 3);
    expect_close("d_k", exact_->d_k, data_->d_k, usual_->d_k, 3);
    expect_close("d_v", exact_->d_v, data_->d_v, usual_->d_v, 3);
    if (!has_gradients) return;
    Array found(fitting_extents(variant_, problem_)[0], DType::float64, false);
    for (std::int64_t i = 0; i < found.size(); ++i) found.set(i, sums[static_cast<std::size_t>(i)]);
    expect_close("d_table", d_exact[0], found, d_usual[0], 3);
  }

  float scale() const { return 1 / std::sqrt(static_cast<float>(kernel_.d_qk)); }

  Variant variant_;
  ForwardShape kernel_;
  Problem problem_;
  Bindings bindings_;
  std::vector<Array> tables_;
  SequenceShape sequence_{};
  std::vector<std::byte> bound_;
  std::optional<AttentionData> data_, exact_, usual_;
};

TEST_F(EmulatedKernels, ForwardWithScoresAndAMask) {
  make(zoo::softcap(3) & zoo::causal(), 150, 200, 64);
  expect_forward();
}

TEST_F(EmulatedKernels, ForwardPassesOverEmptyPartsOfTiles) {
  make(zoo::window(40), 200, 200, 64);
  expect_forward();
}

TEST_F(EmulatedKernels, ForwardWithALongRowInParts) {
  // Of three rows of tiles the last one keeps all keys, the others few, which are fewer tiles than parts.
  make(keep([](At at) { return at.query >= 256 || at.query - at.key == 0; }) & zoo::attention_sink(), 260, 260, 64);
  expect_forward(2, 5);
}

TEST_F(EmulatedKernels, ForwardWithValuesOfDiagonals) {
  make(zoo::relative_position(20), 130, 130, 64);
  expect_forward();
}

// Eight tiles of keys farther than 20 from all queries, the first of which gives rows their bases.
TEST_F(EmulatedKernels, ForwardWithTilesWhoseDiagonalsHaveOneValue) {
  make(zoo::relative_position(20), 130, 400, 64);
  expect_forward();
}

// With scores twelve times as large such tiles outgrow bases.
TEST_F(EmulatedKernels, ForwardWithTilesOfOneValueThatOutgrowBases) {
  make(score([](Expr s, At) { return 12 * s; }) & zoo::relative_position(20), 130, 400, 64);
  expect_forward();
}

// ... and where distances are so steep that rows outgrow the bases of their own position's tile.
TEST_F(EmulatedKernels, ForwardWithDiagonalsOnALine) {
  make(zoo::alibi(kHeads), 200, 400, 64);
  expect_forward();
  make(score([](Expr s, At at) { return s - 3 * to_real(abs(at.query - at.key)); }) & zoo::causal(), 260, 260, 64);
  expect_forward();
  make(score([](Expr s, At at) { return s + 0.25 * to_real(at.key - at.query) + 8; }), 130, 200, 64);
  expect_forward();
}

// A mask that asks about keys, of which tiles on lines have made nothing until they are cut.
TEST_F(EmulatedKernels, ForwardWithCutTilesOnALine) {
  make(zoo::alibi(kHeads) & zoo::window(100), 260, 260, 64);
  expect_forward();
  make(zoo::relative_position(20) & zoo::window(100), 260, 260, 64);
  expect_forward();
}

TEST_F(EmulatedKernels, BackwardWithScoresAndEmptyPartsOfTiles) {
  make(zoo::softcap(3) & zoo::window(40), 200, 200, 64);
  expect_backward(false);
  expect_backward(false, 1);
}

// Asked once for each diagonal, or for each entry; at d 128 keys go in whole tiles, and 64 queries a tile.
TEST_F(EmulatedKernels, BackwardWithMasksAlone) {
  make(zoo::window(40), 130, 150, 128);
  expect_backward(false);
  make(zoo::documents({70, 50, 80}), 200, 200, 64);
  expect_backward(false);
}

TEST_F(EmulatedKernels, ForwardWithAMaskThatFollowsNoDiagonals) {
  make(zoo::documents({70, 50, 80}), 200, 200, 64);
  expect_forward();
}

TEST_F(EmulatedKernels, BackwardWithGradientsOfATable) {
  make(zoo::relative_position(20) & zoo::causal(), 130, 130, 64);
  expect_backward(true);
}

}  // namespace
}  // namespace tilewise::cuda::testing
