#include "jit/nvrtc.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "core/fail.h"
#include "jit/compile_error.h"

namespace tilewise::jit {
namespace {

constexpr std::array kNames = {"libnvrtc.so.13", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"};

bool is_folder(const std::string& path) {
  struct stat status {};
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

// Destroys the program on every way out.
class ProgramHandle {
 public:
  ProgramHandle(const NvrtcApi& api, NvrtcProgram program) : api_(api), program_(program) {}
  ProgramHandle(const ProgramHandle&) = delete;
  ProgramHandle& operator=(const ProgramHandle&) = delete;
  ~ProgramHandle() { api_.destroy_program(&program_); }
  NvrtcProgram get() const { return program_; }

 private:
  const NvrtcApi& api_;
  NvrtcProgram program_;
};

void check(const NvrtcApi& api, NvrtcResult result, const std::string& doing) {
  if (result == 0) return;
  fail(result == kNvrtcOutOfMemory ? ErrorCode::out_of_memory : ErrorCode::device, "NVRTC failed {}: {}", doing,
       api.get_error_string(result));
}

NvrtcProgram create(const NvrtcApi& api, const Program& program) {
  std::vector<const char*> names, texts;
  for (const Header* header : headers_used(program)) {
    names.push_back(header->name.c_str());
    texts.push_back(header->text.c_str());
  }
  NvrtcProgram handle = nullptr;
  check(api,
        api.create_program(&handle, program.source.c_str(), program.name.c_str(), static_cast<int>(names.size()),
                           texts.data(), names.data()),
        "to take in " + program.name);
  return handle;
}

std::string log_of(const NvrtcApi& api, NvrtcProgram program) {
  std::size_t size = 0;
  check(api, api.get_program_log_size(program, &size), "to give its log");
  std::string log(size, '\0');
  check(api, api.get_program_log(program, log.data()), "to give its log");
  log.erase(std::find(log.begin(), log.end(), '\0'), log.end());
  return log;
}

// Compiles with the program's options and these.
NvrtcResult run(const NvrtcApi& api, NvrtcProgram handle, const Program& program, std::vector<std::string> options) {
  for (const std::string& kernel : program.kernels) {
    check(api, api.add_name_expression(handle, kernel.c_str()), "to take in the kernel's name " + kernel);
  }
  options.insert(options.begin(), program.options.begin(), program.options.end());
  options.push_back("--gpu-architecture=" + program.architecture.name());
  std::vector<const char*> pointers;
  for (const std::string& option : options) pointers.push_back(option.c_str());
  return api.compile_program(handle, static_cast<int>(pointers.size()), pointers.data());
}

// The log of a program that failed, with the reason. NVRTC 13.0's assembler, when verbose, leaves some errors out of
// the log (too much shared memory is one): then the log of a second, quiet run.
std::string log_with_error(const NvrtcApi& api, const Program& program, const std::string& log) {
  for (const Diagnostic& diagnostic : parse_diagnostics(log, {})) {
    if (diagnostic.severity == Diagnostic::Severity::error) return log;
  }
  const ProgramHandle handle(api, create(api, program));
  run(api, handle.get(), program, {});
  return log + log_of(api, handle.get());
}

std::string cubin_of(const NvrtcApi& api, NvrtcProgram program) {
  std::size_t size = 0;
  check(api, api.get_cubin_size(program, &size), "to give the machine code");
  std::string cubin(size, '\0');
  check(api, api.get_cubin(program, cubin.data()), "to give the machine code");
  return cubin;
}

std::vector<KernelInfo> kernels_of(const NvrtcApi& api, NvrtcProgram handle, const Program& program,
                                   const std::string& log) {
  const std::map<std::string, Resources> resources = parse_resources(log);
  std::vector<KernelInfo> kernels;
  for (const std::string& name : program.kernels) {
    const char* symbol = nullptr;
    check(api, api.get_lowered_name(handle, name.c_str(), &symbol), "to name the kernel " + name);
    KernelInfo& kernel = kernels.emplace_back(KernelInfo{name, symbol, std::nullopt});
    const auto found = resources.find(kernel.symbol);
    if (found != resources.end()) kernel.resources = found->second;
  }
  return kernels;
}

}  // namespace

std::vector<std::string> nvrtc_candidates(const std::string& chosen) {
  if (!chosen.empty() && !is_folder(chosen)) return {chosen};
  std::vector<std::string> candidates;
  std::vector<std::string> folders = {"/usr/local/cuda/lib64"};
  if (chosen.empty()) {
    candidates.assign(kNames.begin(), kNames.end());
  } else {
    folders = {chosen, chosen + "/nvidia/cu13/lib", chosen + "/nvidia/cuda_nvrtc/lib", chosen + "/lib64"};
  }
  for (const std::string& folder : folders) {
    for (const char* name : kNames) candidates.push_back(folder + "/" + name);
  }
  return candidates;
}

const Nvrtc& Nvrtc::instance() {
  static std::mutex mutex;
  static std::unique_ptr<const Nvrtc> opened;
  const std::lock_guard<std::mutex> lock(mutex);
  if (opened == nullptr) {
    const char* chosen = std::getenv("TILEWISE_NVRTC");
    opened = std::make_unique<const Nvrtc>(open(nvrtc_candidates(chosen == nullptr ? "" : chosen)));
  }
  return *opened;
}

Nvrtc Nvrtc::open(const std::vector<std::string>& candidates) {
  const SharedLibrary library =
      SharedLibrary::open_first({"NVRTC, the CUDA run-time compiler,", candidates, nvrtc_symbols(),
                                 "It comes with the CUDA toolkit (11.2 or later) and as the Python wheel "
                                 "nvidia-cuda-nvrtc; where it is installed "
                                 "elsewhere, set TILEWISE_NVRTC to the library or to the folder that holds it."});
  Nvrtc nvrtc;
  nvrtc.api_ = bind_nvrtc(library);
  nvrtc.path_ = library.path();
  int major = 0, minor = 0, count = 0;
  check(nvrtc.api_, nvrtc.api_.version(&major, &minor), "to give its version");
  nvrtc.identity_ = fmt::format("nvrtc-{}.{}", major, minor);
  nvrtc.title_ = fmt::format("NVRTC {}.{} ({})", major, minor, nvrtc.path_);
  check(nvrtc.api_, nvrtc.api_.get_num_supported_archs(&count), "to list its architectures");
  nvrtc.supported_.resize(count);
  check(nvrtc.api_, nvrtc.api_.get_supported_archs(nvrtc.supported_.data()), "to list its architectures");
  std::sort(nvrtc.supported_.begin(), nvrtc.supported_.end());
  return nvrtc;
}

void Nvrtc::check_architecture(const Architecture& architecture) const {
  if (std::binary_search(supported_.begin(), supported_.end(), architecture.number)) return;
  const bool newer = !supported_.empty() && architecture.number > supported_.back();
  std::string names;
  for (int number : supported_) names += fmt::format("{}sm_{}", names.empty() ? "" : ", ", number);
  fail(ErrorCode::device, "{} does not compile for {}, only for {}; {}", title_, architecture.name(), names,
       newer ? "install a newer NVRTC for this GPU"
             : "use a GPU that it knows, or an older NVRTC (TILEWISE_NVRTC names one)");
}

Binary Nvrtc::compile(const Program& program) const {
  validate(program);
  check_architecture(program.architecture);
  const ProgramHandle handle(api_, create(api_, program));
  // The assembler, run verbosely, states each kernel's resources in the log.
  const NvrtcResult result = run(api_, handle.get(), program, {"--ptxas-options=-v"});
  const std::string log = log_of(api_, handle.get());
  if (result == kNvrtcCompilation || result == kNvrtcInvalidOption) {
    throw compile_error(program, title_, log_with_error(api_, program, log));
  }
  check(api_, result, "to compile " + program.name);
  return {identity_, program.architecture.name(), cubin_of(api_, handle.get()), log,
          kernels_of(api_, handle.get(), program, log)};
}

}  // namespace tilewise::jit
