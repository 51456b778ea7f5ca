#include "nn/linear.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "core/fail.h"
#include "core/half.h"
#include "core/round_up.h"
#include "nn/float_products.h"
#include "nn/quantised.h"

namespace tilewise::nn {

/// Where a matrix lies, and how it is multiplied.
struct Linear::Stored {
  WeightMatrix matrix{};         // of floats: as given; else without elements
  std::vector<float> aligned{};  // float32 that was not aligned in its file
  PanelMatrix panels{};          // of quantised kinds
  Precision precision{};

  bool by_rounding() const { return is_quantised(matrix.kind) && precision == Precision::rounded; }
  bool in_place() const { return matrix.kind == WeightKind::float32; }
  const float* floats() const { return reinterpret_cast<const float*>(matrix.stored); }
};

namespace {

/// How a product is cut into tasks. That follows from the problem where results could tell (float32 sums), and from the
/// number of workers where they cannot.
struct Cut {
  std::int64_t rows, tokens;  // of a task
  std::int64_t row_tasks, tasks;

  Cut(std::int64_t rows_of_task, std::int64_t tokens_of_task, std::int64_t all_rows, std::int64_t all_tokens)
      : rows(rows_of_task),
        tokens(tokens_of_task),
        row_tasks(ceil_div(all_rows, rows)),
        tasks(row_tasks * ceil_div(all_tokens, tokens)) {}
};

}  // namespace

struct LinearScratch::Memory {
  std::vector<Cut> cuts{};  // of each product
  std::vector<ActivationBlock> rounded{};
  std::vector<float> dequantised{};  // [workers, kDequantisedSlice.rows, columns]
};

namespace {

/// A slice of a float product: rows and tokens. OpenBLAS packs both for each slice anew, so that large ones are
/// quicker: at 384 columns 64 rows by 512 tokens reach 83 GFLOP/s of 117, 384 by 256 reach 89, 384 by 512 reach 92 and
/// 1536 by 512 reach 94 (Zen 4, one core). Where tokens are fewer, threads must still find several.
struct Slice {
  std::int64_t least_tokens, rows, tokens;
};
constexpr Slice kSlices[] = {{4096, 1536, 512}, {1024, 384, 256}, {0, 64, 512}};
/// Of rows that are dequantised: few, which stay in the cache, for many tokens.
constexpr Slice kDequantisedSlice{0, 64, 512};
/// Rounded activations that a task reads again for each panel: half of a small second-level cache.
constexpr std::int64_t kRoundedBytes = std::int64_t{192} << 10;
/// Tasks a worker: enough to even out, and few enough for long reads of weights where those are what takes the time
/// (one token of SmolLM2-135M's linear layers on four cores of a Zen 4: 2.0 to 2.6 ms in two tasks, 2.7 to 4.4 in
/// sixteen).
constexpr std::int64_t kTasksOfWorker = 8, kReadingTasksOfWorker = 2;
/// Multiply-adds of one token that are worth a task: some 0.4 us, of which handing it out takes a tenth.
constexpr std::int64_t kLeastWork = 1 << 14;

template <class Half>
void widen(const std::byte* stored, std::int64_t count, float* out) {
  for (std::int64_t i = 0; i < count; ++i) {
    Half half;
    std::memcpy(&half, stored + 2 * i, sizeof(half));
    out[i] = static_cast<float>(half);
  }
}

/// Rows [first, first + count) as float32.
void read_rows(const Linear::Stored& stored, std::int64_t first, std::int64_t count, float* out) {
  const WeightMatrix& m = stored.matrix;
  const std::int64_t elements = count * m.columns, offset = first * m.columns;
  switch (m.kind) {
    case WeightKind::float32:
      std::memcpy(out, stored.floats() + offset, static_cast<std::size_t>(elements) * sizeof(float));
      return;
    case WeightKind::float16: return widen<Float16>(m.stored + 2 * offset, elements, out);
    case WeightKind::bfloat16: return widen<Bfloat16>(m.stored + 2 * offset, elements, out);
    default: break;
  }
  while (count > 0) {
    const std::int64_t row = first % kPanelRows, rows = std::min(count, kPanelRows - row);
    dequantise(stored.panels, first / kPanelRows, row, rows, out);
    first += rows, count -= rows, out += rows * m.columns;
  }
}

Cut cut_of(const Linear::Stored& weights, std::int64_t tokens, std::int64_t bunch, int workers) {
  const std::int64_t all_rows = weights.matrix.rows, columns = std::max<std::int64_t>(weights.matrix.columns, 1);
  if (!weights.by_rounding()) {
    const Slice* fitting = std::ranges::find_if(kSlices, [&](const Slice& s) { return tokens >= s.least_tokens; });
    const Slice slice = weights.in_place() ? *fitting : kDequantisedSlice;
    return {slice.rows, slice.tokens, all_rows, tokens};
  }
  const std::int64_t token_bytes =
      std::max<std::int64_t>(columns / kBlock, 1) * static_cast<std::int64_t>(sizeof(ActivationBlock));
  const std::int64_t most = std::max<std::int64_t>(kRoundedBytes / token_bytes / bunch, 1) * bunch;
  const std::int64_t chunks = ceil_div(tokens, most), chunk = round_up(ceil_div(tokens, chunks), bunch);
  const std::int64_t worth = kLeastWork / columns / std::min(tokens, chunk);
  const std::int64_t of_worker = tokens == 1 ? kReadingTasksOfWorker : kTasksOfWorker;
  const std::int64_t row_tasks = workers == 1 ? 1 : std::max<std::int64_t>(of_worker * workers / chunks, 1);
  const std::int64_t rows = std::max({ceil_div(all_rows, row_tasks), worth, std::int64_t{1}});
  return {round_up(rows, kPanelRows), chunk, all_rows, tokens};
}

/// All that the tasks of one call share.
struct Call {
  const Rows& x;
  const QuantisedKernels& kernels;
  const ActivationBlock* rounded;  // [x.count, x.columns / 32], in bunches
  float* dequantised;              // [workers, kDequantisedSlice.rows, x.columns]
};

/// What a task computes: y of so many rows and tokens.
struct Part {
  std::int64_t row, rows, token, tokens;
};

void multiply_rounded(const Call& call, const Product& product, const Part& part) {
  const Linear::Stored& weights = *product.weights->stored();
  float* y = product.y + part.token * product.y_stride;
  call.kernels.multiply(weights.panels, part.row / kPanelRows, ceil_div(part.row + part.rows, kPanelRows),
                        call.rounded + part.token * (call.x.columns / kBlock), part.tokens, y, product.y_stride);
  if (product.bias == nullptr) return;
  for (std::int64_t t = 0; t < part.tokens; ++t) {
    for (std::int64_t r = part.row; r < part.row + part.rows; ++r) y[t * product.y_stride + r] += product.bias[r];
  }
}

void multiply_precise(const Call& call, const Product& product, const Part& part, int worker) {
  const Linear::Stored& weights = *product.weights->stored();
  const std::int64_t columns = call.x.columns;
  const float* w = nullptr;
  if (weights.in_place()) {
    w = weights.floats() + part.row * columns;
  } else {
    float* read = call.dequantised + worker * kDequantisedSlice.rows * columns;
    read_rows(weights, part.row, part.rows, read);
    w = read;
  }
  multiply_floats(call.x.data + part.token * call.x.stride, call.x.stride, w, columns,
                  product.bias == nullptr ? nullptr : product.bias + part.row, part.tokens, part.rows, columns,
                  product.y + part.token * product.y_stride + part.row, product.y_stride);
}

void run_task(const Call& call, const Product& product, const Cut& cut, std::int64_t task, int worker) {
  const Linear::Stored& weights = *product.weights->stored();
  const std::int64_t row = task % cut.row_tasks * cut.rows, token = task / cut.row_tasks * cut.tokens;
  const Part part{row, std::min(cut.rows, weights.matrix.rows - row), token,
                  std::min(cut.tokens, call.x.count - token)};
  if (weights.by_rounding()) return multiply_rounded(call, product, part);
  multiply_precise(call, product, part, worker);
}

void check(const Rows& x, std::span<const Product> products) {
  if (x.count < 0 || x.columns < 0 || x.stride < x.columns) {
    fail_argument(
        "x is [{}, {}] with rows {} elements apart; expected no negative extent, and rows that do not overlap", x.count,
        x.columns, x.stride);
  }
  for (std::size_t i = 0; i < products.size(); ++i) {
    const Product& product = products[i];
    if (product.weights == nullptr || product.weights->stored() == nullptr) {
      fail_argument("products[{}].weights is empty; expected a matrix", i);
    }
    if (product.weights->columns() != x.columns) {
      fail_argument("products[{}].weights has {} columns; expected {}, those of x", i, product.weights->columns(),
                    x.columns);
    }
    if (product.y_stride < product.weights->rows()) {
      fail_argument("products[{}].y_stride is {}; expected at least {}, the rows of its weights", i, product.y_stride,
                    product.weights->rows());
    }
    constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
    if (!product.weights->stored()->by_rounding() && std::max({x.stride, product.y_stride, x.columns}) > kMost) {
      fail_argument("products[{}] has rows of more than {} elements, which float32 products do not take", i, kMost);
    }
  }
}

const ActivationBlock* round(const Rows& x, const QuantisedKernels& kernels, std::vector<ActivationBlock>& memory,
                             Executor& executor) {
  const std::int64_t blocks = x.columns / kBlock;
  const auto needed = static_cast<std::size_t>(x.count * blocks);
  if (memory.size() < needed) memory.resize(needed);
  // Several bunches a task: rounding takes about 0.1 us for 576 columns.
  const std::int64_t chunk = 4 * kernels.bunch;
  executor.parallel_for(ceil_div(x.count, chunk), [&](std::int64_t index, int) {
    const std::int64_t first = index * chunk, count = std::min(chunk, x.count - first);
    kernels.round(x.data + first * x.stride, x.stride, count, x.columns, memory.data() + first * blocks);
  });
  return memory.data();
}

}  // namespace

Linear::Linear(const WeightMatrix& stored, Precision precision, Executor& executor) {
  const BlockSize size = block_size(stored.kind);
  if (stored.rows < 0 || stored.columns < 0 || stored.columns % size.elements != 0) {
    fail_argument("weights are [{}, {}] of {}; expected no negative extent, and columns in multiples of {}",
                  stored.rows, stored.columns, to_string(stored.kind), size.elements);
  }
  Stored made{.matrix = stored, .precision = precision};
  const auto elements = static_cast<std::size_t>(stored.rows * stored.columns);
  if (is_quantised(stored.kind)) {
    made.panels = to_panels(stored, executor);
    made.matrix.stored = nullptr;
  } else if (stored.kind == WeightKind::float32 &&
             reinterpret_cast<std::uintptr_t>(stored.stored) % alignof(float) != 0) {
    made.aligned.resize(elements);
    std::memcpy(made.aligned.data(), stored.stored, elements * sizeof(float));
  }
  auto kept = std::make_shared<Stored>(std::move(made));
  if (!kept->aligned.empty()) kept->matrix.stored = reinterpret_cast<const std::byte*>(kept->aligned.data());
  stored_ = std::move(kept);
}

std::int64_t Linear::rows() const { return stored_ ? stored_->matrix.rows : 0; }

std::int64_t Linear::columns() const { return stored_ ? stored_->matrix.columns : 0; }

WeightKind Linear::kind() const { return stored_ ? stored_->matrix.kind : WeightKind::float32; }

std::int64_t Linear::bytes() const {
  if (is_quantised(kind())) return stored_->panels.panels() * stored_->panels.panel_bytes();
  return rows() * columns() * block_size(kind()).bytes;
}

void Linear::read_row(std::int64_t row, float* out) const {
  if (row < 0 || row >= rows()) fail_argument("row is {}; expected one of [0, {})", row, rows());
  read_rows(*stored_, row, 1, out);
}

LinearScratch::LinearScratch() : memory_(std::make_unique<Memory>()) {}
LinearScratch::LinearScratch(LinearScratch&&) noexcept = default;
LinearScratch& LinearScratch::operator=(LinearScratch&&) noexcept = default;
LinearScratch::~LinearScratch() = default;

void multiply(const Rows& x, std::span<const Product> products, LinearScratch& scratch, Executor& executor) {
  check(x, products);
  if (x.count == 0) return;
  LinearScratch::Memory& memory = scratch.memory();
  const auto any = [&](auto is) {
    return std::ranges::any_of(products, [&](const Product& product) { return is(*product.weights->stored()); });
  };
  Call call{.x = x, .kernels = chosen_quantised_kernels(), .rounded = nullptr, .dequantised = nullptr};
  if (any([](const Linear::Stored& w) { return w.by_rounding(); })) {
    call.rounded = round(x, call.kernels, memory.rounded, executor);
  }
  if (any([](const Linear::Stored& w) { return !w.by_rounding() && !w.in_place(); })) {
    const auto needed = static_cast<std::size_t>(executor.workers() * kDequantisedSlice.rows * x.columns);
    if (memory.dequantised.size() < needed) memory.dequantised.resize(needed);
    call.dequantised = memory.dequantised.data();
  }
  std::vector<Cut>& cuts = memory.cuts;
  cuts.clear();
  std::int64_t tasks = 0;
  for (const Product& product : products) {
    cuts.push_back(cut_of(*product.weights->stored(), x.count, call.kernels.bunch, executor.workers()));
    tasks += cuts.back().tasks;
  }
  executor.parallel_for(tasks, [&](std::int64_t task, int worker) {
    std::size_t i = 0;
    while (task >= cuts[i].tasks) task -= cuts[i++].tasks;
    run_task(call, products[i], cuts[i], task, worker);
  });
}

}  // namespace tilewise::nn
