// The memory that a plan tells before the run is what its calls use, within a tenth.
//
// A plan tells the most that any of its calls needs, and how much of that calls of the planned lengths touch. Counted
// are the pages of a fresh workspace that its most demanding calls touch, and what they allocate besides by operator
// new. One worker, since a worker that finds nothing left to do does not touch its part.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <new>
#include <numeric>
#include <vector>

#include "tests/counted_allocations.h"
#include "tilewise/attention.h"
#include "tilewise/zoo.h"

namespace tilewise {
namespace {

/// Memory straight from the system, none of it resident before it is touched.
class FreshMemory {
 public:
  explicit FreshMemory(std::int64_t bytes) : bytes_(static_cast<std::size_t>(std::max<std::int64_t>(bytes, 1))) {
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) throw std::bad_alloc();
    madvise(memory_, bytes_, MADV_NOHUGEPAGE);  // a huge page would be resident as a whole
  }
  ~FreshMemory() { munmap(memory_, bytes_); }
  FreshMemory(const FreshMemory&) = delete;
  FreshMemory& operator=(const FreshMemory&) = delete;

  std::span<std::byte> span() const { return {static_cast<std::byte*>(memory_), bytes_}; }

  std::int64_t touched_bytes() const {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    std::vector<unsigned char> resident((bytes_ + page - 1) / page);
    if (mincore(memory_, bytes_, resident.data()) != 0) throw std::bad_alloc();
    const auto pages = std::ranges::count_if(resident, [](unsigned char bits) { return (bits & 1) != 0; });
    return static_cast<std::int64_t>(pages) * static_cast<std::int64_t>(page);
  }

 private:
  void* memory_;
  std::size_t bytes_;
};

struct Case {
  const char* name;
  Variant variant;
  PlanShape shape;

  friend void PrintTo(const Case& one, std::ostream* to) { *to << one.name; }
};

/// Tensors of a planned shape, all zeros, and the calls that touch all that a plan may need.
class Data {
 public:
  explicit Data(const PlanShape& shape)
      : shape_(shape),
        inputs_{.q = tensor(shape.h_q, shape.s_q, shape.d_qk),
                .k = tensor(shape.h_kv, shape.s_kv, shape.d_qk),
                .v = tensor(shape.h_kv, shape.s_kv, shape.d_v)},
        outputs_{.o = tensor(shape.h_q, shape.s_q, shape.d_v), .lse = lse(DType::float32)},
        gradients_{.d_q = tensor(shape.h_q, shape.s_q, shape.d_qk),
                   .d_k = tensor(shape.h_kv, shape.s_kv, shape.d_qk),
                   .d_v = tensor(shape.h_kv, shape.s_kv, shape.d_v)} {
    given_.o = outputs_.o;
    given_.lse = outputs_.lse;
    given_.d_o = tensor(shape.h_q, shape.s_q, shape.d_v);
    const Sequence sequence{.s_q = shape.s_q, .s_kv = shape.s_kv, .query_offset = shape.query_offset};
    inputs_.sequences.assign(static_cast<std::size_t>(shape.b), sequence);
    forward_calls_.emplace_back(inputs_, outputs_);
    if (shape.backward) return;
    forward_calls_.emplace_back(paged(), ForwardOutputs{.o = outputs_.o, .lse = lse(DType::float64)});
    forward_calls_.push_back(of_few());
  }

  void run(const Plan& plan, Workspace& workspace) const {
    for (const auto& [inputs, outputs] : forward_calls_) plan.forward(inputs, outputs, workspace);
    if (shape_.backward) plan.backward(inputs_, given_, gradients_, workspace);
  }

 private:
  /// The same keys in pages of 16: kernels gather them.
  ForwardInputs paged() {
    const std::int64_t pages = (shape_.s_kv + 15) / 16;
    auto& numbers = tables_.emplace_back(static_cast<std::size_t>(shape_.b * pages));
    std::iota(numbers.begin(), numbers.end(), 0);
    ForwardInputs inputs = inputs_;
    const std::int64_t all = shape_.b * pages * 16;
    inputs.k = of_pages(all, shape_.d_qk);
    inputs.v = of_pages(all, shape_.d_v);
    inputs.block_table = ConstTensor(numbers.data(), DType::int32, {shape_.b, pages});
    return inputs;
  }
  /// And sequences of a few queries, which are decoded.
  std::pair<ForwardInputs, ForwardOutputs> of_few() {
    const std::int64_t few = std::min<std::int64_t>(shape_.s_q, 8);
    ForwardInputs inputs = inputs_;
    inputs.q = tensor(shape_.h_q, few, shape_.d_qk);
    for (Sequence& sequence : inputs.sequences) sequence.s_q = few;
    return {inputs, {.o = tensor(shape_.h_q, few, shape_.d_v)}};
  }

  void* zeros(std::int64_t bytes) { return memory_.emplace_back(static_cast<std::size_t>(bytes)).data(); }
  Tensor tensor(std::int64_t h, std::int64_t s, std::int64_t d) {
    return {zeros(shape_.b * h * s * d * size_of(shape_.dtype)), shape_.dtype, {shape_.b, h, s, d}};
  }
  Tensor of_pages(std::int64_t tokens, std::int64_t d) {
    return {zeros(shape_.h_kv * tokens * d * size_of(shape_.dtype)), shape_.dtype, {tokens / 16, shape_.h_kv, 16, d}};
  }
  Tensor lse(DType dtype) {
    return {zeros(shape_.b * shape_.h_q * shape_.s_q * size_of(dtype)), dtype, {shape_.b, shape_.h_q, shape_.s_q}};
  }

