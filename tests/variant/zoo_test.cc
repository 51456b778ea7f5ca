// Every named variant's graph against its definition in the rows, entry by entry.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "tests/variant/round_trip.h"
#include "tests/variant/zoo_rows.h"
#include "tilewise/error.h"
#include "tilewise/zoo_entry.h"
#include "variant/scalar.h"

namespace tilewise {
namespace {

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
  const Variant variant = parse_variant(row.call);
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

TEST_P(ZooRow, ReadsBackFromItsText) { expect_round_trip(parse_variant(GetParam().call)); }

TEST_P(ZooRow, RefusesBadArguments) {
  for (const Refusal& refusal : GetParam().refuses) {
    try {
      parse_variant(refusal.call);
      ADD_FAILURE() << refusal.call << " was taken";
    } catch (const Error& error) {
      const std::string message = error.what();
      EXPECT_NE(message.find(name_of_call(refusal.call) + "(): "), std::string::npos) << message;
      EXPECT_NE(message.find(refusal.message), std::string::npos) << message << "\nexpected: " << refusal.message;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Zoo, ZooRow, testing::ValuesIn(all_rows()), row_name);

TEST(Zoo, EveryEntryHasARow) {
  std::set<std::string> rows;
  for (const Row& row : all_rows()) rows.insert(name_of_call(row.call));
  for (const zoo::Entry& entry : zoo::entries()) {
    EXPECT_TRUE(rows.count(std::string(entry.name)) == 1) << entry.name << " has no test row";
  }
}

TEST(Zoo, EveryEntryWithArgumentsRefusesSome) {
  std::set<std::string> refused;
  for (const Row& row : all_rows()) {
    for (const Refusal& refusal : row.refuses) refused.insert(name_of_call(refusal.call));
  }
  for (const zoo::Entry& entry : zoo::entries()) {
    EXPECT_EQ(refused.count(std::string(entry.name)), entry.arguments.empty() ? 0u : 1u) << entry.name;
  }
}

/// What a call of the entry with these arguments says.
std::string refusal_of(std::string_view name, std::vector<zoo::Argument> arguments) {
  try {
    zoo::find(name)->make(arguments);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::invalid_argument);
    return error.what();
  }
  return "was taken";
}

TEST(Zoo, EntriesRefuseArgumentsOfAnotherKind) {
  EXPECT_EQ(refusal_of("window", {2.5}), "window(): size is 2.5, expected an int");
  EXPECT_EQ(refusal_of("window", {3e9}), "window(): size is 3000000000, expected an int");
  EXPECT_EQ(refusal_of("window", {-2147483649.0}), "window(): size is -2147483649, expected an int");
  EXPECT_EQ(refusal_of("window", {std::nan("")}), "window(): size is nan, expected an int");
  EXPECT_EQ(refusal_of("window", {0.0}), "window(): size is 0, expected at least 1");
  EXPECT_EQ(refusal_of("window", {std::vector<std::int32_t>{4}}), "window(): size is a list, expected a number");
  EXPECT_EQ(refusal_of("softcap", {kInfinity}), "softcap(): cap is inf, expected a finite number above 0");
  EXPECT_EQ(refusal_of("documents", {3.0}), "documents(): lengths is the number 3, expected a list such as [1, 2]");
  EXPECT_EQ(refusal_of("t5_buckets", {32.0, 128.0, 2.0}), "t5_buckets(): bidirectional is 2, expected 0 or 1");
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
    const Variant variant = parse_variant(std::string(entry.example));
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
