#include "variant/text/expression_printer.h"

#include <cmath>

#include "variant/build.h"
#include "variant/operations/operations.h"
#include "variant/text/number_text.h"
#include "variant/text/words.h"

namespace tilewise::variant {
namespace {

const Info& info_of(const Node& node) { return kInfo[static_cast<std::size_t>(node.index)]; }

bool is_number(const Node& node) { return node.kind == Kind::literal || node.kind == Kind::constant; }

/// Whether a number stands as such, not as constant(...).
bool is_plain(const Node& node) {
  return node.kind == Kind::literal || node.type == Type::boolean || shapes_the_code(node.value);
}

bool is_cast_to_real(const Node& node) { return node.kind == Kind::operation && node.index == number_of<ToReal>; }

/// A constant that is written as a plain number because its operation bakes it in.
bool is_baked(const Graph& graph, const Node& node, std::size_t place) {
  return place == 1 && bakes_second_operand(node.index) && graph[node.operands[1]].is_constant();
}

}  // namespace

std::string ExpressionPrinter::text(NodeId node, bool promoted) {
  out_.clear();
  write(node, 0, promoted);
  return std::move(out_);
}

std::string ExpressionPrinter::definition(NodeId node) {
  out_.clear();
  write_whole(node, 0, false);
  return std::move(out_);
}

/// Writes a node so that an operator which binds as tightly as `binding` takes all of it.
void ExpressionPrinter::write(NodeId id, int binding, bool promoted) {
  if (!names_.parts.empty() && !names_.parts[id].empty())
    out_ += names_.parts[id];
  else
    write_whole(id, binding, promoted);
}

void ExpressionPrinter::write_whole(NodeId id, int binding, bool promoted) {
  const Node& node = graph_[id];
  switch (node.kind) {
    case Kind::constant:
    case Kind::literal: write_number(node, binding, promoted, false); break;
    case Kind::parameter: out_ += names_.parameters[static_cast<std::size_t>(node.index)]; break;
    case Kind::coordinate: out_ += to_string(static_cast<Coordinate>(node.index)); break;
    case Kind::score: out_ += 's'; break;
    case Kind::seed: out_ += "seed"; break;    // of a derivative: shown, never read
    case Kind::scale: out_ += "scale"; break;  // likewise
    case Kind::read:
      out_ += names_.tables[static_cast<std::size_t>(node.index)];
      out_ += node.clamped ? ".clamped[" : "[";
      write_list(node);
      out_ += ']';
      break;
    case Kind::operation:
      if (is_cast_to_real(node) && promoted)
        write(node.operands[0], binding, false);
      else
        write_operation(node, binding);
  }
}

void ExpressionPrinter::write_number(const Node& node, int binding, bool promoted, bool baked) {
  const bool as_int = node.type == Type::real && promoted && is_int32(node.value);
  const std::string digits = number_text(as_int ? Type::int32 : node.type, node.value);
  if (!baked && !is_plain(node)) {
    out_ += "constant(" + number_text(node.type, node.value) + ")";
  } else if (digits[0] == '-' && binding > info_of({.index = number_of<Negation>}).precedence) {
    out_ += "(" + digits + ")";
  } else {
    out_ += digits;
  }
}

void ExpressionPrinter::write_operation(const Node& node, int binding) {
  const Info& info = info_of(node);
  if (fix_of(node.index) == Fix::call) {
    out_ += info.symbol;
    out_ += '(';
    write_list(node);
    out_ += ')';
    return;
  }
  const bool enclosed = info.precedence < binding;
  if (enclosed) out_ += '(';
  if (fix_of(node.index) == Fix::infix) {
    write_operand(node, 0, left_binding(node.index));
    out_ += ' ';
    out_ += info.symbol;
    out_ += ' ';
    write_operand(node, 1, right_binding(node.index));
  } else {
    out_ += info.symbol;
    if (info.symbol == "not") out_ += ' ';  // the one prefix that is a word
    // A sign belongs to the number after it, so what negates a number stands apart from it.
    const Node& operand = graph_[node.operands[0]];
    const bool apart = node.index == number_of<Negation> && is_number(operand) && is_plain(operand);
    if (apart) out_ += '(';
    write_operand(node, 0, info.precedence);
    if (apart) out_ += ')';
  }
  if (enclosed) out_ += ')';
}

void ExpressionPrinter::write_list(const Node& node) {
  for (std::size_t i = 0; i < node.operand_count; ++i) {
    if (i > 0) out_ += ", ";
    write_operand(node, i, 0);
  }
}

void ExpressionPrinter::write_operand(const Node& node, std::size_t place, int binding) {
  const NodeId operand = node.operands[place];
  if (node.kind != Kind::operation) return write(operand, binding, false);
  const bool promoted = is_promoted(node, place);
  if (!is_baked(graph_, node, place)) return write(operand, binding, promoted);
  // A baked int becomes a real by folding, which asks that float32 holds it.
  const double value = graph_[operand].value;
  write_number(graph_[operand], binding, promoted && static_cast<double>(static_cast<float>(value)) == value, true);
}

/// Whether a real has a text that reads as an int, and as itself again where it is promoted.
bool ExpressionPrinter::reads_as_promoted(NodeId id) const {
  const Node& node = graph_[id];
  if (!names_.parts.empty() && !names_.parts[id].empty()) return false;
  return is_cast_to_real(node) ||
         (is_number(node) && node.type == Type::real && is_plain(node) && is_int32(node.value));
}

/// Whether reading promotes an int there. Among operands that are promoted to a common type one must be a real.
bool ExpressionPrinter::is_promoted(const Node& node, std::size_t place) const {
  switch (info_of(node).rule) {
    case Rule::real: return true;
    case Rule::arithmetic:
    case Rule::comparison:
    case Rule::select: return graph_[node.operands[place]].type == Type::real && place != anchor(node);
    default: return false;
  }
}

/// The operand that is written as a real: one that has to be, else a number, which needs just a point for it.
std::size_t ExpressionPrinter::anchor(const Node& node) const {
  const std::size_t first = info_of(node).rule == Rule::select ? 1 : 0;
  for (std::size_t i = first; i < node.operand_count; ++i) {
    if (!reads_as_promoted(node.operands[i])) return i;
  }
  for (std::size_t i = first; i < node.operand_count; ++i) {
    if (is_number(graph_[node.operands[i]])) return i;
  }
  return first;
}

}  // namespace tilewise::variant
