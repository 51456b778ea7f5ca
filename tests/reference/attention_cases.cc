#include "tests/reference/attention_cases.h"

#include <algorithm>
#include <cmath>
#include <random>

namespace tilewise::reference {
namespace {

constexpr std::int64_t kReach = 3;  // clipped distances run from -kReach to kReach; unclipped ones go further

using Score = std::optional<long double>;

/// Makes the cases of one shape.
class Maker {
 public:
  Maker(const Shape& shape, std::uint64_t seed) : h_q_(shape.h_q), engine_(seed) {
    b_ = static_cast<std::int64_t>(shape.sequences.size());
    for (const Sequence& sequence : shape.sequences) {
      s_q_ = std::max(s_q_, sequence.s_q), s_kv_ = std::max(s_kv_, sequence.s_kv);
      query_tokens_ = std::max(query_tokens_, sequence.first_query_token + sequence.s_q);
      key_tokens_ = std::max(key_tokens_, sequence.first_key_token + sequence.s_kv);
    }
  }

  /// A table of reals to be differentiated, random normal.
  TableData table(const char* name, std::vector<std::int64_t> extents) {
    const int rank = static_cast<int>(extents.size());
    TableData data(Table(name, DType::float64, rank), std::move(extents));
    for (std::int64_t i = 0; i < data.size(); ++i) data.set(i, std::normal_distribution<double>()(engine_));
    return data;
  }

  /// A list of whole numbers below `values`.
  TableData list(const char* name, DType dtype, std::int64_t extent, int values) {
    TableData data(Table(name, dtype, 1), {extent});
    for (std::int64_t i = 0; i < data.size(); ++i) data.set(i, std::uniform_int_distribution(0, values - 1)(engine_));
    return data;
  }

  Case plain() { return {.name = "plain", .variant = {}, .tables = {}, .parameters = {}}; }

  Case negative_scale_softcap() {
    return {.name = "negative_scale_softcap",
            .variant = keep([](const At& at) { return at.query >= at.key; }) &
                       score([](Expr s, const At&) { return 1.5 * tanh(s / 1.5); }),
            .tables = {},
            .parameters = {},
            .scale = -0.8,
            .score = [](const Case&, long double s, const Where& at) -> Score {
              if (at.query < at.key) return {};
              return 1.5L * std::tanh(s / 1.5L);
            }};
  }

  Case zero_scale_temperature() {
    Parameter temperature("temperature");
    return {.name = "zero_scale_temperature",
            .variant = score([&](Expr s, const At& at) { return s + temperature * sin(to_real(at.key)); }),
            .tables = {},
            .parameters = {{temperature, 0.7}},
            .scale = 0.0,
            .score = [](const Case& c, long double s, const Where& at) -> Score {
              return s + c.parameters[0].value * std::sin(static_cast<long double>(at.key));
            }};
  }

  Case frozen_slopes() {
    std::vector<float> slopes(static_cast<std::size_t>(h_q_));
    for (std::size_t i = 0; i < slopes.size(); ++i) slopes[i] = std::exp2(-static_cast<float>(i) - 1);
    const Table slope = Table::frozen("slope", ConstTensor(slopes.data(), DType::float32, {h_q_}));
    return {.name = "frozen_slopes",
            .variant = keep([](const At& at) { return at.query >= at.key && at.query - at.key < 3; }) &
                       score([&](Expr s, const At& at) { return s - slope(at.head) * abs(at.query - at.key); }),
            .tables = {},
            .parameters = {},
            .score = [slopes](const Case&, long double s, const Where& at) -> Score {
              if (at.query < at.key || at.query - at.key >= 3) return {};
              return s - slopes[static_cast<std::size_t>(at.head)] * static_cast<long double>(at.query - at.key);
            }};
  }

  Case clipped_distance() {
    TableData bias = table("bias", {h_q_, 2 * kReach + 1});
    const Table& read = bias.table();
    return {
        .name = "clipped_distance",
        .variant = score([&](Expr s, const At& at) { return s + read.clamped(at.head, at.query - at.key + kReach); }),
        .tables = {bias},
        .parameters = {},
        .score = [](const Case& c, long double s, const Where& at) -> Score {
          const std::int64_t distance = std::clamp<std::int64_t>(at.query - at.key, -kReach, kReach);
          return s + c.tables[0].at({at.head, distance + kReach});
        }};
  }

  Case pair_bias() {
    TableData pair = table("pair", {b_, h_q_, s_q_, s_kv_});
    const Table& read = pair.table();
    Parameter temperature("temperature", 0, 10);
    return {.name = "pair_bias",
            .variant = score([&](Expr s, const At& at) {
              return s * temperature + read(at.batch, at.head, at.query_index, at.key_index);
            }),
            .tables = {pair},
            .parameters = {{temperature, 1.3}},
            .score = [](const Case& c, long double s, const Where& at) -> Score {
              return s * c.parameters[0].value + c.tables[0].at({at.batch, at.head, at.query_index, at.key_index});
            }};
  }

