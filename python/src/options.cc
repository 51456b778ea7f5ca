#include "options.h"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;

namespace tilewise::python {

BoundArrays::BoundArrays(const Options& options) {
  for (const auto& [table, object] : options.tables) {
    arrays_.push_back(std::make_unique<Array>(object, table.name().c_str()));
    tables_.push_back({table, arrays_.back()->read()});
  }
}

void bind_options(nb::module_& module) {
  nb::enum_<Layout>(module, "Layout").value("bhsd", Layout::bhsd).value("bshd", Layout::bshd);
  nb::class_<Sequence>(module, "Sequence")
      .def(
          "__init__",
          [](Sequence* place, std::int64_t s_q, std::int64_t s_kv, std::optional<std::int64_t> query_offset,
             std::int64_t key_offset, std::int64_t key_start, std::int64_t first_query_token,
             std::int64_t first_key_token) {
            new (place) Sequence{s_q, s_kv, query_offset, key_offset, key_start, first_query_token, first_key_token};
          },
          nb::arg("s_q"), nb::arg("s_kv"), nb::arg("query_offset") = nb::none(), nb::arg("key_offset") = 0,
          nb::arg("key_start") = 0, nb::arg("first_query_token") = 0, nb::arg("first_key_token") = 0)
      .def_rw("s_q", &Sequence::s_q)
      .def_rw("s_kv", &Sequence::s_kv)
      .def_rw("query_offset", &Sequence::query_offset)
      .def_rw("key_offset", &Sequence::key_offset)
      .def_rw("key_start", &Sequence::key_start)
      .def_rw("first_query_token", &Sequence::first_query_token)
      .def_rw("first_key_token", &Sequence::first_key_token);
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
      .def_rw("sequences", &Options::sequences)
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
