// Every named variant's graph against its definition in the rows, entry by entry.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "tests/variant/zoo_call.h"
#include "tests/variant/zoo_rows.h"
#include "variant/scalar.h"
#include "tilewise/zoo_entry.h"

namespace tilewise {

std::vector<Shape> usual_shapes() {
  return {{.s_q = 7, .s_kv = 7},
          {.b = 2, .h_q = 4, .h_kv = 2, .s_q = 5, .s_kv = 11},
          {.s_q = 11, .s_kv = 5, .query_offset = 0},
          {.h_q = 3, .h_kv = 3, .s_q = 1, .s_kv = 13},
          {.s_q = 9, .s_kv = 8, .query_offset = 20, .key_offset = 17}};
}

double noise(std::initializer_list<int> index) {
  std::uint32_t hash = 2166136261;  // FNV-1a, by ints
  for (int number : index) hash = (hash ^ static_cast<std::uint32_t>(number)) * 16777619u;
  hash ^= hash >> 15;
  return static_cast<double>(hash % 129) / 64.0 - 1.0;
}

namespace {

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  for (const auto& part : {mask_rows(), pattern_rows(), score_rows()})
    rows.insert(rows.end(), part.begin(), part.end());
  return rows;
}

/// Bindings with the memory that they point to.
struct Filled {
  std::vector<std::vector<float>> reals;
  std::vector<std::vector<std::uint8_t>> bools;
  Bindings bindings;
};

void fill(Filled& filled, const Table& table, const TableData& data) {
  const ConstTensor shape(nullptr, data.dtype, std::span<const std::int64_t>(data.extents));
  auto& reals = filled.reals.emplace_back();
  auto& bools = filled.bools.emplace_back();
  variant::BoundTable view{nullptr, data.dtype, shape.rank, shape.extents, shape.strides};
  variant::for_each_index(view, [&](std::span<const std::int64_t> at) {
    std::array<int, kMaxRank> index{};
    std::copy(at.begin(), at.end(), index.begin());
    double value = 0;
    switch (at.size()) {
      case 1: value = noise({index[0]}); break;
      case 2: value = noise({index[0], index[1]}); break;
      case 3: value = noise({index[0], index[1], index[2]}); break;
      default: value = noise({index[0], index[1], index[2], index[3]});
    }
    reals.push_back(static_cast<float>(value));
    bools.push_back(value > 0 ? 1 : 0);
  });
  const void* memory = data.dtype == DType::boolean ? static_cast<const void*>(bools.data()) : reals.data();
  filled.bindings.tables.push_back(
      {table, ConstTensor(memory, data.dtype, std::span<const std::int64_t>(data.extents))});
}

Filled fill(const Variant& variant, const std::vector<TableData>& tables) {
  Filled filled;
  for (const TableData& data : tables) {
    for (const Table& table : variant.tables()) {
      if (table.name() == data.name) fill(filled, table, data);
    }
  }
  return filled;
}

template <class Visit>
void for_each_point(const Shape& shape, Visit visit) {
  const int query_offset =
      shape.query_offset == Shape::kByLengths ? shape.key_offset + shape.s_kv - shape.s_q : shape.query_offset;
  for (int batch = 0; batch < shape.b; ++batch) {
    for (int head = 0; head < shape.h_q; ++head) {
      for (int query = 0; query < shape.s_q; ++query) {
        for (int key = 0; key < shape.s_kv; ++key) {
          const Point point{.query = query_offset + query,
                            .key = shape.key_offset + key,
                            .query_index = query,
                            .key_index = key,
                            .query_token = batch * shape.s_q + query,
                            .key_token = batch * shape.s_kv + key,
                            .queries = shape.s_q,
                            .keys = shape.s_kv,
                            .batch = batch,
                            .head = head,
                            .kv_head = head / (shape.h_q / shape.h_kv)};
          if (point.query >= 0) visit(point);  // the sources know no position before the first
        }
      }
    }
  }
}

variant::Place place_of(const Point& p) {
  return {p.query,   p.key,  p.query_index, p.key_index, p.query_token, p.key_token,
          p.queries, p.keys, p.batch,       p.head,      p.kv_head};
}

/// What a variant makes of one entry.
class Meaning {
 public:
  Meaning(const Variant& variant, const Bindings& bindings)
      : data_(variant.data()), bound_(variant::bind(data_.graph, bindings)), reading_(data_.graph, bound_) {}

  /// The new score, or -inf where the entry is removed.
  double score(double s, const Point& point) {
    reading_.enter(place_of(point));
    reading_.set_score(s);
    for (const variant::Stage& stage : data_.stages) {
      const auto value = reading_.evaluate(stage.root);
      if (stage.kind == variant::Stage::Kind::keep && !value.boolean) return -kInfinity;
      if (stage.kind == variant::Stage::Kind::score) reading_.set_score(s = value.real);
    }
    return s;
  }

