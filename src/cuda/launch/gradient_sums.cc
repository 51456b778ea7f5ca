#include "cuda/launch/gradient_sums.h"

#include "core/fail.h"
#include "core/round_up.h"
#include "cuda/launch/kernel_text.h"

namespace tilewise::cuda {
namespace {

constexpr const char* kSource = R"cuda(#include "gradients.h"

extern "C" __global__ void store(const __grid_constant__ tilewise::cuda::GradientStore arguments) {
  tilewise::cuda::store_gradient(arguments);
}
)cuda";

int element_of(DType dtype) {
  switch (dtype) {
    case DType::float32: return GradientStore::kFloat32;
    case DType::float64: return GradientStore::kFloat64;
    case DType::bfloat16: return GradientStore::kBFloat16;
    case DType::float16: return GradientStore::kFloat16;
    default: fail_argument("a gradient has dtype {}; expected a floating one", to_string(dtype));
  }
}

}  // namespace

jit::Program gradient_program(const jit::Architecture& architecture) {
  jit::Program program;
  program.name = "gradients.cu";
  program.source = kSource;
  program.headers = device_headers();
  program.options = {"--std=c++17"};
  program.architecture = architecture;
  program.kernels = {"store"};
  return program;
}

GradientWriter::GradientWriter(jit::Compiler& compiler, const std::shared_ptr<const jit::Context>& context)
    : context_(context),
      kernel_(
          jit::load_program(compiler, gradient_program(context->device().architecture()), context)->kernel("store")) {}

void GradientWriter::clear(void* memory, std::int64_t words, jit::StreamHandle stream) const {
  if (words == 0) return;
  const jit::CurrentContext current(*context_);
  context_->driver().check(context_->driver().api().fill_words(reinterpret_cast<jit::DevicePointer>(memory), 0,
                                                               static_cast<std::size_t>(words), stream),
                           "to clear memory");
}

void GradientWriter::store(const GradientSums& sums, const float* first, const Tensor& to,
                           jit::StreamHandle stream) const {
  constexpr unsigned kThreads = 256;
  GradientStore store{};
  store.sums = first;
  if (sums.pass != GradientSums::kAtomics) {
    store.largest = sums.largest + (first - sums.first);
    store.fixed = sums.fixed + (first - sums.first);
  }
  store.to = to.data;
  store.elements = to.elements();
  store.rank = to.rank;
  store.element = element_of(to.dtype);
  for (std::size_t axis = 0; axis < static_cast<std::size_t>(to.rank); ++axis)
    store.extents[axis] = to.extents[axis], store.strides[axis] = to.strides[axis];
  if (store.elements == 0) return;
  const auto blocks = static_cast<unsigned>(ceil_div(store.elements, kThreads));
  kernel_({.grid = {blocks, 1, 1}, .block = {kThreads, 1, 1}, .stream = stream}, store);
}

}  // namespace tilewise::cuda
