#include "tests/jit/fake_driver.h"

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

#include "jit/driver_api.h"

using tilewise::jit::FakeDriver;
using tilewise::jit::GraphEdge;
using tilewise::jit::KernelNode;
using tilewise::jit::LaunchAttribute;
using tilewise::jit::LaunchConfig;

namespace {

FakeDriver driver;

// The result that the test has set for a call, or success.
int result_of(const char* symbol) {
  const auto found = driver.results.find(symbol);
  return found == driver.results.end() ? 0 : found->second;
}

// Functions are handed out as pointers to their names.
const std::string& function_named(const char* name) {
  static std::set<std::string> names;
  return *names.insert(name).first;
}

void tell_kernel(const void* function, void** arguments) {
  if (driver.on_kernel) driver.on_kernel(*static_cast<const std::string*>(function), arguments);
}

// Contexts are handed out as pointers to these.
std::array<int, 8> ordinals = {0, 1, 2, 3, 4, 5, 6, 7};

int attribute_value(int attribute) {
  switch (attribute) {
    case 8: return 49152;
    case 12: return 65536;
    case 13: return 1980000;
    case 16: return 132;
    case 33: return 0x17;
    case 36: return 3201000;
    case 37: return 6144;
    case 38: return 60 << 20;
    case 39: return 2048;
    case 75: return driver.compute_capability / 10;
    case 76: return driver.compute_capability % 10;
    case 81: return 233472;
    case 82: return 65536;
    case 97: return 232448;
    default: return 0;
  }
}

}  // namespace

