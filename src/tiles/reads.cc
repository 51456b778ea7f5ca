#include "tiles/reads.h"

#include <algorithm>
#include <limits>
#include <optional>

#include "core/fail.h"
#include "tiles/mask.h"
#include "tiles/split.h"
#include "tilewise/tiles.h"
#include "variant/text/printer.h"

namespace tilewise {

void expect_reads_inside(const Variant& variant, std::span<const std::vector<std::int64_t>> table_extents,
                         const Problem& problem) {
  problem.validate();
  tiles::expect_reads_inside(variant.data(), tiles::declared_bounds(variant.data().graph, table_extents), problem);
}

namespace tiles {

using namespace variant;  // NOLINT(google-build-using-namespace): this layer is over that one

namespace {

/// Boxes that are looked at before the proof is given up: some tenths of a second.
constexpr std::int64_t kMaxBoxes = std::int64_t{1} << 22;

/// One index of a read that must be proven.
struct IndexToProve {
  std::int32_t table;
  int axis;
  NodeId node;
  std::int64_t extent;
  Register number = kNoRegister;

  bool is_inside(const Interval& index) const { return index.low >= 0 && index.high < static_cast<double>(extent); }
  bool is_outside(const Interval& index) const { return index.high < 0 || index.low >= static_cast<double>(extent); }
};

/// Appends the indices of unclamped reads that `root` reaches and that `seen` does not have yet.
void collect(const Graph& graph, const SlotBounds& slots, NodeId root, std::vector<bool>& seen,
             std::vector<IndexToProve>& found) {
  if (seen[root]) return;
  seen[root] = true;
  const Node& node = graph[root];
  for (const NodeId operand : node.inputs()) collect(graph, slots, operand, seen, found);
  if (node.kind != Kind::read || node.clamped) return;
  for (int axis = 0; axis < node.operand_count; ++axis) {
    const auto place = static_cast<std::size_t>(axis);
    found.push_back(
        {node.index, axis, node.operands[place], slots.tables[static_cast<std::size_t>(node.index)].extents[place]});
  }
}

bool reads_coordinate(const IntervalProgram& program, std::initializer_list<Coordinate> wanted) {
  return std::any_of(program.coordinates.begin(), program.coordinates.end(), [&](const auto& slot) {
    return std::find(wanted.begin(), wanted.end(), slot.coordinate) != wanted.end();
  });
}

/// Compiles indices and makes them what the program is for.
IntervalProgram compile(const Graph& graph, const SlotBounds& slots, std::vector<IndexToProve>& indices) {
  IntervalProgramBuilder builder(graph, slots);
  const Register any_score = builder.add_known(kAnyReal);
  std::vector<Register> wanted;
  for (IndexToProve& index : indices) wanted.push_back(index.number = builder.add(index.node, any_score));
  IntervalProgram program = builder.finish();
  program.keep_only(wanted);
  return program;
}

[[noreturn]] void refuse(const Graph& graph, const IndexToProve& index, const Interval& reached,
                         const std::string& where, bool is_refuted) {
  const std::string span = reached.is_single() ? fmt::format("is {}", reached.low)
                                               : fmt::format("may be {} to {}", reached.low, reached.high);
  fail(
      is_refuted ? ErrorCode::invalid_argument : ErrorCode::unsupported,
      "table '{}': index {} of a read, {}, {} {}; expected 0 to {} for every kept entry; keep(...) fewer entries, make "
      "the table longer, declare ranges (values_in, Parameter), or read it with clamped(...)",
      graph.tables()[static_cast<std::size_t>(index.table)].name(), index.axis + 1, expression_text(graph, index.node),
      span, where, index.extent - 1);
}

/// The search for an entry that is kept and reads outside.
class ReadProof {
 public:
  ReadProof(const Variant::Data& variant, const SlotBounds& slots, const Problem& problem,
            std::vector<IndexToProve>& indices)
      : graph_(variant.graph),
        problem_(problem),
        indices_(indices),
        mask_(make_mask(variant, slots, universe_of(problem))),
        program_(compile(variant.graph, slots, indices)),
        mask_reading_(mask_.program),
        reading_(program_) {}

