// The processor, as /proc and /sys describe it.
#include <sched.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>

#include "core/isa.h"
#include "tilewise/device.h"

namespace tilewise {
namespace {

std::string first_line(const std::filesystem::path& path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

std::string processor_name() {
  std::ifstream file("/proc/cpuinfo");
  for (std::string line; std::getline(file, line);) {
    const std::size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown";
}

int usable_processors() {
  cpu_set_t set;
  return sched_getaffinity(0, sizeof(set), &set) == 0 ? std::max(1, CPU_COUNT(&set)) : 1;
}

/// "32K" or "16384K" or "1M" in bytes.
std::int64_t size_in_bytes(const std::string& text) {
  char* unit = nullptr;
  const std::int64_t number = std::strtoll(text.c_str(), &unit, 10);
  return number * (*unit == 'K' ? 1024 : *unit == 'M' ? 1024 * 1024 : 1);
}

/// How many processors a list such as "0-3,8" names.
int processors_in(const std::string& list) {
  int count = 0;
  for (const char* at = list.c_str(); *at != '\0';) {
    char* next = nullptr;
    const long first = std::strtol(at, &next, 10);
    if (next == at) break;
    const long last = *next == '-' ? std::strtol(next + 1, &next, 10) : first;
    count += static_cast<int>(last - first + 1);
    at = *next == ',' ? next + 1 : next;
  }
  return std::max(count, 1);
}

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::vector<CacheInfo> caches() {
  std::vector<CacheInfo> found;
  const std::filesystem::path root = "/sys/devices/system/cpu/cpu0/cache";
  for (int index = 0; std::filesystem::exists(root / ("index" + std::to_string(index))); ++index) {
    const std::filesystem::path cache = root / ("index" + std::to_string(index));
    found.push_back({.level = std::atoi(first_line(cache / "level").c_str()),
                     .kind = lower(first_line(cache / "type")),
                     .bytes = size_in_bytes(first_line(cache / "size")),
                     .sharing_processors = processors_in(first_line(cache / "shared_cpu_list"))});
  }
  std::stable_sort(found.begin(), found.end(),
                   [](const CacheInfo& a, const CacheInfo& b) { return a.level < b.level; });
  return found;
}

}  // namespace

HostInfo host_info() {
  HostInfo info{
      .name = processor_name(), .processors = usable_processors(), .caches = caches(), .instruction_sets = {}};
  for (Isa isa : available_isas()) info.instruction_sets.emplace_back(to_string(isa));
  return info;
}

std::span<const GpuFigures> known_gpus() {
  static constexpr GpuFigures kGpus[] = {
      {"A100 SXM 80 GB", 108, 164, 40, 80, 2039, 312, "NVIDIA A100 datasheet, 2021; CUDA C++ Programming Guide"},
      {"H100 SXM 80 GB", 132, 228, 50, 80, 3350, 989, "NVIDIA H100 datasheet, 2023; CUDA C++ Programming Guide"},
      {"H200 SXM 141 GB", 132, 228, 50, 141, 4800, 989, "NVIDIA H200 datasheet, 2024; CUDA C++ Programming Guide"},
  };
  return kGpus;
}

}  // namespace tilewise
