#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "variant/cuda_prelude.h"
#include "variant/cuda_text.h"
#include "variant/cuda_writer.h"
#include "variant/operations/operations.h"
#include "variant/rearranged.h"

namespace tilewise::variant {
namespace {

/// The rearranged text.
class RearrangedWriter : public CudaWriter {
 public:
  RearrangedWriter(const Variant::Data& data, const Rearranged& rearranged, DType dtype)
      : CudaWriter(data, rearranged.graph), rearranged_(rearranged) {
    std::vector<NodeId> roots;
    for (const NodeId root : {rearranged.score, rearranged.of_entry, rearranged.of_query, rearranged.slope}) {
      if (root != kNoNode) roots.push_back(root);
    }
    const ExponentParts& parts = rearranged.parts;
    if (has_parts() || adds_diagonals()) {
      for (const NodeId root : {parts.factor, parts.value, parts.of_diagonal}) {
        if (root != kNoNode) roots.push_back(root);
      }
    }
    // Forward alone: backward passes read the tanh for its slope.
    may_be_small_ =
        dtype == DType::bfloat16 && !has_parts() && rearranged.slope == kNoNode && rearranged.small.exponent != kNoNode;
    if (may_be_small_) {
      roots.insert(roots.end(), {rearranged.small.exponent, rearranged.small.square_limit});
    }
    for (const Stage& stage : data.stages) {
      if (stage.kind == Stage::Kind::keep) roots.push_back(stage.root);
    }
    for (const NodeId root : roots) crosses_[root] = true;
    if (data.sink != kNoNode) roots.push_back(data.sink);
    live_ = needed_by(roots, [](NodeId) { return true; });
    mark_crossings();
  }

  CudaText write(DType dtype) {
    text_ = "namespace variant {\n";
    text_ += kCudaPrelude;
    text_ += kFastOperations;
    text_ += dtype == DType::bfloat16 ? kFastTanhOfBFloat16 : kFastTanh;
    text_ += "}  // namespace fast\n";
    write_operations({&graph_});
    write_arguments();
    write_classes();
    write_keeps();
    if (rearranged_.score != kNoNode) {
      write_value("score", rearranged_.score);
      write_value("exponent", rearranged_.of_entry);
      write_of_head("of_query", ", const Query& query", rearranged_.of_query, "0.0f");
      write_exponent_uniforms();
    }
    const bool has_slope = rearranged_.slope != kNoNode;
    if (has_slope) write_value("slope", rearranged_.slope);
    if (data_.sink != kNoNode) write_sink();
    if (has_parts() || adds_diagonals()) write_of_head("factor", "", rearranged_.parts.factor, "1.0f");
    if (has_parts()) write_parts();
    if (adds_diagonals()) write_of_head("of_diagonal", ", const Diagonal& diagonal", rearranged_.parts.of_diagonal, "");
    if (may_be_small_) write_small();
    text_ += "}  // namespace variant\n";
    CudaText text{std::move(text_), std::move(layout_), true, has_slope, false, fields_};
    text.slope_is_finite = rearranged_.slope_is_finite;
    count_operations(text);
    text.may_be_steady = may_be_steady();
    text.may_be_linear = may_be_linear();
    text.adds_diagonals = adds_diagonals();
    text.begins_steady = may_be_steady() && is_multiple_and_diagonal();
    text.may_be_small = may_be_small_;
    text.follows_diagonals = std::all_of(data_.stages.begin(), data_.stages.end(), [&](const Stage& stage) {
      return stage.kind != Stage::Kind::keep || follows_diagonals(graph_, stage.root);
    });
    text.value_is_product = has_parts() && graph_[rearranged_.parts.value].kind == Kind::score;
    return text;
  }

