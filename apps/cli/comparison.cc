#include "comparison.h"

#include <algorithm>
#include <memory>

#include "tilewise/device.h"
#include "tilewise/gpu_memory.h"

namespace tilewise::cli {

/// The assignments for the parameters that a variant has.
std::vector<std::string> parameters_of(const Variant& variant, const std::vector<std::string>& given) {
  std::vector<std::string> its;
  for (const std::string& assignment : given) {
    const auto is_it = [&](const Parameter& one) { return assignment.starts_with(one.name() + "="); };
    if (std::ranges::any_of(variant.parameters(), is_it)) its.push_back(assignment);
  }
  return its;
}

namespace {

double published_gflops(const std::string& name) {
  for (const GpuFigures& gpu : known_gpus()) {
    const std::string model = std::string(gpu.name).substr(0, std::string(gpu.name).find(' '));
    if (name.find(model) != std::string::npos) return gpu.bf16_tflops * 1000;
  }
  return 0;
}

}  // namespace

std::vector<ComparedRow> compare(const Comparison& comparison, const Machine& machine, Progress& progress) {
  const CaseShape& shape = comparison.shape;
  std::vector<std::unique_ptr<AttentionCase>> cases;
  std::vector<ComparedRow> rows;
  double peak = machine.device().is_cuda() ? published_gflops(machine.text()) : 0;
  const auto burst = [&] {
    if (machine.device().is_cuda()) return;
    constexpr int kBursts = 3;  // short ones: some find the processor free
    for (int i = 0; i < kBursts; ++i)
      peak = std::max(peak, burst_gflops(cases.front()->plan().instruction_set(), machine.threads()));
  };
  // The clock and the call around it are below 0.1% of 2 ms; a GPU's clocks take longer to settle.
  Alternation alternation({.cpu_time = machine.cpu_time(),
                           .turn_seconds = machine.device().is_cuda() ? 0.05 : 2e-3,
                           .each_round = burst,
                           .wait_for_calls = [&] { synchronize(machine.device()); }});
  const double all = static_cast<double>(shape.b * shape.h_q) * static_cast<double>(shape.s_q * shape.s_kv);
  for (const std::string& text : comparison.variants) {
    progress.detail("preparing " + text);
    const Variant variant = parse_variant(text);
    cases.push_back(std::make_unique<AttentionCase>(variant, shape, machine.device(),
                                                    parameters_of(variant, comparison.parameters)));
    AttentionCase& one = *cases.back();
    if (shape.backward) one.forward();  // the o and lse that the backward pass reads
    alternation.add(text, [&one] { one.shape().backward ? one.backward() : one.forward(); });
    ComparedRow& row = rows.emplace_back();
    row.variant = text;
    row.direction = shape.backward ? "backward" : "forward";
    row.instruction_set = one.plan().instruction_set();
    row.dim = shape.d;
    row.queries = shape.s_q;
    row.keys = shape.s_kv;
    row.kept_share = one.kept_share();
    const double entries = one.kept_entries();
    row.kept_entries = entries / all;
    row.flops = (shape.backward ? 2.5 : 1.0) * 4 * static_cast<double>(shape.d) * entries;  // 2 (d_qk + d_v)
  }
  const std::vector<Timing> timings = alternation.run(comparison.seconds, static_cast<std::size_t>(comparison.rounds),
                                                      [&](const std::string& name) { progress.detail(name); });
  burst();  // where everything was too long for a round
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].timing = timings[i];
    rows[i].peak_gflops = peak;
    rows[i].plain_best = timings[0].best;
  }
  return rows;
}

Json row_json(const ComparedRow& row) {
  return {{"variant", row.variant},
          {"direction", row.direction},
          {"dim", row.dim},
          {"queries", row.queries},
          {"keys", row.keys},
          {"instruction_set", row.instruction_set},
          {"seconds_best", row.timing.best},
          {"seconds_median", row.timing.median},
          {"turns", row.timing.turns},
          {"gflops_best", row.gflops(row.timing.best)},
          {"gflops_median", row.gflops(row.timing.median)},
          {"peak_gflops", row.peak_gflops},
          {"of_plain", row.of_plain()},
          {"entries_kept", row.kept_entries},
          {"tiles_kept", row.kept_share},
          {"time_of_share", row.of_share()}};
}

}  // namespace tilewise::cli
