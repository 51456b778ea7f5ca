#include "tests/attention/axes.h"

#include <cmath>
#include <iterator>
#include <limits>

#include "cpu/select.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::attention::testing {

const std::vector<std::string>& isas() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> found;
    for (const cpu::Kernels* kernels : cpu::available_kernels()) found.emplace_back(kernels->name);
    return found;
  }();
  return names;
}

Call::Call(const Combination& of)
    : combination(of),
      dtype(value_of(kDTypes, of, kDTypeAxis).first),
      kv_dtype(value_of(kDTypes, of, kDTypeAxis).second) {
  shape.h_q = value_of(kHeads, of, kHeadsAxis).first;
  shape.h_kv = value_of(kHeads, of, kHeadsAxis).second;
  shape.d_qk = value_of(kDimensions, of, kDQkAxis);
  shape.d_v = value_of(kDimensions, of, kDVAxis);
  const int rows = of[kSequencesAxis];
  shape.queries_packed = rows == 2 || rows == 3;
  shape.keys_packed = rows == 2 || rows == 4;
  scale = value_of(kScales, of, kScaleAxis) / std::sqrt(static_cast<double>(shape.d_qk));
  const int pass = of[kPassAxis];
  backward = pass >= 2;
  has_lse = pass != 1;
  has_d_lse = pass == 3;
  make_sequences();
}

void Call::make_sequences() {
  const std::int64_t s_q = value_of(kQueries, combination, kQueriesAxis);
  const std::int64_t s_kv = value_of(kKeys, combination, kKeysAxis);
  std::int64_t query_token = 0, key_token = 0;
  shape.sequences.clear();
  const auto add = [&](std::int64_t queries, std::int64_t keys) {
    Sequence sequence{.s_q = queries, .s_kv = keys};
    const int places = combination[kPositionsAxis];
    if (places == 1) sequence.query_offset = 0;
    if (places == 2) sequence.query_offset = 5, sequence.key_offset = -7;
    if (places == 3) sequence.key_start = keys / 3;
    if (places == kExtremes) {  // differences of positions wrap
      sequence.query_offset = std::numeric_limits<std::int32_t>::max() - queries;
      sequence.key_offset = std::numeric_limits<std::int32_t>::min() + 11;
    }
    if (places == 4 && shape.sequences.empty()) sequence.key_start = keys;
    sequence.first_query_token = query_token;
    sequence.first_key_token = key_token;
    query_token += queries + (shape.queries_packed ? 2 : 0);  // rows of no sequence
    key_token += keys + (shape.keys_packed ? 3 : 0);
    shape.sequences.push_back(sequence);
  };
  const std::int64_t b = value_of(kBatches, combination, kBatchAxis);
  for (std::int64_t i = 0; i < b; ++i) {
    const bool shorter = combination[kSequencesAxis] > 0 && i > 0;
    add(shorter ? s_q * i / (i + 2) : s_q, shorter ? s_kv * 2 / (i + 3) : s_kv);
  }
  if (combination[kSequencesAxis] < 2 || b == 1) return;
  add(0, s_kv);  // among others in packed storage
  add(s_q, 0);
  add(0, 0);
}

std::span<const int> axis_sizes() {
  static const std::vector<int> sizes{std::size(kDTypes),
                                      std::size(kQueries),
                                      std::size(kKeys),
                                      std::size(kDimensions),
                                      std::size(kDimensions),
                                      std::size(kHeads),
                                      std::size(kBatches),
                                      std::size(kInputLayouts),
                                      std::size(kInputLayouts),
                                      std::size(kOutputLayouts),
                                      std::size(kSequences),
                                      std::size(kPositions),
                                      kFirstNamed + static_cast<int>(zoo::entries().size()),
                                      std::size(kInputs),
                                      std::size(kPasses),
                                      std::size(kScales),
                                      2,
                                      2,
                                      2,
                                      2,
                                      std::size(kWorkers),
                                      static_cast<int>(isas().size())};
  return sizes;
}

double combinations() {
  double all = 1;
  for (const int size : axis_sizes()) all *= size;
  return all;
}

double cost_of(const Combination& combination) {
  const Combination& of = combination;
  const auto entries = static_cast<double>(value_of(kQueries, of, kQueriesAxis) * value_of(kKeys, of, kKeysAxis));
  const auto heads = static_cast<double>(value_of(kHeads, of, kHeadsAxis).first * value_of(kBatches, of, kBatchAxis));
  const auto d = static_cast<double>(value_of(kDimensions, of, kDQkAxis) + value_of(kDimensions, of, kDVAxis));
  const double passes = of[kPassAxis] >= 2 ? 4.5 : 1;
  return 2 * passes * entries * heads * (d + 50);  // an entry's exponential and variant cost about 50 products
}

std::string describe(const Combination& combination) {
  const Call call(combination);
  const auto name = [&](const auto& names, Axis axis) { return names[static_cast<std::size_t>(combination[axis])]; };
  std::string text;
  const auto say = [&](Axis axis, const std::string& value) {
    text += std::string(text.empty() ? "" : " ") + kAxisNames[axis] + "=" + value;
  };
  say(kDTypeAxis, std::string(to_string(call.dtype)) + "/" + to_string(call.kv_dtype));
  say(kQueriesAxis, std::to_string(name(kQueries, kQueriesAxis)));
  say(kKeysAxis, std::to_string(name(kKeys, kKeysAxis)));
  say(kDQkAxis, std::to_string(call.shape.d_qk));
  say(kDVAxis, std::to_string(call.shape.d_v));
  say(kHeadsAxis, std::to_string(call.shape.h_q) + "/" + std::to_string(call.shape.h_kv));
  say(kBatchAxis, std::to_string(name(kBatches, kBatchAxis)));
  say(kQLayoutAxis, name(kLayouts, kQLayoutAxis));
  say(kKvLayoutAxis, name(kLayouts, kKvLayoutAxis));
  say(kOutputLayoutAxis, name(kLayouts, kOutputLayoutAxis));
  say(kSequencesAxis, name(kSequences, kSequencesAxis));
  say(kPositionsAxis, name(kPositions, kPositionsAxis));
  const int variant = combination[kVariantAxis];
  say(kVariantAxis, takes_named(combination)
                        ? std::string(zoo::entries()[static_cast<std::size_t>(variant - kFirstNamed)].name)
                        : kOwnVariants[variant]);
  say(kInputsAxis, name(kInputs, kInputsAxis));
  say(kPassAxis, name(kPasses, kPassAxis));
  say(kScaleAxis, std::to_string(name(kScales, kScaleAxis)));
  say(kDropoutAxis, combination[kDropoutAxis] == 1 ? "yes" : "no");
  say(kLseDTypeAxis, combination[kLseDTypeAxis] == 1 ? "float64" : "float32");
  say(kRoomAxis, combination[kRoomAxis] == 1 ? "some" : "none");
  say(kGuardAxis, combination[kGuardAxis] == 1 ? "before" : "behind");
  say(kWorkersAxis, std::to_string(name(kWorkers, kWorkersAxis)));
  say(kIsaAxis, isas()[static_cast<std::size_t>(combination[kIsaAxis])]);
  return text;
}

std::size_t axis_of(std::string_view name) {
  return static_cast<std::size_t>(std::ranges::find(kAxisNames, name) - std::begin(kAxisNames));
}

int value_of_isa(std::string_view name) {
  const auto at = std::ranges::find(isas(), name);
  return at == isas().end() ? -1 : static_cast<int>(at - isas().begin());
}

bool takes_named(const Combination& combination) { return combination[kVariantAxis] >= kFirstNamed; }

}  // namespace tilewise::attention::testing
