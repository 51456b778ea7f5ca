// Variants, their tables and parameters, and what can be asked of them.
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <string>
#include <vector>

#include "arrays.h"
#include "expressions.h"
#include "options.h"
#include "recipe.h"
#include "tilewise/error.h"
#include "tilewise/tiles.h"
#include "tilewise/zoo_entry.h"

namespace nb = nanobind;

namespace tilewise::python {

namespace {

using RecipePointer = std::shared_ptr<Recipe>;

RecipePointer recipe_of(Variant variant) { return std::make_shared<Recipe>(std::move(variant)); }

void bind_tables(nb::module_& module) {
  nb::class_<Table>(module, "Table")
      .def(nb::new_([](const std::string& name, const std::string& dtype, int rank) {
             return Table(name, dtype_from_string(dtype), rank);
           }),
           nb::arg("name"), nb::arg("dtype"), nb::arg("rank"))
      .def_static(
          "frozen",
          [](const std::string& name, nb::handle data) {
            return Table::frozen(name, Array(data, name.c_str()).read());
          },
          nb::arg("name"), nb::arg("data"))
      .def("values_in", &Table::values_in, nb::arg("low"), nb::arg("high"))
      .def_prop_ro("name", &Table::name)
      .def_prop_ro("dtype", [](const Table& table) { return std::string(to_string(table.dtype())); })
      .def_prop_ro("rank", &Table::rank)
      .def_prop_ro("is_frozen", [](const Table& table) { return table.frozen_data().has_value(); })
      .def_prop_ro("low", &Table::low)
      .def_prop_ro("high", &Table::high)
      .def_prop_ro("has_declared_range", &Table::has_declared_range)
      .def_prop_ro("shape",
                   [](const Table& table) -> nb::object {
                     const auto data = table.frozen_data();
                     if (!data) return nb::none();
                     nb::list extents;
                     for (int axis = 0; axis < data->rank; ++axis) extents.append(data->extents[std::size_t(axis)]);
                     return nb::tuple(extents);
                   })
      .def("frozen_bytes",
           [](const Table& table) -> nb::object {
             const auto data = table.frozen_data();
             if (!data) return nb::none();
             return nb::bytes(data->data, static_cast<std::size_t>(data->elements() * size_of(data->dtype)));
           })
      .def(
          "read",
          [](const Table& table, nb::args indices, bool clamped) {
            std::vector<Expr> index;
            for (nb::handle each : indices) index.push_back(expect_expression(each, "an index"));
            return table.read(index, clamped);
          },
          nb::arg("indices"), nb::kw_only(), nb::arg("clamped"))
      .def("__eq__", [](const Table& a, const Table& b) { return a == b; })
      .def("__hash__", [](const Table& table) { return reinterpret_cast<std::uintptr_t>(&table.info()); });
}

void bind_parameters(nb::module_& module) {
  nb::class_<Parameter>(module, "Parameter")
      .def(nb::init<std::string, double, double>(), nb::arg("name"), nb::arg("low") = -kInfinity,
           nb::arg("high") = kInfinity)
      .def_static("integer", &Parameter::integer, nb::arg("name"),
                  nb::arg("low") = std::numeric_limits<std::int32_t>::min(),
                  nb::arg("high") = std::numeric_limits<std::int32_t>::max())
      .def_prop_ro("name", &Parameter::name)
      .def_prop_ro("type", [](const Parameter& parameter) { return std::string(to_string(parameter.type())); })
      .def_prop_ro("low", &Parameter::low)
      .def_prop_ro("high", &Parameter::high)
      .def("expression", [](const Parameter& parameter) { return Expr(parameter); })
      .def("__eq__", [](const Parameter& a, const Parameter& b) { return a == b; });
}

void bind_recipes(nb::module_& module) {
  nb::class_<Recipe>(module, "Recipe")
      .def_prop_ro("key", [](const Recipe& recipe) { return recipe.variant().key(); })
      .def_prop_ro("literals", [](const Recipe& recipe) { return recipe.variant().literals(); })
      .def_prop_ro("tables", [](const Recipe& recipe) { return recipe.variant().tables(); })
      .def_prop_ro("parameters", [](const Recipe& recipe) { return recipe.variant().parameters(); })
      .def_prop_ro("has_sink", [](const Recipe& recipe) { return recipe.variant().has_sink(); })
      .def_prop_ro("has_dropout", [](const Recipe& recipe) { return recipe.variant().has_dropout(); })
      .def("text", [](const Recipe& recipe) { return to_string(recipe.variant()); })
      .def("__and__", [](const Recipe& a, const Recipe& b) { return recipe_of(a.variant() & b.variant()); });
  module.def("plain", [] { return recipe_of(Variant()); });
  module.def(
      "parse", [](const std::string& text) { return recipe_of(parse_variant(text)); }, nb::arg("text"));
  module.def(
      "keep",
      [](nb::callable function) {
        return recipe_of(keep([&](const At& at) { return expect_expression(function(at), "the result of keep()"); }));
      },
      nb::arg("function"));
  module.def(
      "score",
      [](nb::callable function) {
        return recipe_of(
            score([&](Expr s, const At& at) { return expect_expression(function(s, at), "the result of score()"); }));
      },
      nb::arg("function"));
  module.def(
      "sink",
      [](nb::callable function) {
        return recipe_of(sink([&](const At& at) { return expect_expression(function(at), "the result of sink()"); }));
      },
      nb::arg("function"));
  module.def(
      "dropout", [](double probability) { return recipe_of(dropout(probability)); }, nb::arg("probability"));
}

zoo::Argument zoo_argument(const zoo::ArgumentInfo& info, nb::handle value) {
  if (info.kind == zoo::ArgumentKind::integers) return nb::cast<std::vector<std::int32_t>>(value);
  return nb::cast<double>(value);
}

RecipePointer make_named(const std::string& name, nb::args values) {
  const zoo::Entry* entry = zoo::find(name);
  if (entry == nullptr) throw Error(ErrorCode::invalid_argument, "no named variant '" + name + "'");
  std::vector<zoo::Argument> arguments;
  for (std::size_t i = 0; i < entry->arguments.size(); ++i) {
    arguments.push_back(i < values.size() ? zoo_argument(entry->arguments[i], values[i])
                                          : entry->arguments[i].default_value);
  }
  return recipe_of(entry->make(arguments));
}

void bind_zoo(nb::module_& module) {
  module.def("named", make_named, nb::arg("name"), nb::arg("arguments"));
  module.def("zoo_entries", [] {
    nb::list all;
    for (const zoo::Entry& entry : zoo::entries()) {
      nb::dict each;
      each["name"] = entry.name;
      each["summary"] = entry.summary;
      each["source"] = entry.source;
      each["mathematics"] = entry.mathematics;
      each["example"] = entry.example;
      nb::list arguments;
      for (const zoo::ArgumentInfo& argument : entry.arguments) arguments.append(argument.name);
      each["arguments"] = arguments;
      all.append(each);
    }
    return all;
  });
}

Problem problem_of(const Options& options, std::int64_t h_q, std::int64_t h_kv, std::int64_t s_q, std::int64_t s_kv) {
  Problem problem = Problem::uniform(1, h_q, h_kv, s_q, s_kv);
  if (!options.sequences.empty()) problem.sequences = options.sequences;
  if (options.query_offset) {
    for (Sequence& sequence : problem.sequences) sequence.query_offset = options.query_offset;
  }
  return problem;
}

void bind_tiles(nb::module_& module) {
  module.def(
      "classify",
      [](const Recipe& recipe, const Options& options, std::int64_t h_q, std::int64_t h_kv, std::int64_t s_q,
         std::int64_t s_kv, std::pair<std::int64_t, std::int64_t> tile, std::int64_t sequence, std::int64_t head) {
        const BoundArrays bound(options);
        const TileMap map =
            classify_tiles(recipe.variant(), {.tables = bound.tables(), .parameters = options.parameters},
                           problem_of(options, h_q, h_kv, s_q, s_kv), {tile.first, tile.second}, sequence, head);
        return nb::make_tuple(map.rows, map.columns,
                              nb::bytes(reinterpret_cast<const char*>(map.classes.data()), map.classes.size()));
      },
      nb::arg("recipe"), nb::arg("options"), nb::arg("h_q"), nb::arg("h_kv"), nb::arg("s_q"), nb::arg("s_kv"),
      nb::arg("tile"), nb::arg("sequence"), nb::arg("head"));
  module.def(
      "count_entries",
      [](const Recipe& recipe, const Options& options, std::int64_t h_q, std::int64_t h_kv, std::int64_t s_q,
         std::int64_t s_kv, std::int64_t sequence, std::int64_t head) {
        const BoundArrays bound(options);
        const EntryCount count =
            count_entries(recipe.variant(), {.tables = bound.tables(), .parameters = options.parameters},
                          problem_of(options, h_q, h_kv, s_q, s_kv), sequence, head);
        return nb::make_tuple(count.least, count.most, count.all);
      },
      nb::arg("recipe"), nb::arg("options"), nb::arg("h_q"), nb::arg("h_kv"), nb::arg("s_q"), nb::arg("s_kv"),
      nb::arg("sequence"), nb::arg("head"));
}

}  // namespace

void bind_variants(nb::module_& module) {
  bind_tables(module);
  bind_parameters(module);
  bind_recipes(module);
  bind_zoo(module);
  bind_zoo_tables(module);
  bind_tiles(module);
}

}  // namespace tilewise::python
