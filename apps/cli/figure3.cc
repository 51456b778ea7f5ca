#include "figure3.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "attention_case.h"
#include "command.h"
#include "memory_use.h"
#include "progress.h"
#include "standard_case.h"
#include "table.h"
#include "tilewise/error.h"
#include "tilewise/zoo.h"

namespace tilewise::cli {
namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// Blocks i and j see each other where i and j differ in at most one bit: the paths of a butterfly network (Dao et al.
/// 2022, Pixelated Butterfly), N / block * (1 + log2(N / block)) blocks in all.
Variant butterfly(std::int64_t length, std::int64_t block) {
  const std::int64_t blocks = (length + block - 1) / block;
  std::vector<std::uint8_t> seen(static_cast<std::size_t>(blocks * blocks));
  for (std::int64_t i = 0; i < blocks; ++i) {
    for (std::int64_t j = 0; j < blocks; ++j)
      seen[static_cast<std::size_t>(i * blocks + j)] = ((i ^ j) & ((i ^ j) - 1)) == 0;
  }
  const Table table = Table::frozen("blocks", ConstTensor(seen.data(), DType::boolean, {blocks, blocks}));
  return zoo::block_sparse(static_cast<std::int32_t>(block), table);
}

/// The methods of one length that are to be measured, and their timing.
class Measurement {
 public:
  Measurement(const Figure3Options& options, const Machine& machine, std::int64_t length)
      : options_(options),
        machine_(machine),
        shape_{.h_q = options.heads,
               .h_kv = options.heads,
               .s_q = length,
               .s_kv = length,
               .d = options.dim,
               .backward = true},
        alternation_({.cpu_time = machine.cpu_time()}) {}

  void prepare(Figure3Method method, Figure3Point& point) {
    if (method == standard) {
      const ResidentGrowth growth;
      standard_ = std::make_unique<StandardCase>(options_.heads, shape_.s_q, options_.dim, machine_.executor());
      add(method, point, growth, *standard_);
      // What it holds besides: q, k, v, o, d_o and three gradients.
      const std::int64_t tensors = 8 * options_.heads * shape_.s_q * options_.dim * 4;
      point.measured_bytes = std::max<std::int64_t>(point.measured_bytes - tensors, 0);  // smaller ones were there
      return;
    }
    const Variant variant = method == block_sparse ? butterfly(shape_.s_q, options_.block) : Variant();
    auto& made = tiled_.emplace_back(std::make_unique<AttentionCase>(variant, shape_, machine_.device()));
    point.extra_bytes = made->plan().workspace_bytes() + options_.heads * shape_.s_q * 4;  // and lse
    point.tiles_kept = made->kept_share();
    const ResidentGrowth growth;
    add(method, point, growth, *made);
    point.measured_bytes += options_.heads * shape_.s_q * 4;  // lse was there before
  }

  void run(Figure3Row& row, Progress& progress) {
    const std::vector<Timing> timings =
        alternation_.run(options_.seconds, 1, [&](const std::string& name) { progress.detail(name); });
    for (std::size_t i = 0; i < methods_.size(); ++i) {
      row.points[methods_[i]].forward = timings[2 * i];
      row.points[methods_[i]].backward = timings[2 * i + 1];
    }
  }

 private:
  /// The first calls, which adding makes, show the memory.
  template <class Case>
  void add(Figure3Method method, Figure3Point& point, const ResidentGrowth& growth, Case& one) {
    methods_.push_back(method);
    alternation_.add(std::string(name_of(method)) + " forward", [&one] { one.forward(); });
    alternation_.add(std::string(name_of(method)) + " backward", [&one] { one.backward(); });
    point.measured_bytes = growth.peak_bytes();
  }

  const Figure3Options& options_;
  const Machine& machine_;
  CaseShape shape_;
  std::unique_ptr<StandardCase> standard_;
  std::vector<std::unique_ptr<AttentionCase>> tiled_;
  std::vector<Figure3Method> methods_;
  Alternation alternation_;
};

/// Decides what is skipped: what no longer fits into memory, and what would end after the time limit, judged by the
/// length before. A method that was skipped once stays so: lengths rise.
class Gate {
 public:
  explicit Gate(const Figure3Options& options) : options_(options), end_(now() + options.time_limit) {}

  std::string reason_to_skip(Figure3Method method, std::int64_t length) {
    if (!skipped_[method].empty()) return skipped_[method];
    const std::int64_t needed =
        method == standard ? StandardCase::extra_bytes(options_.heads, length) : std::int64_t{0};
    if (needed > available_bytes() / 10 * 9) skipped_[method] = "does not fit";
    if (options_.time_limit > 0 && last_length_[method] > 0) {
      const double growth = static_cast<double>(length) / static_cast<double>(last_length_[method]);
      const double call = last_seconds_[method] * growth * growth;
      planned_ += 1.2 * call + 0.1;
      if (now() + planned_ > end_) skipped_[method] = "time limit";
    }
    return skipped_[method];
  }

  void done(const Figure3Row& row) {
    planned_ = 0;
    for (std::size_t method = 0; method < kFigure3Methods; ++method) {
      if (!row.points[method].skipped.empty()) continue;
      last_length_[method] = row.length;
      last_seconds_[method] = row.points[method].best();
    }
  }

 private:
  const Figure3Options& options_;
  double end_, planned_ = 0;  // seconds that what was let in for this length will take
  std::array<std::string, kFigure3Methods> skipped_;
  std::array<std::int64_t, kFigure3Methods> last_length_{};
  std::array<double, kFigure3Methods> last_seconds_{};
};

}  // namespace

const char* name_of(Figure3Method method) {
  constexpr std::array<const char*, kFigure3Methods> kNames{"standard attention", "Tilewise", "block-sparse Tilewise"};
  return kNames[method];
}

void check(const Figure3Options& options) {
  constexpr std::int64_t kMost = std::int64_t{1} << 24;
  expect_lengths(options.lengths, kMost);
  expect(options.dim >= 1, fmt::format("--dim is {}, expected at least 1", options.dim));
  expect(options.heads >= 1, fmt::format("--heads is {}, expected at least 1", options.heads));
  expect(options.block >= 1 && options.block <= kMost,
         fmt::format("--block is {}, expected 1 to {}", options.block, kMost));
  expect(options.seconds >= 0, fmt::format("--seconds is {}, expected 0 or more", options.seconds));
  expect(options.time_limit >= 0, fmt::format("--time-limit is {}, expected 0 or more", options.time_limit));
}

std::vector<Figure3Row> measure_figure3(const Figure3Options& options, const Machine& machine) {
  expect_fresh_allocations();
  Progress progress(static_cast<int>(options.lengths.size()));
  Gate gate(options);
  std::vector<Figure3Row> rows;
  for (std::int64_t length : options.lengths) {
    progress.step(fmt::format("{} token{}", grouped(length), length == 1 ? "" : "s"));
    Figure3Row& row = rows.emplace_back();
    row.length = length;
    Measurement measurement(options, machine, length);
    for (const Figure3Method method :
         {block_sparse, tilewise_dense, standard}) {  // the fastest first, should time run out
      Figure3Point& point = row.points[method];
      if (method == standard) point.extra_bytes = StandardCase::extra_bytes(options.heads, length);
      point.skipped = gate.reason_to_skip(method, length);
      progress.detail(fmt::format("preparing {}", name_of(method)));
      if (point.skipped.empty()) measurement.prepare(method, point);
    }
    measurement.run(row, progress);
    gate.done(row);
  }
  return rows;
}

}  // namespace tilewise::cli
