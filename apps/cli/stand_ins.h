// Data that stands in for what a call would bind, so that a variant can be explained without the user's data.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tilewise/problem.h"
#include "tilewise/variant.h"

namespace tilewise::cli {

/// Zeros for tables of numbers, true for masks; parameters as `parameters` gives them, each as NAME=VALUE. Throws Error
/// on a parameter that has no value, or two, and on a value for none; where a kept entry may read outside of a table
/// (as planning does); and where the tables would take too much memory.
class StandIns {
 public:
  StandIns(const Variant& variant, const Problem& problem, const std::vector<std::string>& parameters);

  const Bindings& bindings() const { return bindings_; }

  /// A line for each table: what it was taken to be.
  const std::string& text() const { return text_; }

 private:
  void add(const Table& table, const std::vector<std::int64_t>& extents);

  Bindings bindings_;
  std::vector<std::vector<std::byte>> memory_;
  std::string text_;
};

}  // namespace tilewise::cli