  void run() {
    const auto differ = [&](std::initializer_list<Coordinate> coordinates) {
      return reads_coordinate(mask_.program, coordinates) || reads_coordinate(program_, coordinates);
    };
    const std::int64_t heads = differ({Coordinate::head, Coordinate::kv_head}) ? problem_.h_q : 1;
    const bool sequences_differ = differ({Coordinate::batch, Coordinate::query_token, Coordinate::key_token});
    for (std::int64_t i = 0; i < problem_.b(); ++i) {
      if (i > 0 && !sequences_differ && is_alike(i - 1, i)) continue;
      for (std::int64_t head = 0; head < heads; ++head) prove(i, head);
    }
  }

 private:
  bool is_alike(std::int64_t i, std::int64_t j) const {
    const Sequence& a = problem_.sequences[static_cast<std::size_t>(i)];
    const Sequence& b = problem_.sequences[static_cast<std::size_t>(j)];
    return a.s_q == b.s_q && a.s_kv == b.s_kv && a.key_offset == b.key_offset && a.key_start == b.key_start &&
           a.first_query_position() == b.first_query_position();
  }

  void prove(std::int64_t sequence, std::int64_t head) {
    mask_reading_.enter(problem_, sequence, head);
    reading_.enter(problem_, sequence, head);
    const Box all = entries_of(problem_.sequences[static_cast<std::size_t>(sequence)]);
    if (all.is_empty()) return;
    open_.clear();
    look_at(std::span(&all, 1), sequence, head);
    while (!open_.empty()) {
      const auto parts = split(open_.back());
      open_.pop_back();
      look_at(std::span(parts.begin(), parts.count), sequence, head);
    }
  }

  /// Proves boxes, opens them for closer looks, or throws.
  void look_at(std::span<const Box> boxes, std::int64_t sequence, std::int64_t head) {
    mask_reading_.evaluate(boxes);
    reading_.evaluate(boxes);
    boxes_ += static_cast<std::int64_t>(boxes.size());
    for (std::size_t lane = 0; lane < boxes.size(); ++lane) {
      if (kept(mask_reading_, lane).is_false()) continue;
      const IndexToProve* doubtful = first_not_inside(lane);
      if (doubtful == nullptr) continue;
      const Box& box = boxes[lane];
      const Interval& reached = reading_.value(doubtful->number, lane);
      const bool is_refuted = doubtful->is_outside(reached), is_entry = box.entries() == 1;
      if (is_refuted || is_entry || boxes_ >= kMaxBoxes) {
        const char* from = is_refuted || is_entry ? "at" : "among the entries from";
        refuse(graph_, *doubtful, reached,
               fmt::format("{} query_index {}, key_index {} of sequence {}, head {}{}", from, box.query_begin,
                           box.key_begin, sequence, head, is_refuted || is_entry ? "" : " on"),
               is_refuted);
      }
      open_.push_back(box);
    }
  }

  const IndexToProve* first_not_inside(std::size_t lane) const {
    for (const IndexToProve& index : indices_) {
      if (!index.is_inside(reading_.value(index.number, lane))) return &index;
    }
    return nullptr;
  }