  Case query_and_key_tables() {
    TableData gain = table("gain", {s_q_}), bias = table("bias", {h_q_, s_kv_});
    const Table &read_gain = gain.table(), &read_bias = bias.table();
    return {.name = "query_and_key_tables",
            .variant = score([&](Expr s, const At& at) {
              return s * exp(read_gain(at.query_index) / 4.0) + read_bias(at.head, at.key_index);
            }),
            .tables = {gain, bias},
            .parameters = {},
            .score = [](const Case& c, long double s, const Where& at) -> Score {
              return s * std::exp(c.tables[0].at({at.query_index}) / 4) + c.tables[1].at({at.head, at.key_index});
            }};
  }

  Case chain_of_stages() {
    TableData bias = table("bias", {h_q_, 2 * kReach + 1});
    const Table& read = bias.table();
    Parameter gain("gain"), shift("shift");
    return {.name = "chain_of_stages",
            .variant =
                score([](Expr s, const At&) { return 3.0 * tanh(s / 3.0); }) &
                keep([](const At& at) { return (at.query + at.key) % 4 != 1; }) & score([&](Expr s, const At& at) {
                  return s * exp(gain) + read.clamped(at.head, at.query - at.key + kReach) * sigmoid(s);
                }) &
                score([&](Expr s, const At& at) { return log(1.0 + exp(s + shift)) + read.clamped(0, at.key_index); }),
            .tables = {bias},
            .parameters = {{gain, 0.2}, {shift, -0.4}},
            .score = [](const Case& c, long double s, const Where& at) -> Score {
              const auto clipped = [](std::int64_t x) { return std::clamp<std::int64_t>(x, 0, 2 * kReach); };
              s = 3 * std::tanh(s / 3);
              if ((((at.query + at.key) % 4) + 4) % 4 == 1) return {};
              s = s * std::exp(static_cast<long double>(c.parameters[0].value)) +
                  c.tables[0].at({at.head, clipped(at.query - at.key + kReach)}) / (1 + std::exp(-s));
              return std::log(1 + std::exp(s + c.parameters[1].value)) + c.tables[0].at({0, clipped(at.key_index)});
            }};
  }

  Case sink_of_table_and_parameter() {
    TableData logit = table("logit", {h_q_});
    const Table& read = logit.table();
    Parameter gain("gain");
    Case c = negative_scale_softcap();
    c.name = "sink_of_table_and_parameter";
    c.variant = c.variant & sink([&](const At& at) { return read(at.head) * gain + 0.25 * to_real(at.batch); });
    c.tables = {logit};
    c.parameters = {{gain, 1.5}};
    c.sink = [](const Case& self, const Where& at) -> long double {
      return self.tables[0].at({at.head}) * self.parameters[0].value + 0.25L * static_cast<long double>(at.batch);
    };
    return c;
  }

  Case dropout_and_sink() {
    Case c = sink_of_table_and_parameter();
    c.name = "dropout_and_sink";
    c.variant = c.variant & tilewise::dropout(0.375);
    c.dropout = 0.375;
    return c;
  }

  Case dropout_and_bias() {
    Case c = clipped_distance();
    c.name = "dropout_and_bias";
    c.variant = tilewise::dropout(0.5) & c.variant;
    c.dropout = 0.5;
    return c;
  }

  Case additive_mask() {
    TableData addend = table("addend", {h_q_, s_q_, s_kv_});
    for (std::int64_t i = 0; i < addend.size(); i += 2) addend.set(i, -kInfinity);
    const Table& read = addend.table();
    return {.name = "additive_mask",
            .variant = score([&](Expr s, const At& at) { return s + read(at.head, at.query_index, at.key_index); }),
            .tables = {addend},
            .parameters = {},
            .score = [](const Case& c, long double s, const Where& at) -> Score {
              const double value = c.tables[0].at({at.head, at.query_index, at.key_index});
              return value == -kInfinity ? Score() : s + value;
            }};
  }

  Case lowest_float() {
    // Query index 0 keeps all its keys at finfo.min: they are clamped to one score, whatever the table holds.
    TableData bias = table("bias", {s_kv_});
    const Table& read = bias.table();
    return {.name = "lowest_float",
            .variant =
                score([&](Expr s, const At& at) { return s + read(at.key_index); }) & score([](Expr s, const At& at) {
                  return select(at.key_index < at.query_index, s, s * 1e30 - 3.4028234663852886e38);
                }),
            .tables = {bias},
            .parameters = {},
            .score = [](const Case& c, long double s, const Where& at) -> Score {
              return at.key_index < at.query_index ? s + c.tables[0].at({at.key_index}) : -0x1p126L;
            }};
  }

  Case documents() {
    TableData of_query = list("of_query", DType::int32, query_tokens_, 2);
    TableData of_key = list("of_key", DType::uint8, key_tokens_, 2);
    const Table &read_query = of_query.table(), &read_key = of_key.table();
    return {.name = "documents",
            .variant = keep([&](const At& at) { return read_query(at.query_token) == read_key(at.key_token); }),
            .tables = {of_query, of_key},
            .parameters = {},
            .score = [](const Case& c, long double s, const Where& at) -> Score {
              return c.tables[0].at({at.query_token}) == c.tables[1].at({at.key_token}) ? Score(s) : Score();
            }};
  }

