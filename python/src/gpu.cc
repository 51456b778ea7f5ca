#include "gpu.h"

#include <array>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>

#include "tilewise/error.h"
#include "tilewise/gpu_memory.h"

namespace nb = nanobind;

namespace tilewise::python {

namespace {

struct Free {
  void operator()(dlpack::ManagedVersioned* memory) const {
    if (memory->deleter != nullptr) memory->deleter(memory);
  }
};
using Memory = std::unique_ptr<dlpack::ManagedVersioned, Free>;

/// Memory on the array's GPU. PyTorch's is tied to the current stream, like that of any of its tensors: what is freed
/// is used again by what that stream is given later.
Memory allocate(const dlpack::Exchange& exchange, const Array& array, std::int64_t bytes) {
  dlpack::Tensor wanted{};
  wanted.device_type = array.device_type();
  wanted.device_id = array.device_id();
  wanted.rank = 1;
  wanted.type = {.code = static_cast<std::uint8_t>(dlpack::Code::unsigned_integer), .bits = 8, .lanes = 1};
  wanted.extents = &bytes;
  dlpack::ManagedVersioned* memory = nullptr;
  std::string told;
  const auto tell = [](void* into, const char*, const char* message) { *static_cast<std::string*>(into) = message; };
  if (exchange.allocate(&wanted, &memory, &told, tell) != 0) {
    throw Error(ErrorCode::out_of_memory,
                "a workspace of " + std::to_string(bytes) + " bytes could not be had: " + told);
  }
  return Memory(memory);
}

std::span<std::byte> bytes_of(const dlpack::ManagedVersioned& memory) {
  return {static_cast<std::byte*>(memory.tensor.data) + memory.tensor.byte_offset,
          static_cast<std::size_t>(memory.tensor.extents[0])};
}

/// Of frameworks without the exchange, by name.
void* stream_by_name(nb::handle object, int device) {
  const auto module = nb::cast<std::string>(object.type().attr("__module__"));
  const std::string framework = module.substr(0, module.find('.'));
  nb::object stream;
  if (framework == "torch") {
    stream = nb::module_::import_("torch.cuda").attr("current_stream")(device).attr("cuda_stream");
  } else if (framework == "cupy") {
    stream = nb::module_::import_("cupy.cuda").attr("get_current_stream")().attr("ptr");
  } else {
    throw Error(ErrorCode::unsupported, "q is a GPU's array of " + framework +
                                            ", whose current stream cannot be asked for; expected one of PyTorch or "
                                            "CuPy, or of a type with __dlpack_c_exchange_api__");
  }
  return reinterpret_cast<void*>(nb::cast<std::uintptr_t>(stream));
}

void* current_stream(const dlpack::Exchange* exchange, nb::handle object, const Array& array) {
  if (exchange == nullptr) return stream_by_name(object, array.device_id());
  void* stream = nullptr;
  if (exchange->current_stream(array.device_type(), array.device_id(), &stream) != 0) throw nb::python_error();
  return stream;
}

/// What a call needs at most of the memory that a thread keeps for each stream. A call that needs more keeps the GPU
/// busy for longer than the allocator takes the host (two to three microseconds).
constexpr std::int64_t kSmall = std::int64_t{1} << 20;

/// Of this thread, for a GPU and a stream: what plans keep between calls, and memory for small calls.
struct OnStream {
  Workspace workspace;
  std::optional<GpuMemory> small;
};

OnStream& on_stream(int device, void* stream) {
  static thread_local std::map<std::pair<int, void*>, OnStream> streams;
  const auto found = streams.find({device, stream});
  if (found != streams.end()) return found->second;
  return streams.emplace(std::pair(device, stream), OnStream{Workspace(0, Device::cuda(device), stream), {}})
      .first->second;
}

}  // namespace

void run_on_gpu(nb::handle object, const Array& q, const Plan& plan,
                const std::function<void(Workspace& workspace)>& run) {
  const dlpack::Exchange* exchange = exchange_of(object);
  void* stream = current_stream(exchange, object, q);
  auto& [workspace, small] = on_stream(q.device_id(), stream);
  const std::int64_t bytes = plan.workspace_bytes();
  // A graph works in that memory whenever it is replayed, so it must be the graph's own.
  if (bytes <= kSmall && !is_captured(stream)) {
    const nb::gil_scoped_release unlocked;
    if (!small) small.emplace(kSmall, Device::cuda(q.device_id()));
    workspace.use({small->data(), static_cast<std::size_t>(small->bytes())});
    run(workspace);
    return;
  }
  if (exchange != nullptr && exchange->allocate != nullptr) {
    const Memory memory = allocate(*exchange, q, bytes);
    workspace.use(bytes_of(*memory));
    const nb::gil_scoped_release unlocked;
    run(workspace);
    return;
  }
  const nb::gil_scoped_release unlocked;
  if (workspace.bytes() < bytes) workspace = Workspace(bytes, Device::cuda(q.device_id()), stream);
  run(workspace);
}

}  // namespace tilewise::python