  double sink(const Point& point) {
    reading_.enter(place_of(point));
    return reading_.evaluate(data_.sink).real;
  }

 private:
  const Variant::Data& data_;
  variant::Bound bound_;
  variant::ScalarReading<double> reading_;
};

class ZooRow : public testing::TestWithParam<Row> {};

TEST_P(ZooRow, MeansWhatItsSourceSays) {
  const Row& row = GetParam();
  const Variant variant = variant_of_call(row.call);
  ASSERT_EQ(variant.has_sink(), row.sink != nullptr);
  // Definitions and graph round the same few operations in another order: some ulp of sums of up to 64 terms.
  constexpr double kRounding = 1e-13;
  int kept = 0, removed = 0, changed = 0;
  for (const Shape& shape : row.shapes) {
    const Filled filled = fill(variant, row.tables(shape));
    Meaning meaning(variant, filled.bindings);
    for_each_point(shape, [&](const Point& point) {
      const std::string where = row.call + " at query " + std::to_string(point.query) + ", key " +
                                std::to_string(point.key) + ", head " + std::to_string(point.head) + ", batch " +
                                std::to_string(point.batch);
      const bool keeps = row.keeps(point);
      (keeps ? kept : removed) += 1;
      for (double s : {-3.5, 0.0, 0.25, 40.0}) {
        const double expected = keeps ? row.score(s, point) : -kInfinity, found = meaning.score(s, point);
        if (keeps && expected != s) ++changed;
        if (keeps && std::isfinite(found)) {
          ASSERT_NEAR(found, expected, kRounding * std::max(1.0, std::abs(expected))) << where;
        } else {
          ASSERT_EQ(found, expected) << where;
        }
      }
      if (row.sink) {
        ASSERT_EQ(meaning.sink(point), row.sink(point)) << where;
        ++changed;
      }
    });
  }
  // A row whose shapes never meet what the variant does could not fail.
  EXPECT_GT(kept, 0);
  EXPECT_TRUE(removed > 0 || changed > 0);
}

std::string test_name(const testing::TestParamInfo<Row>& info) {
  std::string name;
  for (char c : info.param.call) {
    if (std::isalnum(static_cast<unsigned char>(c)) != 0) {
      name += c;
    } else if (!name.empty() && name.back() != '_') {
      name += '_';
    }
  }
  return name + std::to_string(info.index);
}

INSTANTIATE_TEST_SUITE_P(Zoo, ZooRow, testing::ValuesIn(all_rows()), test_name);

TEST(Zoo, EveryEntryHasARow) {
  std::set<std::string> rows;
  for (const Row& row : all_rows()) rows.insert(name_of_call(row.call));
  for (const zoo::Entry& entry : zoo::entries()) {
    EXPECT_TRUE(rows.count(std::string(entry.name)) == 1) << entry.name << " has no test row";
  }
}

TEST(Zoo, EntriesAreSortedAndFound) {
  std::string_view last;
  for (const zoo::Entry& entry : zoo::entries()) {
    EXPECT_LT(last, entry.name);
    EXPECT_EQ(zoo::find(entry.name), &entry);
    last = entry.name;
  }
  for (const char* unknown : {"", "a", "windo", "windows", "zzz"}) EXPECT_EQ(zoo::find(unknown), nullptr);
}

TEST(Zoo, ExamplesWork) {
  for (const zoo::Entry& entry : zoo::entries()) {
    EXPECT_EQ(name_of_call(std::string(entry.example)), entry.name);
    const Variant variant = variant_of_call(std::string(entry.example));
    EXPECT_TRUE(!variant.data().stages.empty() || variant.has_sink()) << entry.example;
    for (const Table& table : variant.tables()) {
      const bool is_named = entry.summary.find("`" + table.name() + "`") != std::string_view::npos;
      EXPECT_EQ(is_named, !table.frozen_data().has_value())
          << entry.name << ": the summary names the tables that are to be bound, and no others; '" << table.name()
          << "'";
    }
  }
}

TEST(Zoo, DefaultsStandAtTheEnd) {
  for (const zoo::Entry& entry : zoo::entries()) {
    bool any_default = false;
    for (const zoo::ArgumentInfo& argument : entry.arguments) {
      EXPECT_FALSE(any_default && !argument.has_default) << entry.name << ": " << argument.name;
      any_default = argument.has_default;
      const bool is_list = std::holds_alternative<std::vector<std::int32_t>>(argument.default_value);
      EXPECT_EQ(argument.has_default && is_list, argument.has_default && argument.kind == zoo::ArgumentKind::integers)
          << entry.name;
    }
  }
}

}  // namespace
}  // namespace tilewise
