// Decoding over splits, strided and paged, against standard attention in float64.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "tests/cpu/each_isa.h"
#include "tests/cpu/problem.h"
#include "tests/cpu/standard.h"
#include "tiles/merge.h"

namespace tilewise::cpu::testing {
namespace {

/// A cache of rows [tokens, d] in one storage type, in pages in a shuffled order or in one piece. What no token uses is
/// NaN, or where the type has none, its largest value with a scale of NaN.
class Cache {
 public:
  /// Rounds `rows` to what it stores. page_tokens == 0: in one piece. signs: every third scale is negative.
  Cache(Matrix& rows, DType dtype, std::int64_t page_tokens, std::uint64_t seed, bool signs)
      : dtype_(dtype), page_(page_tokens), signs_(signs) {
    const std::int64_t tokens = rows.rows(), d = rows.columns();
    const std::int64_t pages = page_ == 0 ? 1 : (tokens + page_ - 1) / page_ + 3;
    const std::int64_t slots = page_ == 0 ? tokens : pages * page_;
    table_.resize(static_cast<std::size_t>(pages));
    std::iota(table_.begin(), table_.end(), 0);
    std::mt19937_64 random(seed);
    if (page_ != 0) std::shuffle(table_.begin(), table_.end(), random);
    stride_ = d + 8;
    bytes_.assign(static_cast<std::size_t>(slots * stride_ * size()), dtype == DType::int8 ? 0x7f : 0xff);
    scales_.assign(static_cast<std::size_t>(slots), kNaN);
    for (std::int64_t token = 0; token < tokens; ++token) {
      const std::int64_t slot =
          page_ == 0 ? token : table_[static_cast<std::size_t>(token / page_)] * page_ + token % page_;
      store(rows, token, slot);
    }
  }

  RowSource source() const {
    RowSource found;
    found.rows = {bytes_.data(), stride_, dtype_};
    if (page_ != 0) {
      found.block_table = table_.data();
      found.page_tokens = page_;
      found.page_stride = page_ * stride_;
    }
    if (dtype_ == DType::int8) {
      found.scales = scales_.data();
      found.scale_page_stride = page_;
    }
    return found;
  }

 private:
  std::int64_t size() const { return dtype_ == DType::float32 ? 4 : dtype_ == DType::int8 ? 1 : 2; }

  void store(Matrix& rows, std::int64_t token, std::int64_t slot) {
    float largest = 0;
    for (std::int64_t i = 0; i < rows.columns(); ++i) largest = std::max(largest, std::abs(rows.at(token, i)));
    const float scale = signs_ && token % 3 == 0 ? -largest / 127 : largest / 127;
    scales_[static_cast<std::size_t>(slot)] = scale;
    for (std::int64_t i = 0; i < rows.columns(); ++i) {
      float& value = rows.at(token, i);
      unsigned char* to = bytes_.data() + (slot * stride_ + i) * size();
      if (dtype_ == DType::int8) {
        const auto code = static_cast<std::int8_t>(std::lround(value / scale));
        std::memcpy(to, &code, 1);
        value = static_cast<float>(code) * scale;
      } else if (dtype_ == DType::float16) {
        const tilewise::Float16 half(double{value});
        std::memcpy(to, &half.bits, 2);
        value = static_cast<float>(half);
      } else {
        value = rounded(value, dtype_);
        std::uint32_t bits;
        std::memcpy(&bits, &value, 4);
        std::memcpy(to, reinterpret_cast<const char*>(&bits) + (4 - size()), static_cast<std::size_t>(size()));
      }
    }
  }

