// The CUDA text of random variants compiles.
#include <gtest/gtest.h>

#include "cuda/launch/kernel_text.h"
#include "tests/jit/support.h"
#include "tests/laws/random_variant.h"

namespace tilewise::cuda {
namespace {

class VariantText : public jit::WithNvrtc {
 protected:
  void expect_compiles(const Variant& variant) {
    jit::Program program;
    program.name = "variant.cu";
    program.source = "#include \"variant.h\"\nextern \"C\" __global__ void nothing() {}\n";
    program.headers = device_headers();
    program.headers.push_back(variant_header(variant, variant::cuda_text(variant)));
    program.options = {"--std=c++17"};
    program.architecture = jit::Architecture::parse("sm_80");
    program.kernels = {"nothing"};
    EXPECT_NO_THROW(nvrtc_->compile(program)) << laws::listing(variant);
  }
};

TEST_F(VariantText, OfRandomVariants) {
  for (std::uint64_t seed = 1; seed <= 150; ++seed) {
    SCOPED_TRACE(seed);
    laws::Choices choices = laws::full_tape(seed);
    expect_compiles(laws::random_variant(choices).variant);
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace tilewise::cuda
