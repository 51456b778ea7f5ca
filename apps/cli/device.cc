// tilewise device: what this machine can do.
#include <fmt/format.h>

#include <memory>
#include <optional>

#include "command.h"
#include "table.h"
#include "tilewise/device.h"
#include "tilewise/error.h"

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

/// The GPUs that the driver shows, or why there are none to show.
struct Gpus {
  std::vector<GpuInfo> found;
  std::vector<std::optional<double>> read_gbs;  // [found], where measured
  std::string problem;
};

Gpus look_for_gpus(bool measure) {
  Gpus gpus;
  try {
    gpus.found = list_gpus();
    if (gpus.found.empty()) gpus.problem = "the driver shows none";
  } catch (const Error& error) {
    gpus.problem = error.what();
  }
  for (const GpuInfo& gpu : gpus.found) {
    gpus.read_gbs.emplace_back();
    if (!measure) continue;
    try {
      gpus.read_gbs.back() = measure_gpu_read_gbs(gpu.ordinal);
    } catch (const Error& error) {
      gpus.problem = fmt::format("cuda:{} could not be measured: {}", gpu.ordinal, error.what());
    }
  }
  return gpus;
}

std::string gpus_text(bool measure) {
  const Gpus gpus = look_for_gpus(measure);
  // The first line says what is the matter, those after it where a driver was looked for; --json has them all.
  if (gpus.found.empty())
    return fmt::format("GPUs              none: {}\n\n", gpus.problem.substr(0, gpus.problem.find('\n')));
  TextTable table({"GPU", "name", "capability", "SMs", "shared memory/SM", "L2", "memory", "memory read"});
  for (std::size_t i = 0; i < gpus.found.size(); ++i) {
    const GpuInfo& gpu = gpus.found[i];
    const auto& rate = gpus.read_gbs[i];
    table.add({fmt::format("cuda:{}", gpu.ordinal), gpu.name, gpu.compute_capability,
               fmt::format("{}", gpu.multiprocessors), bytes_text(static_cast<double>(gpu.shared_bytes)),
               bytes_text(static_cast<double>(gpu.l2_bytes)), bytes_text(static_cast<double>(gpu.memory_bytes)),
               rate ? fmt::format("{:.0f} GB/s", *rate) : "not measured"});
  }
  std::string text = table.text() + "\n";
  if (!gpus.problem.empty()) text += gpus.problem + "\n\n";
  return text;
}

Json gpus_json(bool measure) {
  const Gpus gpus = look_for_gpus(measure);
  Json all = Json::array();
  for (std::size_t i = 0; i < gpus.found.size(); ++i) {
    const GpuInfo& gpu = gpus.found[i];
    Json one{{"ordinal", gpu.ordinal},
             {"name", gpu.name},
             {"pci_bus", gpu.pci_bus},
             {"compute_capability", gpu.compute_capability},
             {"multiprocessors", gpu.multiprocessors},
             {"shared_bytes", gpu.shared_bytes},
             {"l2_bytes", gpu.l2_bytes},
             {"memory_bytes", gpu.memory_bytes},
             {"clock_khz", gpu.clock_khz}};
    if (gpus.read_gbs[i]) one["read_gbs"] = *gpus.read_gbs[i];
    all.push_back(std::move(one));
  }
  Json answer{{"found", std::move(all)}};
  if (!gpus.problem.empty()) answer["problem"] = gpus.problem;
  return answer;
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
  text += gpus_text(measure);
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
  answer["gpus"] = gpus_json(measure);
  answer["known_gpus"] = gpus;
  return answer;
}

}  // namespace

void add_device(CLI::App& program) {
  CLI::App& command =
      *program.add_subcommand("device", "This machine's processor and GPUs, measured, beside known GPUs");
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