  DType dtype_;
  std::int64_t page_, stride_ = 0;
  bool signs_;
  std::vector<std::int32_t> table_;
  std::vector<unsigned char> bytes_;
  std::vector<float> scales_;
};

struct DecodeCase {
  int heads;  // that share keys
  std::int64_t s_q, s_kv, d_qk, d_v;
  DType cache = DType::float32;
  std::int64_t page_tokens = 0;
  int splits = 1;
  const float* sink = nullptr;
  DType q = DType::float32;
  float q_deviation = 1;
  bool signs = false;  // some of the cache's scales are negative
};

class DecodeTest : public EachIsaTest {
 protected:
  void check(const DecodeCase& c, const TestVariant& variant) const {
    SCOPED_TRACE(::testing::Message() << variant.name << " heads " << c.heads << " s_q " << c.s_q << " s_kv " << c.s_kv
                                      << " d_qk " << c.d_qk << " d_v " << c.d_v << " cache "
                                      << static_cast<int>(c.cache) << " page " << c.page_tokens << " splits "
                                      << c.splits << " q " << static_cast<int>(c.q) << " of " << c.q_deviation
                                      << (c.signs ? " negative scales" : ""));
    Comparison o, lse;
    for (std::uint64_t seed = 0; seed < 3; ++seed) compare(c, variant, seed, &o, &lse);
    // Where queries and outputs have 16 bits, so has what standard attention rounds scores and weights to.
    o.expect_close("o", 2, epsilon_of(c.q));
    lse.expect_close("lse", 2, epsilon_of(c.q));
  }

