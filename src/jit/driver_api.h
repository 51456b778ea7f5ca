// The part of the CUDA driver's C interface that Tilewise calls, declared here so that building needs no CUDA headers.
// Names, types and values are the driver's; the newest entry point that is required,
// cuLaunchKernelEx, came with CUDA 11.8.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "jit/library.h"

namespace tilewise::jit {

/// CUresult: 0 is success; driver_error.cc names the others that matter.
using DriverResult = int;

using DeviceHandle = int;             // CUdevice
using DevicePointer = std::uint64_t;  // CUdeviceptr
using ContextHandle = struct CUctx_st*;
using ModuleHandle = struct CUmod_st*;
using FunctionHandle = struct CUfunc_st*;
using StreamHandle = struct CUstream_st*;  // null: the context's default stream
using GraphHandle = struct CUgraph_st*;
using GraphNodeHandle = struct CUgraphNode_st*;
using ExecutableGraphHandle = struct CUgraphExec_st*;

/// CUdevice_attribute: those that are asked for.
enum class DeviceAttribute : int {
  clock_khz = 13,
  multiprocessors = 16,
  pci_bus = 33,
  pci_device = 34,
  memory_clock_khz = 36,
  memory_bus_bits = 37,
  l2_bytes = 38,
  pci_domain = 50,
  compute_capability_major = 75,
  compute_capability_minor = 76,
  shared_bytes_per_multiprocessor = 81,
  registers_per_multiprocessor = 82,
  shared_bytes_per_block_opt_in = 97,
};

/// CUfunction_attribute: those that are asked for or set.
enum class FunctionAttribute : int {
  max_threads_per_block = 0,
  static_shared_bytes = 1,
  local_bytes = 3,  // for each thread: stack and spills
  registers = 4,    // for each thread
  max_dynamic_shared_bytes = 8,
};

/// CUpointer_attribute: those that are asked for.
enum class PointerAttribute : int {
  memory_type = 2,     // unsigned: 1 host, 2 device; 0 where the driver does not know the pointer
  is_managed = 8,      // unsigned
  device_ordinal = 9,  // int
};

/// CUlaunchAttribute with the values that are used here: 4 = the cluster's extents in blocks, 6 = whether the kernel
/// may begin before the one in front of it has ended.
struct LaunchAttribute {
  static constexpr int kClusterDimension = 4, kProgrammaticSerialization = 6;
  int id = 0;
  std::array<char, 4> pad{};
  union Value {
    std::array<char, 64> bytes;
    std::array<unsigned, 3> cluster;  // x, y, z
    int begins_early;
  } value = {};
};
static_assert(sizeof(LaunchAttribute) == 72);

/// CUlaunchConfig.
struct LaunchConfig {
  std::array<unsigned, 3> grid;   // x, y, z: blocks
  std::array<unsigned, 3> block;  // x, y, z: threads
  unsigned dynamic_shared_bytes;
  StreamHandle stream;
  LaunchAttribute* attributes;  // [attribute_count]
  unsigned attribute_count;
};
static_assert(sizeof(LaunchConfig) == 56 && offsetof(LaunchConfig, stream) == 32);

/// CUDA_KERNEL_NODE_PARAMS_v2.
struct KernelNode {
  FunctionHandle function;
  std::array<unsigned, 3> grid;   // x, y, z: blocks
  std::array<unsigned, 3> block;  // x, y, z: threads
  unsigned dynamic_shared_bytes;
  void** arguments;  // a pointer to each
  void** extra;
  void* kernel;
  ContextHandle context;
};
static_assert(sizeof(KernelNode) == 72 && offsetof(KernelNode, arguments) == 40);

/// CUgraphEdgeData, of a kernel that waits by itself for the one in front of it.
struct GraphEdge {
  static constexpr unsigned char kProgrammatic = 1;  // a port, and a type
  unsigned char from_port = 0, to_port = 0, type = 0;
  std::array<unsigned char, 5> reserved{};
};
static_assert(sizeof(GraphEdge) == 8);

/// The entry points.
struct DriverApi {
  DriverResult (*init)(unsigned flags);
  DriverResult (*driver_get_version)(int* version);  // 1000 * major + 10 * minor of the CUDA release
  DriverResult (*get_error_name)(DriverResult result, const char** name);
  DriverResult (*get_error_string)(DriverResult result, const char** text);

