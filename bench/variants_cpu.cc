// What does a variant cost on the CPU, and does a mask cost only what it keeps? Whole calls of plans on one core, one
// head, float32: everything before the kernels included. Plain attention and the variant take turns within a run, so
// that both see the same neighbours on the machine.
//
// "share" is the variant's rate against plain attention's: best time against best time, and the median of the pairs'
// quotients. For masks it is time against kept share (non-empty tiles of 64 x 64 over all) x plain attention's time,
// "cost". Options: --variant=<textual form> (by default a list), --s=<length>, --d=<dimension>, --runs=<pairs>,
// --dtype=bfloat16, --cpu-time; --alone times one direction of the variant only: backward, or with --forward that.
#include <time.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "core/element.h"
#include "tilewise/attention.h"
#include "tilewise/tiles.h"

namespace {

using namespace tilewise;

bool counts_cpu_time = false;  // of this thread, which does all the work: what else runs on the core is left out

double seconds() {
  if (counts_cpu_time) {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
  }
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct Options {
  std::vector<std::string> variants;
  std::int64_t s = 0;
  int d = 0, runs = 15;
  DType dtype = DType::float32;
  bool forward_only = false, alone = false;
};

/// A tensor with its own memory, normally distributed.
class Data {
 public:
  Data(DType dtype, std::vector<std::int64_t> extents, unsigned seed, double deviation = 1)
      : view(nullptr, dtype, extents) {
    memory_.resize(static_cast<std::size_t>(view.elements() * size_of(dtype)) + 64);
    auto* begin = memory_.data() + 64 - reinterpret_cast<std::uintptr_t>(memory_.data()) % 64;
    view = Tensor(begin, dtype, extents);
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(0, deviation);
    for (std::int64_t i = 0; i < view.elements(); ++i) store_real(begin + i * size_of(dtype), dtype, normal(random));
  }
  Tensor view;

 private:
  std::vector<std::byte> memory_;
};

/// A plan with all that its calls take.
class Subject {
 public:
  Subject(const Variant& variant, std::int64_t s, int d, DType dtype, Executor& executor, bool table_gradients)
      : q_(dtype, {1, 1, s, d}, 1),
        k_(dtype, {1, 1, s, d}, 2),
        v_(dtype, {1, 1, s, d}, 3),
        o_(dtype, {1, 1, s, d}, 4),
        d_o_(dtype, {1, 1, s, d}, 5),
        d_q_(dtype, {1, 1, s, d}, 6),
        d_k_(dtype, {1, 1, s, d}, 7),
        d_v_(dtype, {1, 1, s, d}, 8),
        lse_(DType::float32, {1, 1, s}, 9) {
    PlanShape shape{.dtype = dtype, .d_qk = d, .d_v = d, .s_q = s, .s_kv = s, .backward = true};
    inputs_ = {.q = q_.view, .k = k_.view, .v = v_.view};
    gradients_ = {.d_q = d_q_.view, .d_k = d_k_.view, .d_v = d_v_.view};
    const auto extents = fitting_extents(variant, Problem::uniform(1, 1, 1, s, s));
    for (std::size_t i = 0; i < variant.tables().size(); ++i) {
      const Table& table = variant.tables()[i];
      if (table.frozen_data()) continue;
      shape.tables.push_back({table, extents[i]});
      tables_.push_back(std::make_unique<Data>(table.dtype(), extents[i], 10u + static_cast<unsigned>(i)));
      inputs_.tables.push_back({table, tables_.back()->view});
      if (!table_gradients || table.type() != Type::real) continue;
      tables_.push_back(std::make_unique<Data>(table.dtype(), extents[i], 0u));
      gradients_.d_tables.push_back({table, tables_.back()->view});
    }
    for (const Parameter& parameter : variant.parameters()) {
      inputs_.parameters.push_back({parameter, std::clamp(0.5, parameter.low(), parameter.high())});
    }
    plan_.emplace(Attention(variant).plan(shape, Device::cpu(executor)));
    workspace_.emplace(plan_->workspace_bytes());
  }

  double forward() {
    const double begin = seconds();
    plan_->forward(inputs_, {.o = o_.view, .lse = lse_.view}, *workspace_);
    return seconds() - begin;
  }
  double backward() {
    const double begin = seconds();
    plan_->backward(inputs_, {.o = o_.view, .lse = lse_.view, .d_o = d_o_.view}, gradients_, *workspace_);
    return seconds() - begin;
  }
  const ForwardInputs& inputs() const { return inputs_; }

 private:
  Data q_, k_, v_, o_, d_o_, d_q_, d_k_, d_v_, lse_;
  std::vector<std::unique_ptr<Data>> tables_;
  ForwardInputs inputs_;
  BackwardOutputs gradients_;
  std::optional<Plan> plan_;
  std::optional<Workspace> workspace_;
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// plain time / variant time, or with a mask time / (kept x plain time): of the best runs, and the median of pairs.
template <class Run>
void compare(const char* direction, Subject& plain, Subject& subject, double kept, int runs, Run run) {
  double best_plain = 1e9, best = 1e9;
  std::vector<double> quotients;
  for (int i = 0; i < runs + 1; ++i) {
    const double plain_time = run(plain), time = run(subject);
    if (i == 0) continue;  // sets up what later ones use again
    best_plain = std::min(best_plain, plain_time);
    best = std::min(best, time);
    quotients.push_back(kept < 1 ? time / (kept * plain_time) : plain_time / time);
  }
  const double of_best = kept < 1 ? best / (kept * best_plain) : best_plain / best;
  std::printf("  %s %s %.3f (median %.3f; %.2f ms, plain %.2f ms)", direction, kept < 1 ? "cost" : "share", of_best,
              median(quotients), best * 1e3, best_plain * 1e3);
}

void measure(const std::string& text, std::int64_t s, int d, const Options& options, Executor& executor) {
  const bool wants_tables = text.ends_with("+tables");
  const Variant variant = parse_variant(wants_tables ? text.substr(0, text.size() - 7) : text);
  if (options.alone) {
    Subject subject(variant, s, d, options.dtype, executor, wants_tables);
    std::vector<double> times;
    subject.forward();
    for (int i = 0; i < options.runs; ++i)
      times.push_back(options.forward_only ? subject.forward() : subject.backward());
    std::printf("%-40s d%d s%lld %s: %.3f ms (median %.3f)\n", text.c_str(), d, static_cast<long long>(s),
                options.forward_only ? "forward" : "backward", std::ranges::min(times) * 1e3, median(times) * 1e3);
    return;
  }
  Subject plain(Variant(), s, d, options.dtype, executor, false);
  Subject subject(variant, s, d, options.dtype, executor, wants_tables);
  const TileMap map =
      classify_tiles(variant, {.tables = subject.inputs().tables, .parameters = subject.inputs().parameters},
                     Problem::uniform(1, 1, 1, s, s), {64, 64});
  const double kept = map.kept_share();
  std::printf("%-40s d%d s%lld kept %.4f:", text.c_str(), d, static_cast<long long>(s), kept);
  compare("forward", plain, subject, kept, options.runs, [](Subject& of) { return of.forward(); });
  if (!options.forward_only)
    compare("backward", plain, subject, kept, options.runs, [](Subject& of) { return of.backward(); });
  std::printf("\n");
  std::fflush(stdout);
}

}  // namespace

int main(int count, char** arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    const auto value = [&](const char* name) -> const char* {
      return argument.starts_with(name) ? arguments[i] + std::strlen(name) : nullptr;
    };
    if (const char* text = value("--variant="))
      options.variants.emplace_back(text);
    else if (const char* s = value("--s="))
      options.s = std::atoll(s);
    else if (const char* d = value("--d="))
      options.d = std::atoi(d);
    else if (const char* runs = value("--runs="))
      options.runs = std::atoi(runs);
    else if (argument == "--dtype=bfloat16")
      options.dtype = DType::bfloat16;
    else if (argument == "--cpu-time")
      counts_cpu_time = true;
    else if (argument == "--alone")
      options.alone = true;
    else if (argument == "--forward")
      options.forward_only = true;
    else
      return std::fprintf(stderr, "unknown option %s\n", arguments[i]), 1;
  }
  if (options.variants.empty()) {
    options.variants = {"alibi(8)",
                        "softcap(30)",
                        "temperature(0.7)",
                        "log_n_scaling(2048)",
                        "llama4_temperature(8192, 0.1)",
                        "relative_position(128)",
                        "relative_position(128)+tables",
                        "t5_buckets(32, 128, 1)",
                        "t5_buckets(32, 128, 1)+tables",
                        "sandwich(12, 128)",
                        "dense_bias(2)",
                        "learned_bias()",
                        "learned_bias()+tables",
                        "pair_bias(4)",
                        "dropout(0.1)"};
  }
  const std::unique_ptr<Executor> executor = make_thread_pool(1);
  try {
    for (const std::string& text : options.variants) {
      for (const int d : {64, 128}) {
        if (options.d != 0 && options.d != d) continue;
        measure(text, options.s != 0 ? options.s : 2048, d, options, *executor);
      }
    }
  } catch (const std::exception& error) {
    return std::fprintf(stderr, "%s\n", error.what()), 1;
  }
  return 0;
}
