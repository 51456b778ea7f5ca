// What a call in Python says besides q, k and v.
#pragma once

#include <nanobind/nanobind.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "arrays.h"
#include "tilewise/arguments.h"

namespace tilewise::python {

/// The options of a call; the fields are those of ForwardInputs, with arrays as Python objects.
struct Options {
  Layout layout = Layout::bhsd;
  std::optional<double> scale{};
  std::vector<std::pair<Table, nanobind::object>> tables{};
  std::vector<ParameterBinding> parameters{};
  std::vector<Sequence> sequences{};
  std::optional<std::int64_t> query_offset{};  // of every sequence
  std::optional<double> dropout{};
  std::uint64_t seed = 0;
  std::uint64_t seed_offset = 0;
  bool deterministic = false;      // of the backward pass
  nanobind::object block_table{};  // these three may be null or None
  nanobind::object k_scales{};
  nanobind::object v_scales{};
};

/// The arrays that options bind to tables, for as long as this lives.
class BoundArrays {
 public:
  explicit BoundArrays(const Options& options);
  const std::vector<TableBinding>& tables() const { return tables_; }

 private:
  std::vector<std::unique_ptr<Array>> arrays_;
  std::vector<TableBinding> tables_;
};

void bind_options(nanobind::module_& module);

}  // namespace tilewise::python