  Case int_parameter_and_lengths() {
    const Parameter period = Parameter::integer("period", 1, 100);
    Parameter boost("boost");
    return {
        .name = "int_parameter_and_lengths",
        .variant = score([&](Expr s, const At& at) {
          const Expr marked = at.key == floor_divide(at.key, period) * period;
          return select(marked, s * boost, s) + sqrt(to_real(at.keys)) * s / (1.0 + to_real(at.queries + at.kv_head));
        }),
        .tables = {},
        .parameters = {{period, 3}, {boost, -1.25}},
        .score = [](const Case& c, long double s, const Where& at) -> Score {
          const bool marked = at.key % 3 == 0;
          return (marked ? s * c.parameters[1].value : s) + std::sqrt(static_cast<long double>(at.keys)) * s /
                                                                static_cast<long double>(1 + at.queries + at.kv_head);
        }};
  }

 private:
  std::int64_t b_ = 0, h_q_, s_q_ = 0, s_kv_ = 0, query_tokens_ = 0, key_tokens_ = 0;
  std::mt19937_64 engine_;
};

}  // namespace

TableData::TableData(Table table, std::vector<std::int64_t> extents)
    : table_(std::move(table)), extents_(std::move(extents)) {
  std::int64_t elements = 1;
  for (std::int64_t extent : extents_) elements *= extent;
  bytes_.resize(static_cast<std::size_t>(elements * size_of(table_.dtype())));
}

double TableData::get(std::int64_t element) const {
  const std::byte* address = bytes_.data() + element * size_of(table_.dtype());
  return is_floating(table_.dtype()) ? load_real(address, table_.dtype())
                                     : static_cast<double>(load_int(address, table_.dtype()));
}

void TableData::set(std::int64_t element, double value) {
  std::byte* address = bytes_.data() + element * size_of(table_.dtype());
  if (is_floating(table_.dtype()))
    store_real(address, table_.dtype(), value);
  else
    store_int(address, table_.dtype(), static_cast<std::int64_t>(value));
}

double TableData::at(std::initializer_list<std::int64_t> index) const {
  std::int64_t element = 0;
  std::size_t axis = 0;
  for (std::int64_t i : index) element = element * extents_[axis++] + i;
  return get(element);
}

void Case::bind(ForwardInputs& inputs) const {
  inputs.tables.clear();
  for (const TableData& data : tables) inputs.tables.push_back({data.table(), data.view()});
  inputs.parameters = parameters;
  inputs.scale = scale;
}

std::vector<Case> attention_cases(const Shape& shape, std::uint64_t seed) {
  Maker maker(shape, seed);
  return {maker.plain(),
          maker.negative_scale_softcap(),
          maker.zero_scale_temperature(),
          maker.frozen_slopes(),
          maker.clipped_distance(),
          maker.pair_bias(),
          maker.query_and_key_tables(),
          maker.chain_of_stages(),
          maker.sink_of_table_and_parameter(),
          maker.dropout_and_sink(),
          maker.dropout_and_bias(),
          maker.additive_mask(),
          maker.lowest_float(),
          maker.documents(),
          maker.int_parameter_and_lengths()};
}

Shape ordinary_shape() {
  return {.h_q = 4,
          .h_kv = 2,
          .d_qk = 3,
          .d_v = 2,
          .sequences = {{.s_q = 4, .s_kv = 5, .first_query_token = 2, .first_key_token = 6},
                        {.s_q = 2, .s_kv = 6, .query_offset = 7, .key_offset = 4, .key_start = 2}},
          .queries_packed = true,
          .keys_packed = true};
}

Shape random_shape(std::uint64_t seed) {
  std::mt19937_64 engine(seed);
  const auto between = [&](std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(engine);
  };
  Shape shape{.h_kv = between(1, 2), .d_qk = between(1, 4), .d_v = between(1, 3), .sequences = {}};
  shape.h_q = shape.h_kv * between(1, 3);
  shape.queries_packed = between(0, 1), shape.keys_packed = between(0, 1), shape.heads_inside = between(0, 1);
  std::int64_t query_token = 0, key_token = 0;
  for (std::int64_t left = between(1, 3); left > 0; --left) {
    Sequence sequence{.s_q = between(0, 6), .s_kv = between(0, 7)};
    if (between(0, 1)) sequence.query_offset = between(-5, 9);
    sequence.key_offset = between(0, 1) * between(-5, 9);
    sequence.key_start = between(0, 1) * between(0, sequence.s_kv);
    sequence.first_query_token = query_token += between(0, 1);
    sequence.first_key_token = key_token += between(0, 1);
    query_token += sequence.s_q, key_token += sequence.s_kv;
    shape.sequences.push_back(sequence);
  }
  return shape;
}

}  // namespace tilewise::reference
