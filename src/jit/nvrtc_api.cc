#include "jit/nvrtc_api.h"

namespace tilewise::jit {
namespace {

// Calls visit(entry point, symbol) for every one, so that what is required and what is bound are the same list.
template <class Visit>
void each_symbol(NvrtcApi& api, Visit visit) {
  visit(api.get_error_string, "nvrtcGetErrorString");
  visit(api.version, "nvrtcVersion");
  visit(api.get_num_supported_archs, "nvrtcGetNumSupportedArchs");
  visit(api.get_supported_archs, "nvrtcGetSupportedArchs");
  visit(api.create_program, "nvrtcCreateProgram");
  visit(api.destroy_program, "nvrtcDestroyProgram");
  visit(api.add_name_expression, "nvrtcAddNameExpression");
  visit(api.compile_program, "nvrtcCompileProgram");
  visit(api.get_lowered_name, "nvrtcGetLoweredName");
  visit(api.get_cubin_size, "nvrtcGetCUBINSize");
  visit(api.get_cubin, "nvrtcGetCUBIN");
  visit(api.get_program_log_size, "nvrtcGetProgramLogSize");
  visit(api.get_program_log, "nvrtcGetProgramLog");
}

}  // namespace

std::vector<const char*> nvrtc_symbols() {
  NvrtcApi api{};
  std::vector<const char*> symbols;
  each_symbol(api, [&](auto&, const char* symbol) { symbols.push_back(symbol); });
  return symbols;
}

NvrtcApi bind_nvrtc(const SharedLibrary& library) {
  NvrtcApi api{};
  each_symbol(api, [&](auto& function, const char* symbol) { library.bind(function, symbol); });
  return api;
}

}  // namespace tilewise::jit
