#include "stand_ins.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "table.h"
#include "tilewise/error.h"
#include "tilewise/tiles.h"

namespace tilewise::cli {
namespace {

constexpr std::int64_t kMostBytes = std::int64_t{1} << 30;

double number_of(const std::string& assignment, const std::string& text) {
  std::size_t used = 0;
  try {
    const double value = std::stod(text, &used);
    if (used == text.size()) return value;
  } catch (const std::logic_error&) {  // what stod throws where there is no number, or one too large
  }
  throw Error(ErrorCode::invalid_argument, fmt::format("--parameter {}: '{}' is not a number", assignment, text));
}

/// The NAME of NAME=VALUE.
std::string name_in(const std::string& assignment) {
  const std::size_t equals = assignment.find('=');
  if (equals != std::string::npos) return assignment.substr(0, equals);
  throw Error(ErrorCode::invalid_argument, fmt::format("--parameter {}: expected NAME=VALUE", assignment));
}

/// Each assignment belongs to a parameter, and no two to the same one.
void check_names(const std::vector<Parameter>& parameters, const std::vector<std::string>& given) {
  std::set<std::string> seen;
  for (const std::string& assignment : given) {
    const std::string name = name_in(assignment);
    const auto is_it = [&](const Parameter& parameter) { return parameter.name() == name; };
    if (std::none_of(parameters.begin(), parameters.end(), is_it)) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--parameter {}: the variant has no parameter '{}'", assignment, name));
    }
    if (!seen.insert(name).second) {
      throw Error(ErrorCode::invalid_argument,
                  fmt::format("--parameter {}: parameter '{}' has a value already; give it once", assignment, name));
    }
  }
}

double value_of(const Parameter& parameter, const std::vector<std::string>& given) {
  for (const std::string& assignment : given) {
    const std::string name = name_in(assignment);
    if (name == parameter.name()) return number_of(assignment, assignment.substr(name.size() + 1));
  }
  throw Error(ErrorCode::invalid_argument, fmt::format("parameter '{}' has no value; give it as --parameter {}=NUMBER",
                                                       parameter.name(), parameter.name()));
}

}  // namespace

StandIns::StandIns(const Variant& variant, const Problem& problem, const std::vector<std::string>& parameters) {
  check_names(variant.parameters(), parameters);
  const auto extents = fitting_extents(variant, problem);
  expect_reads_inside(variant, extents, problem);
  for (std::size_t i = 0; i < variant.tables().size(); ++i) {
    if (!variant.tables()[i].frozen_data()) add(variant.tables()[i], extents[i]);
  }
  for (const Parameter& parameter : variant.parameters()) {
    bindings_.parameters.push_back({parameter, value_of(parameter, parameters)});
  }
}

void StandIns::add(const Table& table, const std::vector<std::int64_t>& extents) {
  std::int64_t bytes = size_of(table.dtype());
  for (std::int64_t extent : extents) bytes = bytes > kMostBytes ? bytes : bytes * extent;
  if (bytes > kMostBytes) {
    throw Error(
        ErrorCode::invalid_argument,
        fmt::format(
            "table '{}' [{}] would take more than {} to stand in for; choose fewer --queries, --keys or --heads",
            table.name(), fmt::join(extents, ", "), bytes_text(static_cast<double>(kMostBytes))));
  }
  // A mask of zeros would keep nothing; one of ones keeps everything, as an absent one does.
  const bool is_mask = table.type() == Type::boolean;
  memory_.emplace_back(static_cast<std::size_t>(bytes), is_mask ? std::byte{1} : std::byte{0});
  bindings_.tables.push_back({table, ConstTensor(memory_.back().data(), table.dtype(), extents)});
  text_ += fmt::format("table {} {} [{}] is to be bound; taken as all {} here\n", to_string(table.dtype()),
                       table.name(), fmt::join(extents, ", "), is_mask ? "true" : "0");
}

}  // namespace tilewise::cli