 private:
  void compare(const DecodeCase& c, const TestVariant& variant, std::uint64_t seed, Comparison* o,
               Comparison* lse) const {
    std::mt19937_64 random(seed);
    Matrix k(c.s_kv, c.d_qk), v(c.s_kv, c.d_v);
    k.fill_normal(random);
    v.fill_normal(random);
    const Cache k_cache(k, c.cache, c.page_tokens, seed + 1, c.signs);
    const Cache v_cache(v, c.cache, c.page_tokens, seed + 2, c.signs);
    std::vector<Matrix> q;
    std::vector<Stored> stored_q;
    for (int head = 0; head < c.heads; ++head) {
      Matrix& of_head = q.emplace_back(c.s_q, c.d_qk);
      of_head.fill_normal(random, c.q_deviation);
      of_head.round_to(c.q);
      stored_q.emplace_back(of_head, c.q);
    }
    const double scale = 1 / std::sqrt(static_cast<double>(c.d_qk));
    const Hooks hooks(variant);

    std::vector<DecodeRow> rows;
    for (const Stored& of_head : stored_q) {
      const auto* first = static_cast<const char*>(of_head.view().data);
      const std::int64_t row_bytes = of_head.view().stride * (c.q == DType::float32 ? 4 : 2);
      for (std::int64_t query = 0; query < c.s_q; ++query) {
        rows.push_back({first + query * row_bytes, query, hooks.walk(), hooks.score()});
      }
    }
    const auto count = static_cast<std::int64_t>(rows.size());
    std::vector<float> total_o(static_cast<std::size_t>(count * c.d_v), 0.0f);
    std::vector<float> total_lse(rows.size(), -kInfinity);
    for (int split = 0; split < c.splits; ++split) {
      std::vector<float> part_o(total_o.size(), kNaN), part_lse(rows.size(), kNaN);
      DecodeTask task;
      task.shape = {c.s_q, c.s_kv, static_cast<int>(c.d_qk), static_cast<int>(c.d_v)};
      task.key_begin = c.s_kv * split / c.splits;
      task.key_end = c.s_kv * (split + 1) / c.splits;
      task.q_dtype = c.q;
      task.rows = rows.data();
      task.row_count = static_cast<int>(count);
      task.k = k_cache.source();
      task.v = v_cache.source();
      task.scale = static_cast<float>(scale);
      task.o = part_o.data();
      task.lse = part_lse.data();
      Workspace workspace(tested().decode_floats(task.shape, task.row_count));
      task.workspace = workspace.data();
      tested().decode(&task, 1);
      EXPECT_TRUE(workspace.guard_untouched());
      for (std::int64_t row = 0; row < count; ++row) {
        const auto at = static_cast<std::size_t>(row);
        tiles::Partial<float> into{&total_o[at * static_cast<std::size_t>(c.d_v)], total_lse[at]};
        tiles::merge<float>(into, {&part_o[at * static_cast<std::size_t>(c.d_v)], part_lse[at]}, c.d_v);
        if (c.sink != nullptr && split + 1 == c.splits) tiles::add_sink(into, *c.sink, c.d_v);
        total_lse[at] = into.lse;
      }
    }

    for (std::size_t head = 0; head < q.size(); ++head) {
      const Head problem{&q[head], &k, &v, variant, scale, c.sink, {}};
      const Forward exact = standard_forward<double>(problem), standard = standard_forward<float>(problem);
      const std::int64_t first = static_cast<std::int64_t>(head) * c.s_q;
      o->add(exact.o, standard.o, [&](std::int64_t i) { return total_o[static_cast<std::size_t>(first * c.d_v + i)]; });
      lse->add(exact.lse, standard.lse, [&](std::int64_t i) { return total_lse[static_cast<std::size_t>(first + i)]; });
    }
  }
};

TEST_P(DecodeTest, AgreesOverShapesAndGroups) {
  for (const DecodeCase& c :
       {DecodeCase{1, 1, 1, 1, 1}, DecodeCase{1, 1, 63, 64, 64}, DecodeCase{4, 1, 65, 128, 128},
        DecodeCase{8, 1, 500, 64, 32}, DecodeCase{3, 2, 130, 17, 9}, DecodeCase{5, 3, 200, 72, 200},
        DecodeCase{2, 1, 129, 576, 512}, DecodeCase{7, 1, 64, 8, 24}}) {
    for (const TestVariant& variant : {full(), causal(c.s_kv - c.s_q), window(70, 1000), softcapped(full()),
                                       scattered(), loosely(causal(c.s_kv - c.s_q))}) {
      check(c, variant);
    }
  }
}

TEST_P(DecodeTest, SplitsMergeToTheWhole) {
  const float sink = 1.5f;
  for (const int splits : {2, 5, 16}) {
    DecodeCase c{4, 1, 777, 64, 64};
    c.splits = splits;
    check(c, full());
    check(c, window(100, 1000));
    c.sink = &sink;
    check(c, causal(700));
  }
}

TEST_P(DecodeTest, ReadsEveryKindOfCache) {
  for (const DType dtype : {DType::float32, DType::bfloat16, DType::float16, DType::int8}) {
    for (const std::int64_t page_tokens : {0, 1, 16, 100}) {
      DecodeCase c{4, 1, 333, 64, 40};
      c.cache = dtype;
      c.page_tokens = page_tokens;
      c.splits = 3;
      check(c, causal(300));
      c.d_qk = 30;
      check(c, full());
    }
  }
}

TEST_P(DecodeTest, TakesQueriesOf16Bits) {
  for (const DType q : {DType::bfloat16, DType::float16}) {
    for (const DType cache : {q, DType::int8}) {
      for (const DecodeCase& shape : {DecodeCase{4, 1, 333, 64, 40}, DecodeCase{3, 2, 130, 17, 9},
                                      DecodeCase{5, 1, 129, 128, 200}, DecodeCase{1, 1, 65, 576, 512}}) {
        DecodeCase c = shape;
        c.q = q;
        c.cache = cache;
        for (const TestVariant& variant : {full(), causal(c.s_kv - c.s_q), softcapped(full()), scattered()}) {
          for (const std::int64_t page_tokens : {0, 16}) {
            c.page_tokens = page_tokens;
            check(c, variant);
          }
        }
      }
    }
  }
}

TEST_P(DecodeTest, TakesInt8OfAnyShapeAndScale) {
  for (const DecodeCase& shape :
       {DecodeCase{4, 1, 333, 128, 128}, DecodeCase{5, 3, 200, 72, 200}, DecodeCase{2, 1, 129, 576, 512},
        DecodeCase{8, 1, 100, 31, 65}, DecodeCase{1, 1, 1, 1, 1}, DecodeCase{4, 1, 67, 15, 17}}) {
    DecodeCase c = shape;
    c.cache = DType::int8;
    for (const TestVariant& variant : {full(), window(70, 1000), scattered()}) {
      for (const bool signs : {false, true}) {
        for (const float deviation : {1.0f, 6.0f, 0.0f, 1e-30f}) {
          c.signs = signs;
          c.q_deviation = deviation;
          check(c, variant);
        }
      }
    }
  }
}

TEST_P(DecodeTest, AnEmptySplitKeepsNothing) {
  DecodeCase c{2, 1, 3, 16, 16};
  c.splits = 5;
  check(c, full());
}

INSTANTIATE_TEST_SUITE_P(Isa, DecodeTest, ::testing::ValuesIn(kEachIsa), name_of);
INSTANTIATE_TEST_SUITE_P(Codes, DecodeTest, ::testing::Values("amx_codes", "emulated_amx_codes"), name_of);

}  // namespace
}  // namespace tilewise::cpu::testing