 private:
  bool is_fast(NodeId id) const override {
    static const std::set<std::int32_t> kFast = {number_of<Addition>,
                                                 number_of<Subtraction>,
                                                 number_of<Multiplication>,
                                                 number_of<Negation>,
                                                 number_of<Division>,
                                                 number_of<Minimum>,
                                                 number_of<Maximum>,
                                                 number_of<Exponential>,
                                                 number_of<Exponential2>,
                                                 number_of<Logarithm>,
                                                 number_of<Logarithm2>,
                                                 number_of<SquareRoot>,
                                                 number_of<ReciprocalSquareRoot>,
                                                 number_of<HyperbolicTangent>,
                                                 number_of<Sigmoid>,
                                                 number_of<Sine>,
                                                 number_of<Cosine>};
    return kFast.count(graph_[id].index) != 0 && rearranged_.is_free[id];
  }

  bool is_made_once(const ClassText& within) const override {
    return rearranged_.score != kNoNode && fields_[static_cast<std::size_t>(within.hoist)] <= kMostKeptFields;
  }

  void count_operations(CudaText& text) const {
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_[id];
      const bool is_work = node.kind == Kind::operation || node.kind == Kind::read;
      if (!live_[id] || !is_work || hoist_[id] == Hoist::entry) continue;
      ++text.hoisted_operations;
      if (node.kind == Kind::read && hoist_[id] == Hoist::diagonal) ++text.diagonal_reads;
    }
    if (rearranged_.exponent == kNoNode) return;
    const std::vector<bool> needed = needed_by({rearranged_.exponent}, text_of(Hoist::entry));
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const bool is_function = graph_[id].kind == Kind::operation && graph_[id].index >= number_of<Exponential>;
      if (!needed[id] || hoist_[id] != Hoist::entry || graph_[id].kind == Kind::score) continue;
      ++text.entry_operations;
      if (is_function) ++text.special_functions;
    }
  }

  void write_keeps() {
    const ClassText& entry = text_of(Hoist::entry);
    std::vector<NodeId> roots;
    std::string kept = "true";
    for (const Stage& stage : data_.stages) {
      if (stage.kind != Stage::Kind::keep) continue;
      roots.push_back(stage.root);
      kept += " & " + name(stage.root, entry);
    }
    text_ += fmt::format("__device__ inline bool keeps({}) {{\n", parameters(entry));
    write_values(entry, needed_by(roots, entry));
    text_ += fmt::format("  return {};\n}}\n\n", kept);
  }

  void write_value(const char* function, NodeId root) {
    const ClassText& entry = text_of(Hoist::entry);
    text_ += fmt::format("__device__ inline float {}({}) {{\n", function, parameters(entry));
    write_values(entry, needed_by({root}, entry));
    text_ += fmt::format("  return {};\n}}\n\n", name(root, entry));
  }

  /// A function of a head or a query, which gives `none` where there is no such value.
  void write_of_head(const char* function, const char* parameter, NodeId root, const char* none) {
    text_ += fmt::format("__device__ inline float {}({}, const Uniform& uniform{}) {{\n  return {};\n}}\n\n", function,
                         parameters(text_of(Hoist::uniform)), parameter,
                         root == kNoNode ? none : name(root, text_of(Hoist::entry)));
  }

