#include "jit/driver_api.h"

namespace tilewise::jit {
namespace {

// Calls visit(entry point, symbol) for every one. A symbol with _v2 is what cuda.h makes of the plain name.
template <class Visit>
void each_symbol(DriverApi& api, Visit visit) {
  visit(api.init, "cuInit");
  visit(api.driver_get_version, "cuDriverGetVersion");
  visit(api.get_error_name, "cuGetErrorName");
  visit(api.get_error_string, "cuGetErrorString");
  visit(api.device_get_count, "cuDeviceGetCount");
  visit(api.device_get, "cuDeviceGet");
  visit(api.device_get_name, "cuDeviceGetName");
  visit(api.device_get_attribute, "cuDeviceGetAttribute");
  visit(api.device_total_memory, "cuDeviceTotalMem_v2");
  visit(api.primary_context_retain, "cuDevicePrimaryCtxRetain");
  visit(api.primary_context_release, "cuDevicePrimaryCtxRelease_v2");
  visit(api.context_push, "cuCtxPushCurrent_v2");
  visit(api.context_pop, "cuCtxPopCurrent_v2");
  visit(api.context_get_current, "cuCtxGetCurrent");
  visit(api.module_load_data, "cuModuleLoadData");
  visit(api.module_unload, "cuModuleUnload");
  visit(api.module_get_function, "cuModuleGetFunction");
  visit(api.function_get_attribute, "cuFuncGetAttribute");
  visit(api.function_set_attribute, "cuFuncSetAttribute");
  visit(api.launch_kernel, "cuLaunchKernelEx");
  visit(api.stream_synchronize, "cuStreamSynchronize");
  visit(api.stream_is_capturing, "cuStreamIsCapturing");
  visit(api.memory_allocate, "cuMemAlloc_v2");
  visit(api.memory_free, "cuMemFree_v2");
  visit(api.copy_to_device, "cuMemcpyHtoD_v2");
  visit(api.copy_to_host, "cuMemcpyDtoH_v2");
  visit(api.fill_words, "cuMemsetD32Async");
  visit(api.pointer_get_attributes, "cuPointerGetAttributes");
}

}  // namespace

std::vector<const char*> driver_symbols() {
  DriverApi api{};
  std::vector<const char*> symbols;
  each_symbol(api, [&](auto&, const char* symbol) { symbols.push_back(symbol); });
  return symbols;
}

DriverApi bind_driver(const SharedLibrary& library) {
  DriverApi api{};
  each_symbol(api, [&](auto& function, const char* symbol) { library.bind(function, symbol); });
  // Not required.
  library.bind(api.tensor_map_encode, "cuTensorMapEncodeTiled");
  library.bind(api.graph_create, "cuGraphCreate");
  library.bind(api.graph_destroy, "cuGraphDestroy");
  library.bind(api.graph_add_kernel, "cuGraphAddKernelNode_v2");
  library.bind(api.graph_set_attribute, "cuGraphKernelNodeSetAttribute");
  library.bind(api.graph_add_dependencies, "cuGraphAddDependencies_v2");
  library.bind(api.graph_instantiate, "cuGraphInstantiateWithFlags");
  library.bind(api.graph_set_kernel, "cuGraphExecKernelNodeSetParams_v2");
  library.bind(api.graph_launch, "cuGraphLaunch");
  library.bind(api.graph_destroy_executable, "cuGraphExecDestroy");
  return api;
}

}  // namespace tilewise::jit
