#include "options.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <tuple>

namespace nb = nanobind;

namespace tilewise::python {

BoundArrays::BoundArrays(const Options& options) {
  for (const auto& [table, object] : options.tables) {
    arrays_.push_back(std::make_unique<Array>(object, table.name().c_str()));
    tables_.push_back({table, arrays_.back()->read()});
  }
}

namespace {

// tilewise.Sequence, a tuple with names: torch.compile reads such, but no type of an extension module.
using Fields = std::tuple<std::int64_t, std::int64_t, std::optional<std::int64_t>, std::int64_t, std::int64_t,
                          std::int64_t, std::int64_t>;

std::vector<Sequence> sequences_of(const std::vector<Fields>& all) {
  std::vector<Sequence> sequences;
  sequences.reserve(all.size());
  for (const Fields& fields : all) sequences.push_back(std::make_from_tuple<Sequence>(fields));
  return sequences;
}

std::vector<Fields> fields_of(const std::vector<Sequence>& sequences) {
  std::vector<Fields> all;
  all.reserve(sequences.size());
  for (const Sequence& each : sequences) {
    all.emplace_back(each.s_q, each.s_kv, each.query_offset, each.key_offset, each.key_start, each.first_query_token,
                     each.first_key_token);
  }
  return all;
}

}  // namespace

void bind_options(nb::module_& module) {
  nb::enum_<Layout>(module, "Layout").value("bhsd", Layout::bhsd).value("bshd", Layout::bshd);
  nb::class_<Options>(module, "Options")
      .def(nb::init<>())
      .def("copy", [](const Options& options) { return Options(options); })
      .def_rw("layout", &Options::layout)
      .def_rw("scale", &Options::scale, nb::arg().none())
      .def_rw("tables", &Options::tables)
      .def("set_parameters",
           [](Options& options, const std::vector<std::pair<Parameter, double>>& values) {
             options.parameters.clear();
             for (const auto& [parameter, value] : values) options.parameters.push_back({parameter, value});
           })
      .def_prop_rw(
          "sequences", [](const Options& options) { return fields_of(options.sequences); },
          [](Options& options, const std::vector<Fields>& all) { options.sequences = sequences_of(all); })
      .def_rw("query_offset", &Options::query_offset, nb::arg().none())
      .def_rw("dropout", &Options::dropout, nb::arg().none())
      .def_rw("seed", &Options::seed)
      .def_rw("seed_offset", &Options::seed_offset)
      .def_rw("deterministic", &Options::deterministic)
      .def_rw("block_table", &Options::block_table, nb::arg().none())
      .def_rw("k_scales", &Options::k_scales, nb::arg().none())
      .def_rw("v_scales", &Options::v_scales, nb::arg().none());
  module.attr("PLAIN") = nb::cast(Options());
}

}  // namespace tilewise::python