  /// Uniform values of which those that exponents read are made anew by `take`.
  void write_exponent_uniforms() {
    const ClassText& entry = text_of(Hoist::entry);
    std::vector<NodeId> roots{rearranged_.of_entry};
    if (may_be_small_) roots.insert(roots.end(), {rearranged_.small.exponent, rearranged_.small.square_limit});
    if (has_parts() && rearranged_.parts.factor != kNoNode) roots.push_back(rearranged_.parts.factor);
    const std::vector<bool> needed = needed_by(roots, entry);
    text_ +=
        "template <class Take>\n__device__ inline Uniform exponent_uniforms(const Uniform& uniform, const Take& take) "
        "{\n  Uniform made = uniform;\n";
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_[id];
      const bool is_field = node.kind == Kind::operation || node.kind == Kind::read;
      if (!needed[id] || hoist_[id] != Hoist::uniform || !is_field || node.type != Type::real) continue;
      text_ += fmt::format("  made.t{0} = take(uniform.t{0});\n", id);
    }
    text_ += "  return made;\n}\n\n";
  }

  // ---- Tiles whose diagonals have one value, or values on a line.

  bool has_parts() const { return may_be_steady() || may_be_linear(); }

  /// Whether backward passes may let products begin at what diagonals add to exponents. Not where that is read of a
  /// table: ALiBi came from 0.873 to 0.928 of plain attention by it, relative positions from 0.823 to 0.803 and T5 from
  /// 0.824 to 0.813.
  bool adds_diagonals() const { return is_multiple_and_diagonal() && !reads_tables(rearranged_.parts.of_diagonal); }
  /// Whether a backward pass's exponents are a multiple of the product plus a number of the diagonal, and the slope a
  /// number of the head.
  bool is_multiple_and_diagonal() const {
    const ExponentParts& parts = rearranged_.parts;
    return rearranged_.slope != kNoNode && hoist_[rearranged_.slope] == Hoist::uniform && parts.value != kNoNode &&
           graph_[parts.value].kind == Kind::score && rearranged_.of_query == kNoNode;
  }
  bool reads_tables(NodeId root) const {
    const std::vector<bool> needed = needed_by({root}, text_of(Hoist::diagonal));
    for (NodeId id = 0; id < graph_.size(); ++id) {
      if (needed[id] && graph_[id].kind == Kind::read && hoist_[id] == Hoist::diagonal) return true;
    }
    return false;
  }

  /// Whether clamps or comparisons of ints stand between a diagonal and its value: what is left of a tile's distances
  /// then may be one number, as distances themselves never are.
  bool may_be_steady() const {
    const NodeId root = rearranged_.parts.of_diagonal;
    if (root == kNoNode) return false;
    const std::vector<bool> needed = needed_by({root}, text_of(Hoist::diagonal));
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const Node& node = graph_[id];
      if (!needed[id] || node.kind != Kind::operation) continue;
      const bool clamps = node.index == number_of<Minimum> || node.index == number_of<Maximum>;
      const bool compares = node.index >= number_of<Equal> && node.index <= number_of<GreaterEqual>;
      if ((clamps || compares) && graph_[node.operands[0]].type == Type::int32) return true;
    }
    return false;
  }

  /// Whether the diagonal's function may be a line: of distances made real, and of sums and multiples of that.
  bool may_be_linear() const {
    const NodeId root = rearranged_.parts.of_diagonal;
    return root != kNoNode && !is_one_number(root) && may_be_line(root);
  }
  /// Whether it is the same for all diagonals of a head.
  bool is_one_number(NodeId id) const { return hoist_[id] == Hoist::uniform; }
  bool may_be_line(NodeId id) const {
    const Node& node = graph_[id];
    if (is_one_number(id)) return true;
    if (node.kind == Kind::coordinate) return true;
    if (node.kind != Kind::operation) return false;
    const NodeId a = node.operands[0];
    const auto are_lines = [&](NodeId from) {
      return std::ranges::all_of(node.inputs(), [&](NodeId x) { return x == from || may_be_line(x); });
    };
    if (node.index == number_of<Selection>) return are_lines(a);  // whatever the condition
    if (graph_[a].type != Type::int32 && !rearranged_.is_free[id]) return false;
    switch (node.index) {
      case number_of<Minimum>:
      case number_of<Maximum>:
      case number_of<Absolute>: return node.type == Type::int32 && are_lines(kNoNode);
      case number_of<ToReal>: return graph_[a].type == Type::int32 && rearranged_.is_free[id] && are_lines(kNoNode);
      case number_of<Addition>:
      case number_of<Subtraction>:
      case number_of<Negation>: return are_lines(kNoNode);
      case number_of<Multiplication>:
        return are_lines(kNoNode) && (is_one_number(a) || is_one_number(node.operands[1]));
      default: return false;
    }
  }

  void write_parts() {
    const ExponentParts& parts = rearranged_.parts;
    if (graph_[parts.value].kind != Kind::score) write_value("value", parts.value);
    write_steady_value(parameters(text_of(Hoist::uniform)) + ", const Uniform& uniform");
  }

  /// The diagonal's function again, each node by its bounds over a tile's diagonals.
  void write_steady_value(const std::string& of_head) {
    const NodeId root = rearranged_.parts.of_diagonal;
    const ClassText& diagonal = text_of(Hoist::diagonal);
    const std::vector<bool> needed = needed_by({root}, diagonal);
    text_ += fmt::format(
        "__device__ inline tilewise::cuda::steady::Real steady_value({}, int least, int most) {{\n"
        "  namespace steady = tilewise::cuda::steady;\n  using steady::at_points, steady::point;\n"
        "  const steady::Ints difference = steady::diagonals(least, most);\n",
        of_head);
    for (NodeId id = 0; id < graph_.size(); ++id) {
      if (needed[id] && is_a_value(id, diagonal)) {
        text_ += fmt::format("  const auto b{} = {};\n", id, bounds_text(id, diagonal));
      }
    }
    text_ += fmt::format("  return {};\n}}\n\n", bounds_name(root, diagonal));
  }

  std::string bounds_name(NodeId id, const ClassText& diagonal) const {
    return is_a_value(id, diagonal) ? fmt::format("b{}", id) : fmt::format("point({})", name(id, diagonal));
  }

  std::string bounds_text(NodeId id, const ClassText& diagonal) const {
    static const std::set<std::int32_t> kBounded = {
        number_of<Addition>,    number_of<Subtraction>, number_of<Multiplication>, number_of<Negation>,
        number_of<Minimum>,     number_of<Maximum>,     number_of<Absolute>,       number_of<Equal>,
        number_of<NotEqual>,    number_of<Less>,        number_of<LessEqual>,      number_of<Greater>,
        number_of<GreaterEqual>};
    static const std::set<std::int32_t> kLinear = {number_of<Addition>, number_of<Subtraction>,
                                                   number_of<Multiplication>, number_of<Negation>};
    const Node& node = graph_[id];
    if (node.kind == Kind::coordinate) return bounds_of_coordinate(static_cast<Coordinate>(node.index));
    std::vector<std::string> operands, parameters, arguments;
    if (node.kind == Kind::read) arguments.push_back(fmt::format("arguments.table{}", node.index));
    for (const NodeId operand : node.inputs()) {
      operands.push_back(bounds_name(operand, diagonal));
      arguments.push_back(fmt::format("x{}", parameters.size()));
      parameters.push_back(fmt::format("{} {}", type_name(graph_[operand].type), arguments.back()));
    }
    std::string function = "read";
    if (node.kind == Kind::operation) {
      function = kInfo[static_cast<std::size_t>(node.index)].name;
      const bool of_ints = graph_[node.operands[0]].type == Type::int32;
      const bool is_bounded = of_ints && kBounded.count(node.index) != 0;
      const bool is_linear =
          rearranged_.is_free[id] && (of_ints ? node.index == number_of<ToReal> : kLinear.count(node.index) != 0);
      if (is_bounded || is_linear || node.index == number_of<Selection>) {
        return fmt::format("steady::{}({})", function, fmt::join(operands, ", "));
      }
      if (is_fast(id)) function = "fast::" + function;
    }
    return fmt::format("at_points([&]({}) {{ return {}({}); }}, {})", fmt::join(parameters, ", "), function,
                       fmt::join(arguments, ", "), fmt::join(operands, ", "));
  }

  /// The entry (difference, 0) stands for a diagonal.
  static std::string bounds_of_coordinate(Coordinate coordinate) {
    using enum Coordinate;
    switch (coordinate) {
      case query: return "steady::add(difference, point(sequence.query_offset))";
      case query_index: return "difference";
      case query_token: return "steady::add(difference, point(sequence.query_token))";
      case key: return "point(sequence.key_offset)";
      case key_token: return "point(sequence.key_token)";
      default: return "point(0)";
    }
  }

  // ---- Products that are small.

  void write_small() {
    write_value("small_exponent", rearranged_.small.exponent);
    write_of_head("square_limit", "", rearranged_.small.square_limit, "");
  }

  const Rearranged& rearranged_;
  bool may_be_small_ = false;
};

}  // namespace

CudaText rearranged_cuda_text(const Variant& variant, DType dtype, bool with_slope) {
  const Rearranged made = rearranged(variant.data(), with_slope);
  return RearrangedWriter(variant.data(), made, dtype).write(dtype);
}

}  // namespace tilewise::variant
