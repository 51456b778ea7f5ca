#include <fmt/format.h>

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
  RearrangedWriter(const Variant::Data& data, const Rearranged& rearranged)
      : CudaWriter(data, rearranged.graph), rearranged_(rearranged) {
    std::vector<NodeId> roots;
    for (const NodeId root : {rearranged.score, rearranged.exponent, rearranged.slope}) {
      if (root != kNoNode) roots.push_back(root);
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
      write_value("exponent", rearranged_.exponent);
    }
    const bool has_slope = rearranged_.slope != kNoNode;
    if (has_slope) write_value("slope", rearranged_.slope);
    if (data_.sink != kNoNode) write_sink();
    text_ += "}  // namespace variant\n";
    CudaText text{std::move(text_), std::move(layout_), true, has_slope, false, fields_, rearranged_.slope_is_finite};
    count_operations(text);
    return text;
  }

 private:
  bool is_fast(NodeId id) const override {
    static const std::set<std::int32_t> kFast = {number_of<Addition>,
                                                 number_of<Subtraction>,
                                                 number_of<Multiplication>,
                                                 number_of<Negation>,
                                                 number_of<Division>,
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
      if (live_[id] && is_work && hoist_[id] != Hoist::entry) ++text.hoisted_operations;
    }
    if (rearranged_.exponent == kNoNode) return;
    const std::vector<bool> needed = needed_by({rearranged_.exponent}, text_of(Hoist::entry));
    for (NodeId id = 0; id < graph_.size(); ++id) {
      const bool is_function = graph_[id].kind == Kind::operation && graph_[id].index >= number_of<Exponential>;
      if (needed[id] && hoist_[id] == Hoist::entry && is_function) ++text.special_functions;
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

  const Rearranged& rearranged_;
};

}  // namespace

CudaText rearranged_cuda_text(const Variant& variant, DType dtype, bool with_slope) {
  const Rearranged made = rearranged(variant.data(), with_slope);
  return RearrangedWriter(variant.data(), made).write(dtype);
}

}  // namespace tilewise::variant
