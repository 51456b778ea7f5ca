// What computes: this machine's processor and its GPUs, and known GPUs to compare them with.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tilewise/executor.h"

namespace tilewise {

/// Where attention is computed. Cheap to copy.
class Device {
 public:
  /// The processor, with the library's own threads or the caller's. The executor must outlive the plans made for it.
  static Device cpu() { return Device(nullptr, kCpu); }
  static Device cpu(Executor& executor) { return Device(&executor, kCpu); }

  /// The GPU of that number, as its driver counts them, from compute capability 8.0 on. This opens nothing: where there
  /// is no such GPU, no driver or no compiler for it, making a plan or a workspace throws. Throws
  /// Error(invalid_argument) below 0.
  static Device cuda(int ordinal = 0);

  bool is_cuda() const { return ordinal_ != kCpu; }

  /// Of a GPU.
  int ordinal() const { return ordinal_; }

  /// Of the processor; a GPU's calls need none.
  Executor& executor() const { return executor_ != nullptr ? *executor_ : default_executor(); }

  /// "cpu", "cuda:0".
  std::string text() const;

  /// Whether memory of the one is memory of the other.
  friend bool operator==(const Device& a, const Device& b) { return a.ordinal_ == b.ordinal_; }

 private:
  static constexpr int kCpu = -1;
  Device(Executor* executor, int ordinal) : executor_(executor), ordinal_(ordinal) {}

  Executor* executor_;
  int ordinal_;
};

/// One cache of the processor.
struct CacheInfo {
  int level = 0;     ///< 1 is nearest to the core.
  std::string kind;  ///< "data", "instruction" or "unified".
  std::int64_t bytes = 0;
  int sharing_processors = 1;  ///< Logical processors that share it.
};

/// The processor that this process runs on.
struct HostInfo {
  std::string name;               ///< As the processor calls itself; "unknown" where it does not say.
  int processors = 1;             ///< Logical processors that this process may use.
  std::vector<CacheInfo> caches;  ///< As seen by the first processor, nearest first; empty where the system is silent.
  std::vector<std::string> instruction_sets;  ///< Those that Tilewise has code for and this processor runs.
};

/// Asks the operating system and the processor; measures nothing.
HostInfo host_info();

/// Rates measured on this machine. A figure is the best of several runs, since other work only slows a run down.
struct HostRates {
  std::string instruction_set;  ///< The widest one, in which the multiply-adds were done.
  double one_core_gflops = 0;   ///< Fused multiply-adds in float32, two FLOPs each.
  double all_cores_gflops = 0;
  double one_core_read_gbs = 0;  ///< Sequential reads from memory far larger than the caches, 10^9 bytes a second.
  double all_cores_read_gbs = 0;
};

/// Measures for about two seconds. Throws Error(out_of_memory) where the buffer to read (256 MiB) or the threads cannot
/// be had.
HostRates measure_host();

/// GFLOP/s of one burst, of some milliseconds, of the multiply-adds that kernels of an instruction set are made of:
/// float32 ones, two FLOPs each, dot products of bfloat16 pairs, four, for avx512_bf16, or of tiles for amx. Runs on
/// `threads` threads of its own and adds up their rates. Bursts that alternate with other work tell what that work
/// could have reached; the best of many is the peak.
///
/// Throws Error(parse) on an unknown name, Error(unsupported) on one that this processor does not run,
/// Error(invalid_argument) on fewer than one thread, and Error(out_of_memory) where the system starts fewer than asked.
double burst_gflops(const std::string& instruction_set, int threads);

/// FLOPs for each byte read at which arithmetic and memory take equally long (the roofline's ridge; Williams,
/// Waterman and Patterson, 2009).
inline double ridge(double gflops, double gbs) { return gflops / gbs; }

/// A GPU of this machine, as its driver describes it.
struct GpuInfo {
  int ordinal = 0;                 ///< Device::cuda(ordinal)
  std::string name;                ///< "NVIDIA H200"
  std::string pci_bus;             ///< "0000:17:00": domain, bus, device
  std::string compute_capability;  ///< "9.0"
  int multiprocessors = 0;         ///< SMs
  std::int64_t shared_bytes = 0;   ///< Shared memory of a multiprocessor.
  std::int64_t l2_bytes = 0;       ///< Second-level cache.
  std::int64_t memory_bytes = 0;   ///< In all.
  std::int64_t clock_khz = 0;      ///< Of the multiprocessors, typical; 0 where the driver does not say.
};

/// The GPUs that the driver shows, by ordinal. Throws Error(device), saying what was looked for and where, without a
/// driver or where it fails; a driver that shows no GPU gives an empty list.
std::vector<GpuInfo> list_gpus();

/// Bytes that a GPU reads from its memory in a second, in 10^9: the best of several passes over a buffer that is 8
/// times its second-level cache, by a kernel that is compiled on the spot. Takes some tenths of a second. Throws
/// Error(device) without NVRTC or where the driver fails, Error(out_of_memory).
double measure_gpu_read_gbs(int ordinal);

/// Published figures of a GPU.
struct GpuFigures {
  const char* name;
  int multiprocessors;
  int shared_kib;  ///< Shared memory a multiprocessor can give to its blocks.
  int l2_mib;
  int memory_gb;
  double read_gbs;     ///< Memory bandwidth, 10^9 bytes a second.
  double bf16_tflops;  ///< Dense bfloat16 matrix products.
  const char* source;
};

/// A100, H100 and H200, in their largest server forms.
std::span<const GpuFigures> known_gpus();

}  // namespace tilewise