// The driver's own names.
// NOLINTBEGIN(readability-identifier-naming)
extern "C" {

FakeDriver* fake_driver() { return &driver; }

int cuInit(unsigned) { return result_of("cuInit"); }
int cuDriverGetVersion(int* version) { return *version = driver.version, result_of("cuDriverGetVersion"); }
int cuGetErrorName(int, const char** name) { return *name = "CUDA_ERROR_OF_SOME_NAME", 0; }
int cuGetErrorString(int, const char** text) { return *text = "some text", 0; }

int cuDeviceGetCount(int* count) { return *count = driver.device_count, result_of("cuDeviceGetCount"); }
int cuDeviceGet(int* device, int ordinal) {
  return *device = ordinal, ordinal < 0 || ordinal >= driver.device_count ? 101 : 0;
}
int cuDeviceGetName(char* name, int size, int device) {
  return std::snprintf(name, static_cast<std::size_t>(size), "Fake GPU %d", device), 0;
}
int cuDeviceGetAttribute(int* value, int attribute, int) {
  if (!driver.knows_clocks && (attribute == 13 || attribute == 36)) return 1;
  return *value = attribute_value(attribute), 0;
}
int cuDeviceTotalMem_v2(std::size_t* bytes, int) { return *bytes = std::size_t{141} << 30, 0; }

int cuDevicePrimaryCtxRetain(void** context, int device) {
  if (const int result = result_of("cuDevicePrimaryCtxRetain")) return result;
  return *context = &ordinals[device], ++driver.contexts, 0;
}
int cuDevicePrimaryCtxRelease_v2(int) { return --driver.contexts, 0; }
int cuCtxPushCurrent_v2(void* context) { return driver.stack.push_back(*static_cast<int*>(context)), 0; }
int cuCtxPopCurrent_v2(void** context) { return *context = &ordinals[driver.stack.back()], driver.stack.pop_back(), 0; }
int cuCtxGetCurrent(void** context) {
  return *context = driver.stack.empty() ? nullptr : &ordinals[driver.stack.back()], 0;
}

int cuModuleLoadData(void** module, const void* image) {
  if (const int result = result_of("cuModuleLoadData")) return result;
  const std::string& refused = driver.refused_code;
  if (!refused.empty() && std::strncmp(static_cast<const char*>(image), refused.c_str(), refused.size()) == 0)
    return 209;
  return *module = &driver, ++driver.modules, 0;
}
int cuModuleUnload(void*) { return --driver.modules, 0; }
int cuModuleGetFunction(const void** function, void*, const char* symbol) {
  driver.last_function = symbol;
  return *function = &function_named(symbol), result_of("cuModuleGetFunction");
}
int cuFuncGetAttribute(int* value, int attribute, void*) { return *value = attribute == 1 ? 4096 : attribute, 0; }
int cuFuncSetAttribute(void*, int attribute, int value) {
  if (attribute == 8) driver.max_dynamic_shared_bytes = value;
  return 0;
}
int cuLaunchKernelEx(const LaunchConfig* config, const void* function, void** arguments, void**) {
  if (const int result = result_of("cuLaunchKernelEx")) return result;
  ++driver.launches;
  driver.grid = config->grid;
  driver.block = config->block;
  driver.cluster = {};
  driver.attribute_count = config->attribute_count;
  for (unsigned index = 0; index < config->attribute_count; ++index) {
    const int id = config->attributes[index].id;
    if (id == LaunchAttribute::kClusterDimension) driver.cluster = config->attributes[index].value.cluster;
    if (id != LaunchAttribute::kClusterDimension && id != LaunchAttribute::kProgrammaticSerialization) return 1;
  }
  driver.dynamic_shared_bytes = config->dynamic_shared_bytes;
  driver.stream = config->stream;
  driver.first_argument = *static_cast<int*>(arguments[0]);
  driver.launch_context = driver.stack.empty() ? -1 : driver.stack.back();
  tell_kernel(function, arguments);
  return 0;
}

int cuStreamSynchronize(void*) { return result_of("cuStreamSynchronize"); }
int cuStreamIsCapturing(void*, int* status) {
  return *status = driver.capture_status, result_of("cuStreamIsCapturing");
}

int cuGraphCreate(void** graph, unsigned) {
  driver.nodes.clear();
  return *graph = &driver, ++driver.graphs, result_of("cuGraphCreate");
}
int cuGraphDestroy(void*) { return --driver.graphs, 0; }
int cuGraphAddKernelNode_v2(std::size_t* node, void*, const std::size_t* after, std::size_t count,
                            const KernelNode* kernel) {
  const std::size_t number = driver.nodes.size() + 1;
  const bool is_behind_the_last = number == 1 ? count == 0 : count == 1 && *after == number - 1;
  driver.nodes.push_back({kernel->grid[0], *static_cast<int*>(kernel->arguments[0])});
  driver.nodes.back().is_behind = is_behind_the_last;
  tell_kernel(kernel->function, kernel->arguments);
  return *node = number, is_behind_the_last || count == 0 ? 0 : 1;
}
int cuGraphKernelNodeSetAttribute(std::size_t node, int attribute, const LaunchAttribute::Value* value) {
  driver.nodes.at(node - 1).cluster = value->cluster[0];
  return attribute == LaunchAttribute::kClusterDimension ? result_of("cuGraphKernelNodeSetAttribute") : 1;
}
int cuGraphAddDependencies_v2(void*, const std::size_t* before, const std::size_t* behind, const GraphEdge* edges,
                              std::size_t count) {
  FakeDriver::Node& node = driver.nodes.at(*behind - 1);
  const bool is_behind_the_last = count == 1 && *before == *behind - 1 && !node.is_behind;
  node.is_behind = is_behind_the_last;
  node.begins_early = edges->from_port == 1 && edges->to_port == 0 && edges->type == 1;
  return is_behind_the_last ? result_of("cuGraphAddDependencies_v2") : 1;
}
int cuGraphInstantiateWithFlags(void** executable, void*, unsigned long long) {
  for (const FakeDriver::Node& node : driver.nodes) {
    if (!node.is_behind) return 1;
  }
  return *executable = &driver, ++driver.ready_graphs, result_of("cuGraphInstantiateWithFlags");
}
int cuGraphExecKernelNodeSetParams_v2(void*, std::size_t node, const KernelNode* kernel) {
  ++driver.settings;
  driver.nodes.at(node - 1).blocks = kernel->grid[0];
  driver.nodes.at(node - 1).first_argument = *static_cast<int*>(kernel->arguments[0]);
  tell_kernel(kernel->function, kernel->arguments);
  return result_of("cuGraphExecKernelNodeSetParams_v2");
}
int cuGraphLaunch(void*, void* stream) {
  driver.stream = stream;
  return ++driver.graph_launches, result_of("cuGraphLaunch");
}
int cuGraphExecDestroy(void*) { return --driver.ready_graphs, 0; }
int cuMemAlloc_v2(std::uint64_t* address, std::size_t bytes) {
  constexpr std::size_t kAlignment = 512;
  if (!driver.has_memory) return result_of("cuMemAlloc_v2");
  void* const memory = std::aligned_alloc(kAlignment, (bytes + kAlignment - 1) / kAlignment * kAlignment);
  std::memset(memory, 0, bytes);
  return *address = reinterpret_cast<std::uintptr_t>(memory), 0;
}
int cuMemFree_v2(std::uint64_t address) {
  if (driver.has_memory) std::free(reinterpret_cast<void*>(address));
  return 0;
}
int cuMemcpyHtoD_v2(std::uint64_t to, const void* from, std::size_t bytes) {
  if (driver.has_memory) std::memcpy(reinterpret_cast<void*>(to), from, bytes);
  return 0;
}
int cuMemcpyDtoH_v2(void* to, std::uint64_t from, std::size_t bytes) {
  if (driver.has_memory) std::memcpy(to, reinterpret_cast<const void*>(from), bytes);
  return 0;
}
int cuMemsetD32Async(std::uint64_t, unsigned, std::size_t, void*) { return 0; }
int cuTensorMapEncodeTiled(void*, int, unsigned, void*, const std::uint64_t*, const std::uint64_t*, const unsigned*,
                           const unsigned*, int, int, int, int) {
  return result_of("cuTensorMapEncodeTiled");
}
int cuPointerGetAttributes(unsigned count, const int* attributes, void** values, std::uint64_t) {
  for (unsigned i = 0; i < count; ++i) {
    if (attributes[i] == 2) *static_cast<unsigned*>(values[i]) = driver.memory_type;
    if (attributes[i] == 8) *static_cast<unsigned*>(values[i]) = driver.is_managed;
    if (attributes[i] == 9) *static_cast<int*>(values[i]) = driver.memory_ordinal;
  }
  return result_of("cuPointerGetAttributes");
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming)
