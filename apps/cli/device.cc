// tilewise device: what this machine can do.
#include <fmt/format.h>

#include <memory>

#include "command.h"
#include "table.h"
#include "tilewise/device.h"

namespace tilewise::cli {
namespace {

std::string caches_text(const HostInfo& info) {
  std::vector<std::string> caches;
  for (const CacheInfo& cache : info.caches) {
    caches.push_back(
        fmt::format("L{} {} {}{}", cache.level, cache.kind, bytes_text(static_cast<double>(cache.bytes)),
                    cache.sharing_processors > 1 ? fmt::format(" for {} processors", cache.sharing_processors) : ""));
  }
  return caches.empty() ? "not told by the system" : fmt::format("{}", fmt::join(caches, ", "));
}

std::string answer_text(bool measure) {
  const HostInfo info = host_info();
  std::string text = fmt::format("processor         {}, {} usable\ncaches            {}\ninstruction sets  {}\n\n",
                                 info.name, info.processors, caches_text(info), fmt::join(info.instruction_sets, ", "));
  if (measure) {
    const HostRates rates = measure_host();
    TextTable table({"measured here", "FMA peak, float32", "memory read", "ridge"});
    const auto row = [&table](std::string name, double gflops, double gbs) {
      table.add({std::move(name), fmt::format("{:.0f} GFLOP/s", gflops), fmt::format("{:.1f} GB/s", gbs),
                 fmt::format("{:.1f} FLOP/byte", ridge(gflops, gbs))});
    };
    row(fmt::format("one core ({})", rates.instruction_set), rates.one_core_gflops, rates.one_core_read_gbs);
    row("all cores", rates.all_cores_gflops, rates.all_cores_read_gbs);
    text += table.text() + "\n";
  }
  TextTable gpus({"published", "SMs", "shared memory/SM", "L2", "memory", "bandwidth", "bfloat16", "ridge"});
  for (const GpuFigures& gpu : known_gpus()) {
    gpus.add({gpu.name, fmt::format("{}", gpu.multiprocessors), fmt::format("{} KiB", gpu.shared_kib),
              fmt::format("{} MiB", gpu.l2_mib), fmt::format("{} GB", gpu.memory_gb),
              fmt::format("{:.0f} GB/s", gpu.read_gbs), fmt::format("{:.0f} TFLOP/s", gpu.bf16_tflops),
              fmt::format("{:.0f} FLOP/byte", ridge(gpu.bf16_tflops * 1000, gpu.read_gbs))});
  }
  return text + gpus.text() +
         "\nThe ridge is where arithmetic and memory take equally long: work that does fewer FLOPs for each byte it\n"
         "moves is bound by memory. Standard attention does about d/4 for each byte of its float32 scores and\n"
         "weights; tiled attention does more, the larger its tiles.\n";
}

Json answer_json(bool measure) {
  const HostInfo info = host_info();
  Json caches = Json::array(), gpus = Json::array();
  for (const CacheInfo& cache : info.caches) {
    caches.push_back({{"level", cache.level},
                      {"kind", cache.kind},
                      {"bytes", cache.bytes},
                      {"sharing_processors", cache.sharing_processors}});
  }
  for (const GpuFigures& gpu : known_gpus()) {
    gpus.push_back({{"name", gpu.name},
                    {"multiprocessors", gpu.multiprocessors},
                    {"shared_kib", gpu.shared_kib},
                    {"l2_mib", gpu.l2_mib},
                    {"memory_gb", gpu.memory_gb},
                    {"read_gbs", gpu.read_gbs},
                    {"bf16_tflops", gpu.bf16_tflops},
                    {"source", gpu.source}});
  }
  Json answer{{"processor", info.name},
              {"processors", info.processors},
              {"caches", caches},
              {"instruction_sets", info.instruction_sets}};
  if (measure) {
    const HostRates rates = measure_host();
    answer["measured"] = {{"instruction_set", rates.instruction_set},
                          {"one_core_gflops", rates.one_core_gflops},
                          {"all_cores_gflops", rates.all_cores_gflops},
                          {"one_core_read_gbs", rates.one_core_read_gbs},
                          {"all_cores_read_gbs", rates.all_cores_read_gbs}};
  }
  answer["known_gpus"] = gpus;
  return answer;
}

}  // namespace

void add_device(CLI::App& program) {
  CLI::App& command = *program.add_subcommand("device", "This machine's processor, measured, beside known GPUs");
  const auto skip = std::make_shared<bool>(false);
  command.add_flag("--no-measure", *skip, "Leave out the measurements, which take about two seconds");
  command.footer(
      "Examples:\n"
      "  tilewise device\n"
      "  tilewise device --no-measure --json");
  add_answers(
      command, [=] { return answer_text(!*skip); }, [=] { return answer_json(!*skip); });
}

}  // namespace tilewise::cli