  DriverResult (*device_get_count)(int* count);
  DriverResult (*device_get)(DeviceHandle* device, int ordinal);
  DriverResult (*device_get_name)(char* name, int size, DeviceHandle device);  // name [size]
  DriverResult (*device_get_attribute)(int* value, DeviceAttribute attribute, DeviceHandle device);
  DriverResult (*device_total_memory)(std::size_t* bytes, DeviceHandle device);

  DriverResult (*primary_context_retain)(ContextHandle* context, DeviceHandle device);
  DriverResult (*primary_context_release)(DeviceHandle device);
  DriverResult (*context_push)(ContextHandle context);
  DriverResult (*context_pop)(ContextHandle* context);
  DriverResult (*context_get_current)(ContextHandle* context);

  DriverResult (*module_load_data)(ModuleHandle* module, const void* image);
  DriverResult (*module_unload)(ModuleHandle module);
  DriverResult (*module_get_function)(FunctionHandle* function, ModuleHandle module, const char* symbol);
  DriverResult (*function_get_attribute)(int* value, FunctionAttribute attribute, FunctionHandle function);
  DriverResult (*function_set_attribute)(FunctionHandle function, FunctionAttribute attribute, int value);
  DriverResult (*launch_kernel)(const LaunchConfig* config, FunctionHandle function, void** arguments, void** extra);

  DriverResult (*stream_synchronize)(StreamHandle stream);
  DriverResult (*stream_is_capturing)(StreamHandle stream, int* status);  // 0: not
  DriverResult (*memory_allocate)(DevicePointer* pointer, std::size_t bytes);
  DriverResult (*memory_free)(DevicePointer pointer);
  DriverResult (*copy_to_device)(DevicePointer to, const void* from, std::size_t bytes);
  DriverResult (*copy_to_host)(void* to, DevicePointer from, std::size_t bytes);
  DriverResult (*fill_words)(DevicePointer to, unsigned word, std::size_t words, StreamHandle stream);  // queued
  DriverResult (*pointer_get_attributes)(unsigned count, PointerAttribute* attributes, void** values,
                                         DevicePointer pointer);  // attributes and values [count]

  /// Since CUDA 12.0; null in older drivers. `map` [128 bytes] at a multiple of 64; extents and box [rank], strides in
  /// bytes [rank - 1]. The enumerations' values are cuda.h's.
  DriverResult (*tensor_map_encode)(void* map, int dtype, std::uint32_t rank, void* address,
                                    const std::uint64_t* extents, const std::uint64_t* strides,
                                    const std::uint32_t* box, const std::uint32_t* element_strides, int interleave,
                                    int swizzle, int l2_promotion, int outside);

  /// Graphs of kernels, since CUDA 12.0 as they are called here; null in older drivers.
  DriverResult (*graph_create)(GraphHandle* graph, unsigned flags);
  DriverResult (*graph_destroy)(GraphHandle graph);
  DriverResult (*graph_add_kernel)(GraphNodeHandle* node, GraphHandle graph, const GraphNodeHandle* after,
                                   std::size_t count, const KernelNode* kernel);  // after [count]
  DriverResult (*graph_set_attribute)(GraphNodeHandle node, int attribute, const LaunchAttribute::Value* value);
  /// Since CUDA 12.3.
  DriverResult (*graph_add_dependencies)(GraphHandle graph, const GraphNodeHandle* before,
                                         const GraphNodeHandle* behind, const GraphEdge* edges,
                                         std::size_t count);  // all [count]
  DriverResult (*graph_instantiate)(ExecutableGraphHandle* executable, GraphHandle graph, unsigned long long flags);
  DriverResult (*graph_set_kernel)(ExecutableGraphHandle executable, GraphNodeHandle node, const KernelNode* kernel);
  DriverResult (*graph_launch)(ExecutableGraphHandle executable, StreamHandle stream);
  DriverResult (*graph_destroy_executable)(ExecutableGraphHandle executable);

  /// Whether the driver has those that every graph takes.
  bool has_graphs() const {
    return graph_create != nullptr && graph_destroy != nullptr && graph_add_kernel != nullptr &&
           graph_instantiate != nullptr && graph_set_kernel != nullptr && graph_launch != nullptr &&
           graph_destroy_executable != nullptr;
  }
};

/// The symbols behind the entry points of a driver that is new enough.
std::vector<const char*> driver_symbols();

/// The entry points of an opened driver; those it lacks are null.
DriverApi bind_driver(const SharedLibrary& library);

}  // namespace tilewise::jit
