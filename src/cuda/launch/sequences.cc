#include "cuda/launch/sequences.h"

#include <algorithm>

#include "core/round_up.h"
#include "cuda/launch/kernel_text.h"

namespace tilewise::cuda {
namespace {

constexpr const char* kSource = R"cuda(#include "sequences.h"

extern "C" __global__ void write(const __grid_constant__ tilewise::cuda::SequenceBatch batch,
                                 tilewise::cuda::SequenceShape* to) {
  tilewise::cuda::write_sequences(batch, to);
}
extern "C" __global__ void gather(const __grid_constant__ tilewise::cuda::SequenceColumns columns,
                                  tilewise::cuda::SequenceShape* to) {
  tilewise::cuda::gather_sequences(columns, to);
}
)cuda";

constexpr int kThreads = 128;

bool are_alike(const Sequence& a, const Sequence& b) {
  const SequenceShape x = sequence_shape(a), y = sequence_shape(b);
  return x.queries == y.queries && x.keys == y.keys && x.key_start == y.key_start && x.query_offset == y.query_offset &&
         x.key_offset == y.key_offset && x.query_token == y.query_token && x.key_token == y.key_token;
}

}  // namespace

std::optional<SequenceShape> common_shape(const Problem& problem) {
  const std::vector<Sequence>& sequences = problem.sequences;
  if (sequences.empty() ||
      !std::ranges::all_of(sequences, [&](const Sequence& other) { return are_alike(other, sequences.front()); })) {
    return std::nullopt;
  }
  return sequence_shape(sequences.front());
}

SequenceShape sequence_shape(const Sequence& sequence) {
  return {static_cast<int>(sequence.s_q),
          static_cast<int>(sequence.s_kv),
          static_cast<int>(sequence.key_start),
          static_cast<int>(sequence.first_query_position()),
          static_cast<int>(sequence.key_offset),
          static_cast<int>(sequence.first_query_token),
          static_cast<int>(sequence.first_key_token),
          0};
}

std::vector<SequenceShape> sequence_shapes(const Problem& problem) {
  std::vector<SequenceShape> shapes;
  for (const Sequence& sequence : problem.sequences) shapes.push_back(sequence_shape(sequence));
  return shapes;
}

jit::Program sequences_program(const jit::Architecture& architecture) {
  jit::Program program;
  program.name = "sequences.cu";
  program.source = kSource;
  program.headers = device_headers();
  program.options = {"--std=c++17"};
  program.architecture = architecture;
  program.kernels = {"write", "gather"};
  return program;
}

SequenceWriter::SequenceWriter(jit::Compiler& compiler, std::shared_ptr<const jit::Context> context)
    : module_(jit::load_program(compiler, sequences_program(context->device().architecture()), context)),
      write_(module_->kernel("write")),
      gather_(module_->kernel("gather")) {}

void SequenceWriter::write(const Problem& problem, SequenceShape* to, jit::StreamHandle stream) const {
  const std::vector<Sequence>& sequences = problem.sequences;
  const auto count = static_cast<int>(sequences.size());
  const bool all_alike = common_shape(problem).has_value();
  for (int first = 0; first < count;) {
    SequenceBatch batch;
    batch.are_all_alike = all_alike;
    batch.count = all_alike ? count : std::min(count - first, SequenceBatch::kMost);
    for (int i = 0; i < (all_alike ? 1 : batch.count); ++i)
      batch.shapes[i] = sequence_shape(sequences[static_cast<std::size_t>(first + i)]);
    const auto blocks = static_cast<unsigned>(ceil_div(batch.count, kThreads));
    write_({.grid = {blocks, 1, 1}, .block = {kThreads, 1, 1}, .stream = stream}, batch, to + first);
    first += batch.count;
  }
}

void SequenceWriter::gather(const SequenceColumns& columns, SequenceShape* to, jit::StreamHandle stream) const {
  if (columns.b == 0) return;
  const auto blocks = static_cast<unsigned>(ceil_div(columns.b, kThreads));
  gather_({.grid = {blocks, 1, 1}, .block = {kThreads, 1, 1}, .stream = stream}, columns, to);
}

}  // namespace tilewise::cuda