  PlanShape shape_;
  std::vector<std::vector<std::byte>> memory_;
  std::vector<std::vector<std::int32_t>> tables_;
  ForwardInputs inputs_;
  ForwardOutputs outputs_;
  BackwardInputs given_;
  BackwardOutputs gradients_;
  std::vector<std::pair<ForwardInputs, ForwardOutputs>> forward_calls_;
};

class Memory : public ::testing::TestWithParam<Case> {};

TEST_P(Memory, IsWhatThePlanTells) {
  const Case& c = GetParam();
  const std::unique_ptr<Executor> executor = make_thread_pool(1);
  const Data data(c.shape);
  const Plan plan = Attention(c.variant).plan(c.shape, Device::cpu(*executor));
  ASSERT_LE(plan.touched_bytes(), plan.workspace_bytes());
  const auto told = static_cast<double>(plan.touched_bytes());
  const FreshMemory memory(plan.workspace_bytes());
  Workspace workspace(memory.span());
  ASSERT_EQ(memory.touched_bytes(), 0);

  const std::int64_t before = live_bytes;
  peak_bytes = before;
  data.run(plan, workspace);
  const auto used = static_cast<double>(memory.touched_bytes() + (peak_bytes - before));
  RecordProperty("told", std::to_string(told));
  RecordProperty("used", std::to_string(used));
  EXPECT_GT(used, 0.9 * told) << plan.explain();
  EXPECT_LT(used, 1.1 * told) << plan.explain();

  // Told again by explain(), to the byte.
  const std::string line = "workspace: " + std::to_string(plan.workspace_bytes()) +
                           " bytes, of which calls of the planned lengths touch " +
                           std::to_string(plan.touched_bytes());
  EXPECT_NE(plan.explain().find(line), std::string::npos) << plan.explain();
}

PlanShape shape_of(std::int64_t b, std::int64_t h_q, std::int64_t h_kv, std::int64_t s_q, std::int64_t s_kv,
                   std::int64_t d, bool backward, DType dtype = DType::float32) {
  return {.dtype = dtype,
          .b = b,
          .h_q = h_q,
          .h_kv = h_kv,
          .d_qk = d,
          .d_v = d,
          .s_q = s_q,
          .s_kv = s_kv,
          .backward = backward};
}

/// Queries behind all keys: causal attention keeps everything.
PlanShape behind_keys(PlanShape shape) {
  shape.query_offset = shape.s_kv;
  return shape;
}

std::vector<Case> cases() {
  return {
      {"ForwardLong", {}, shape_of(1, 1, 1, 8192, 8192, 64, false)},
      {"ForwardWide", zoo::causal(), shape_of(1, 4, 2, 2048, 2048, 128, false)},
      {"ForwardBatch", {}, shape_of(8, 8, 8, 256, 256, 64, false, DType::bfloat16)},
      {"Decode", zoo::causal(), shape_of(4, 32, 8, 1, 8192, 128, false)},
      {"BackwardLong", {}, shape_of(1, 1, 1, 8192, 8192, 64, true)},
      {"BackwardGroups", zoo::causal(), shape_of(1, 8, 2, 1024, 1024, 128, true)},
      {"BackwardBatch", zoo::softcap(30), shape_of(4, 4, 4, 512, 512, 64, true, DType::bfloat16)},
      {"BackwardGroupsBehind", zoo::causal(), behind_keys(shape_of(1, 8, 2, 1024, 1024, 128, true))},
      // Sums of splits of the keys that a block of queries does not see are not touched.
      {"BackwardMasked", zoo::longformer(512, 16), shape_of(1, 2, 2, 4096, 4096, 64, true)},
      {"BackwardMaskedBatch", zoo::window(100), shape_of(3, 6, 2, 3000, 3000, 64, true)},
      {"BackwardMaskedByHead",
       keep([](const At& at) { return at.query - at.key < 64 * (1 + at.head * at.head); }) & zoo::causal(),
       shape_of(1, 6, 2, 3000, 3000, 64, true)},
      {"BackwardUneven", zoo::alibi(2), shape_of(2, 2, 1, 777, 3001, 80, true)},
  };
}

INSTANTIATE_TEST_SUITE_P(, Memory, ::testing::ValuesIn(cases()), [](const auto& one) { return one.param.name; });

TEST(MemoryTold, GrowsWithLengthNotWithItsSquare) {
  for (const bool backward : {false, true}) {
    const std::unique_ptr<Executor> executor = make_thread_pool(4);
    const auto told = [&](std::int64_t s) {
      return Attention().plan(shape_of(1, 8, 8, s, s, 64, backward), Device::cpu(*executor)).workspace_bytes();
    };
    EXPECT_LT(told(1 << 17), 9 * told(1 << 14)) << backward;  // eight times the length
  }
}

}  // namespace
}  // namespace tilewise
