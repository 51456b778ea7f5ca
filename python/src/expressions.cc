#include "expressions.h"

#include <nanobind/operators.h>
#include <nanobind/stl/string.h>

#include <cmath>
#include <string>

namespace nb = nanobind;

namespace tilewise::python {

namespace {

const char* const kNoTruth =
    "a symbolic value has no truth value while a variant is recorded: the function runs once, for all entries "
    "together. "
    "Instead of `if` or `a if c else b` write tilewise.where(c, a, b); instead of `and`, `or`, `not` write &, |, ~ "
    "(with "
    "parentheses around comparisons); instead of a < b < c write (a < b) & (b < c); instead of min() and max() write "
    "tilewise.minimum() and tilewise.maximum()";

bool is_boolean(const Expr& value) { return value.type() == Type::boolean; }

// Python has one set of operators for bits and for logic.
Expr both(Expr a, Expr b) { return is_boolean(a) && is_boolean(b) ? a && b : a & b; }
Expr either(Expr a, Expr b) { return is_boolean(a) && is_boolean(b) ? a || b : a | b; }
Expr differs(Expr a, Expr b) { return is_boolean(a) && is_boolean(b) ? (a && !b) || (!a && b) : a ^ b; }
Expr inverse(Expr a) { return is_boolean(a) ? !a : ~a; }

Expr power(Expr base, nb::handle exponent) {
  if (!PyFloat_Check(exponent.ptr()) && !PyLong_Check(exponent.ptr())) {
    throw nb::type_error("the exponent of ** is part of the code: expected a number, not a symbolic value");
  }
  return pow(base, nb::cast<double>(exponent));
}

Expr power_of(Expr exponent, nb::handle base) {
  const double number = nb::cast<double>(base);
  if (number == 2.0) return exp2(exponent);
  if (!(number > 0.0)) throw nb::value_error("a ** x with a symbolic x needs a positive number a");
  return exp2(exponent * std::log2(number));
}

using Binary = Expr (*)(Expr, Expr);

/// operator `name` with a right operand that may be a number, and its mirror image.
void bind_binary(nb::class_<Expr>& type, const char* name, const char* mirrored, Binary function) {
  const auto bind = [&](const char* method, bool swapped) {
    type.def(
        method,
        [function, swapped](const Expr& a, nb::handle other) -> nb::object {
          const std::optional<Expr> b = expression_of(other);
          if (!b) return nb::borrow(Py_NotImplemented);
          return nb::cast(swapped ? function(*b, a) : function(a, *b));
        },
        nb::is_operator());
  };
  bind(name, false);
  if (mirrored != nullptr) bind(mirrored, true);
}

void bind_operators(nb::class_<Expr>& type) {
  bind_binary(type, "__add__", "__radd__", [](Expr a, Expr b) { return a + b; });
  bind_binary(type, "__sub__", "__rsub__", [](Expr a, Expr b) { return a - b; });
  bind_binary(type, "__mul__", "__rmul__", [](Expr a, Expr b) { return a * b; });
  bind_binary(type, "__truediv__", "__rtruediv__", [](Expr a, Expr b) { return a / b; });
  bind_binary(type, "__floordiv__", "__rfloordiv__", floor_divide);
  bind_binary(type, "__mod__", "__rmod__", [](Expr a, Expr b) { return a % b; });
  bind_binary(type, "__and__", "__rand__", both);
  bind_binary(type, "__or__", "__ror__", either);
  bind_binary(type, "__xor__", "__rxor__", differs);
  bind_binary(type, "__lshift__", "__rlshift__", [](Expr a, Expr b) { return a << b; });
  bind_binary(type, "__rshift__", "__rrshift__", [](Expr a, Expr b) { return a >> b; });
  bind_binary(type, "__eq__", nullptr, [](Expr a, Expr b) { return a == b; });
  bind_binary(type, "__ne__", nullptr, [](Expr a, Expr b) { return a != b; });
  bind_binary(type, "__lt__", nullptr, [](Expr a, Expr b) { return a < b; });
  bind_binary(type, "__le__", nullptr, [](Expr a, Expr b) { return a <= b; });
  bind_binary(type, "__gt__", nullptr, [](Expr a, Expr b) { return a > b; });
  bind_binary(type, "__ge__", nullptr, [](Expr a, Expr b) { return a >= b; });
  type.def("__neg__", [](const Expr& a) { return -a; })
      .def("__pos__", [](const Expr& a) { return a; })
      .def("__abs__", [](const Expr& a) { return abs(a); })
      .def("__invert__", inverse)
      .def("__floor__", [](const Expr& a) { return floor(a); })
      .def("__pow__", power)
      .def("__rpow__", power_of);
}

void bind_refusals(nb::class_<Expr>& type) {
  type.def("__bool__", [](const Expr&) -> bool { throw nb::type_error(kNoTruth); });
  const auto no_number = [](const Expr&) -> nb::object {
    throw nb::type_error(
        "a symbolic value is no number while a variant is recorded: use tilewise.exp(), tanh(), floor() and the like "
        "instead of math's, tilewise.to_int() and to_real() instead of int() and float(), and tilewise.table(array) "
        "for "
        "an array that is to be indexed and was not found among the function's variables");
  };
  for (const char* method : {"__int__", "__float__", "__index__", "__iter__", "__len__"}) type.def(method, no_number);
  type.attr("__hash__") = nb::none();
}

void bind_functions(nb::module_& module) {
  using Unary = Expr (*)(Expr);
  const std::pair<const char*, Unary> unary[] = {
      {"abs", abs},   {"floor", floor},     {"exp", exp},       {"exp2", exp2},          {"log", log}, {"log2", log2},
      {"sqrt", sqrt}, {"rsqrt", rsqrt},     {"tanh", tanh},     {"sigmoid", sigmoid},    {"erf", erf}, {"sin", sin},
      {"cos", cos},   {"to_real", to_real}, {"to_int", to_int}, {"logical_not", inverse}};
  for (const auto& [name, function] : unary) {
    module.def(
        name, [function = function](nb::handle x) { return function(expect_expression(x, "x")); }, nb::arg("x"));
  }
  const std::pair<const char*, Binary> binary[] = {
      {"minimum", min}, {"maximum", max}, {"logical_and", both}, {"logical_or", either}};
  for (const auto& [name, function] : binary) {
    module.def(
        name,
        [function = function](nb::handle a, nb::handle b) {
          return function(expect_expression(a, "a"), expect_expression(b, "b"));
        },
        nb::arg("a"), nb::arg("b"));
  }
  module.def(
      "where",
      [](nb::handle condition, nb::handle a, nb::handle b) {
        return select(expect_expression(condition, "condition"), expect_expression(a, "a"), expect_expression(b, "b"));
      },
      nb::arg("condition"), nb::arg("a"), nb::arg("b"));
  module.def(
      "literal", [](nb::handle value) { return expect_expression(value, "value"); }, nb::arg("value"));
  module.def(
      "constant",
      [](nb::handle value) {
        if (PyLong_Check(value.ptr())) return constant(nb::cast<std::int32_t>(value));
        return constant(nb::cast<double>(value));
      },
      nb::arg("value"));
}

void bind_at(nb::module_& module) {
  nb::class_<At>(module, "At")
      .def_ro("query", &At::query)
      .def_ro("key", &At::key)
      .def_ro("query_index", &At::query_index)
      .def_ro("key_index", &At::key_index)
      .def_ro("query_token", &At::query_token)
      .def_ro("key_token", &At::key_token)
      .def_ro("queries", &At::queries)
      .def_ro("keys", &At::keys)
      .def_ro("batch", &At::batch)
      .def_ro("head", &At::head)
      .def_ro("kv_head", &At::kv_head);
}

}  // namespace

std::optional<Expr> expression_of(nb::handle value) {
  if (nb::isinstance<Expr>(value)) return nb::cast<const Expr&>(value);
  if (PyBool_Check(value.ptr())) return Expr(value.ptr() == Py_True);
  if (PyLong_Check(value.ptr())) {
    int overflow = 0;
    const long long number = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
    if (overflow != 0) throw nb::value_error("an integer of a variant must fit 32 bits");
    return Expr(number);
  }
  if (PyFloat_Check(value.ptr())) return Expr(PyFloat_AsDouble(value.ptr()));
  if (nb::isinstance<Parameter>(value)) return Expr(nb::cast<const Parameter&>(value));
  // NumPy's numbers, and arrays of one element.
  if (nb::hasattr(value, "item") && nb::hasattr(value, "dtype")) return expression_of(value.attr("item")());
  // A Python object that stands for one of these, such as a parameter with its value.
  if (nb::hasattr(value, "__tilewise__")) return expression_of(value.attr("__tilewise__")());
  return std::nullopt;
}

Expr expect_expression(nb::handle value, const char* what) {
  if (const std::optional<Expr> expression = expression_of(value)) return *expression;
  throw nb::type_error((std::string(what) + ": expected a symbolic value, a parameter or a number, not a " +
                        nb::str(value.type().attr("__name__")).c_str())
                           .c_str());
}

void bind_expressions(nb::module_& module) {
  nb::class_<Expr> expression(module, "Expr");
  expression.def_prop_ro("type", [](const Expr& a) { return std::string(to_string(a.type())); });
  bind_operators(expression);
  bind_refusals(expression);
  bind_functions(module);
  bind_at(module);
}

}  // namespace tilewise::python