  const Graph& graph_;
  const Problem& problem_;
  const std::vector<IndexToProve>& indices_;
  Mask mask_;
  IntervalProgram program_;
  IntervalReading mask_reading_, reading_;
  std::int64_t boxes_ = 0;
  std::vector<Box> open_;
};

/// A sink is read for every row, whatever is kept.
void prove_sink(const Graph& graph, const SlotBounds& slots, const Problem& problem,
                std::vector<IndexToProve>& indices) {
  const IntervalProgram program = compile(graph, slots, indices);
  IntervalReading reading(program);
  for (std::int64_t sequence = 0; sequence < problem.b(); ++sequence) {
    for (std::int64_t head = 0; head < problem.h_q; ++head) {
      reading.enter(problem, sequence, head);
      for (const IndexToProve& index : indices) {
        const Interval& reached = reading.value(index.number);
        if (index.is_inside(reached)) continue;
        refuse(graph, index, reached, fmt::format("in the sink of sequence {}, head {}", sequence, head),
               index.is_outside(reached));
      }
    }
  }
}

TableIndex checked_extents(const Table& table, const std::vector<std::int64_t>& extents) {
  if (extents.size() != static_cast<std::size_t>(table.rank()))
    fail_argument("table '{}': {} extents are given, expected {}", table.name(), extents.size(), table.rank());
  TableIndex result{};
  for (std::size_t axis = 0; axis < extents.size(); ++axis) {
    if (extents[axis] < 0 || extents[axis] > std::numeric_limits<std::int32_t>::max()) {
      fail_argument("table '{}': axis {} has extent {}, expected 0 to 2147483647", table.name(), axis, extents[axis]);
    }
    result[axis] = extents[axis];
  }
  return result;
}

}  // namespace

SlotBounds declared_bounds(const Graph& graph, std::span<const std::vector<std::int64_t>> extents) {
  if (extents.size() != graph.tables().size()) {
    fail_argument("table_extents: {} are given, expected {}, one for each table of the variant", extents.size(),
                  graph.tables().size());
  }
  SlotBounds slots;
  for (std::size_t i = 0; i < extents.size(); ++i) {
    const Table& table = graph.tables()[i];
    TableBounds bounds{.extents = {}, .data = {}, .range = declared_range(table)};
    if (const auto frozen = table.frozen_data()) {
      bounds.data = view_of(table, *frozen);
      bounds.extents = bounds.data->extents;
    } else {
      bounds.extents = checked_extents(table, extents[i]);
    }
    slots.tables.push_back(bounds);
  }
  for (const Parameter& parameter : graph.parameters()) {
    slots.parameters.push_back(parameter.type() == Type::real ? real_bounds(parameter.low(), parameter.high(), false)
                                                              : Interval{parameter.low(), parameter.high(), false});
  }
  slots.literals = graph.literals();
  return slots;
}

struct ReadBounds::Compiled {
  Compiled(const Variant::Data& variant, const SlotBounds& slots, std::vector<IndexToProve> its_indices)
      : indices(std::move(its_indices)), program(compile(variant.graph, slots, indices)), reading(program) {}
  std::vector<IndexToProve> indices;
  IntervalProgram program;
  IntervalReading reading;
};

ReadBounds::ReadBounds(const Variant::Data& variant, const SlotBounds& slots) {
  std::vector<bool> seen(variant.graph.size(), false);
  std::vector<IndexToProve> indices;
  for (const Stage& stage : variant.stages) collect(variant.graph, slots, stage.root, seen, indices);
  if (variant.sink != kNoNode) collect(variant.graph, slots, variant.sink, seen, indices);
  compiled_ = std::make_unique<Compiled>(variant, slots, std::move(indices));
}

ReadBounds::~ReadBounds() = default;

bool ReadBounds::are_inside(const IntervalPlace& universe) {
  compiled_->reading.evaluate(universe);
  return std::ranges::all_of(compiled_->indices, [&](const IndexToProve& index) {
    return index.is_inside(compiled_->reading.value(index.number));
  });
}

void expect_reads_inside(const Variant::Data& variant, const SlotBounds& slots, const Problem& problem) {
  std::vector<bool> seen(variant.graph.size(), false);
  std::vector<IndexToProve> indices;
  for (const Stage& stage : variant.stages) collect(variant.graph, slots, stage.root, seen, indices);
  if (!indices.empty()) ReadProof(variant, slots, problem, indices).run();
  std::vector<IndexToProve> in_sink;
  seen.assign(seen.size(), false);
  if (variant.sink != kNoNode) collect(variant.graph, slots, variant.sink, seen, in_sink);
  if (!in_sink.empty()) prove_sink(variant.graph, slots, problem, in_sink);
}

}  // namespace tiles
}  // namespace tilewise
