// The CUDA reading of random variants against the scalar reading.
#include <gtest/gtest.h>

#include <array>
#include <cstdlib>
#include <limits>

#include "cuda/launch/bound_variant.h"
#include "cuda/launch/forward.h"
#include "cuda/launch/kernel_text.h"
#include "cuda/launch/sequences.h"
#include "jit/compiler.h"
#include "tests/gpu/with_gpu.h"
#include "tests/laws/random_variant.h"
#include "tests/laws/reading.h"

namespace tilewise::cuda::testing {
namespace {

// Writes what partial_score makes of each entry, and sets a sink's logit beside it.
constexpr const char* kSource = R"cuda(
#include "variant.h"
using tilewise::cuda::KernelVariant;
struct Entry {
  int sequence, head, query_index, key_index;
  float s;
};
extern "C" __global__ void evaluate(const __grid_constant__ variant::Arguments bound,
                                    const tilewise::cuda::SequenceShape* sequences, const Entry* entries,
                                    float* scores, int count, int heads_per_kv) {
  const int i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= count) return;
  const Entry e = entries[i];
  const auto place =
      KernelVariant::place_of(bound, sequences[e.sequence], e.sequence, e.head, e.head / heads_per_kv, 1.0f);
  const auto query = KernelVariant::query_values(bound, place, e.query_index);
  const auto key = KernelVariant::key_values(bound, place, e.key_index);
  scores[i] = KernelVariant::partial_score(bound, place, query, key, e.query_index, e.key_index, e.s);
}
)cuda";

struct KernelEntry {
  int sequence, head, query_index, key_index;
  float s;
};

class VariantOnGpu : public jit::WithGpu {
 protected:
  /// The kernel's scores of the entries, -inf for removed ones.
  std::vector<float> evaluate(const Variant& variant, const Bindings& bindings, const Problem& problem,
                              const std::vector<KernelEntry>& entries) {
    const variant::CudaText text = variant::cuda_text(variant);
    jit::Program program;
    program.name = "evaluate.cu";
    program.source = kSource;
    program.headers = device_headers();
    program.headers.push_back(variant_header(variant, text));
    program.options = {"--std=c++17"};
    program.architecture = context_->device().architecture();
    program.kernels = {"evaluate"};
    const jit::Kernel kernel = jit::load_program(compiler_, program, context_)->kernel("evaluate");
    const BoundVariant bound(context_, variant, text.layout, bindings);
    const jit::DeviceArray<SequenceShape> sequences(*context_, sequence_shapes(problem));
    const jit::DeviceArray<KernelEntry> entry_array(*context_, entries);
    const jit::DeviceArray<float> scores(*context_, std::vector<float>(entries.size(), 12345.0f));
    jit::DevicePointer sequence_pointer = sequences.pointer(), entry_pointer = entry_array.pointer(),
                       score_pointer = scores.pointer();
    int count = static_cast<int>(entries.size()), heads_per_kv = static_cast<int>(problem.h_q / problem.h_kv);
    std::array<void*, 6> arguments = {const_cast<std::byte*>(bound.bytes().data()),
                                      &sequence_pointer,
                                      &entry_pointer,
                                      &score_pointer,
                                      &count,
                                      &heads_per_kv};
    kernel.launch({.grid = {static_cast<unsigned>((count + 127) / 128), 1, 1}, .block = {128, 1, 1}}, arguments.data());
    return scores.values();
  }

  void expect_same_bits(std::uint64_t seed) {
    laws::Options options;
    options.transcendental = false;  // then every value is correctly rounded, the same in every reading
    laws::Choices choices = laws::full_tape(seed);
    const laws::RandomVariant random = laws::random_variant(choices, options);
    Problem problem = laws::random_problem(choices);
    std::vector<laws::Entry> places;
    std::vector<KernelEntry> entries;
    choices = laws::full_tape(~seed);
    for (int i = 0; i < 100; ++i) {
      const laws::Entry place = laws::random_entry(choices, problem);
      places.push_back(place);
      entries.push_back({static_cast<int>(place.sequence), static_cast<int>(place.head),
                         static_cast<int>(place.query_index), static_cast<int>(place.key_index),
                         laws::random_score(choices)});
    }
    const Bindings bindings = random.bindings();
    const std::vector<float> got = evaluate(random.variant, bindings, problem, entries);
    const variant::Graph& graph = random.variant.data().graph;
    const variant::Bound bound = variant::bind(graph, bindings);
    variant::ScalarReading<float> reading(graph, bound);
    for (std::size_t i = 0; i < entries.size(); ++i) {
      reading.enter(
          variant::place_of(problem, places[i].sequence, places[i].head, places[i].query_index, places[i].key_index));
      const auto outcome = laws::apply<float>(random.variant, reading, {true, entries[i].s});
      const float expected = outcome.kept ? outcome.score : -std::numeric_limits<float>::infinity();
      ASSERT_TRUE(laws::same(got[i], expected)) << "seed " << seed << ", entry " << i << ": " << got[i]
                                                << " on the GPU, " << expected << " by the scalar reading\n"
                                                << laws::listing(random.variant);
    }
  }

  jit::Compiler& compiler_ = jit::Compiler::instance();  // TILEWISE_CACHE_DIR keeps what many runs compile
};

TEST_F(VariantOnGpu, ReadsRandomVariantsToTheSameBits) {
  const char* first = std::getenv("TILEWISE_SEED");
  const std::uint64_t begin = first == nullptr ? 1 : std::stoull(first);
  for (std::uint64_t seed = begin; seed < begin + 60; ++seed) {
    expect_same_bits(seed);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace tilewise::cuda::testing
