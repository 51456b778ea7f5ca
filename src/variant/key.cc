// The content key: a hash of the canonical graph without the values that a call may rebind.
#include <fmt/format.h>
#include <xxhash.h>

#include <bit>

#include "variant/graph.h"

namespace tilewise {
namespace variant {
namespace {

/// Bytes in one order on every platform.
class Writer {
 public:
  void byte(std::uint8_t value) { bytes_.push_back(value); }
  void word(std::uint64_t value) {
    for (int shift = 0; shift < 64; shift += 8) byte(static_cast<std::uint8_t>(value >> shift));
  }
  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  std::vector<std::uint8_t> bytes_;
};

void write(Writer& writer, const Graph& graph, const Node& node) {
  writer.byte(static_cast<std::uint8_t>(node.kind));
  writer.byte(static_cast<std::uint8_t>(node.type));
  writer.byte(node.clamped ? 1 : 0);
  writer.byte(node.operand_count);
  writer.word(static_cast<std::uint64_t>(node.index));
  for (NodeId operand : node.inputs()) writer.word(operand);
  if (node.is_constant()) writer.word(std::bit_cast<std::uint64_t>(node.value));
  // A table's storage shapes the code that reads it; its name, extents and contents do not.
  if (node.kind == Kind::read)
    writer.byte(static_cast<std::uint8_t>(graph.tables()[static_cast<std::size_t>(node.index)].dtype()));
}

}  // namespace
}  // namespace variant

std::string Variant::key() const {
  variant::Writer writer;
  for (const variant::Node& node : data_->graph.nodes()) variant::write(writer, data_->graph, node);
  for (const variant::Stage& stage : data_->stages) {
    writer.byte(static_cast<std::uint8_t>(stage.kind));
    writer.word(stage.root);
  }
  writer.word(data_->sink);
  writer.byte(data_->has_dropout ? 1 : 0);
  const XXH128_hash_t hash = XXH3_128bits(writer.bytes().data(), writer.bytes().size());
  return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
}

}  // namespace tilewise
