#include "tests/variant/zoo_rows.h"

#include <algorithm>
#include <array>
#include <cctype>

#include "variant/bindings.h"

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

std::vector<Row> all_rows() {
  std::vector<Row> rows;
  for (const auto& part : {mask_rows(), pattern_rows(), score_rows()})
    rows.insert(rows.end(), part.begin(), part.end());
  return rows;
}

std::string name_of_call(const std::string& call) { return call.substr(0, call.find('(')); }

std::string row_name(const testing::TestParamInfo<Row>& info) {
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

namespace {

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

}  // namespace

Filled fill(const Variant& variant, const std::vector<TableData>& tables) {
  Filled filled;
  for (const TableData& data : tables) {
    for (const Table& table : variant.tables()) {
      if (table.name() == data.name) fill(filled, table, data);
    }
  }
  return filled;
}

}  // namespace tilewise
