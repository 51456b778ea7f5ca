// The programs that classify tiles compile for each GPU generation, for the zoo and for random variants.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "cuda/launch/tile_lister.h"
#include "tests/jit/support.h"
#include "tests/laws/random_variant.h"
#include "tilewise/zoo.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::cuda {
namespace {

class TileProgram : public jit::WithNvrtc {
 protected:
  jit::Binary compile(const Variant& variant, const char* architecture) {
    const std::vector<bool> removes(variant.data().stages.size(), true);
    return nvrtc_->compile(
        tile_program(variant, variant::cuda_text(variant), removes, jit::Architecture::parse(architecture)));
  }
};

TEST_F(TileProgram, CompilesForTheZoo) {
  for (const zoo::Entry& entry : zoo::entries()) {
    SCOPED_TRACE(std::string(entry.name));
    ASSERT_NO_THROW(compile(parse_variant(std::string(entry.example)), "sm_80"));
  }
}

TEST_F(TileProgram, CompilesForRandomVariants) {
  for (std::uint64_t seed = 1; seed <= 15; ++seed) {
    laws::Choices choices = laws::full_tape(seed);
    const Variant variant = laws::random_variant(choices).variant;
    ASSERT_NO_THROW(compile(variant, "sm_80")) << "seed " << seed << "\n" << laws::listing(variant);
  }
}

TEST_F(TileProgram, KeepsItsBoundsInRegisters) {
  for (const char* architecture : {"sm_80", "sm_89", "sm_90a", "sm_100"}) {
    for (const Variant& variant : {zoo::causal(), zoo::window(1024), zoo::documents({50, 60}), zoo::softcap(30)}) {
      SCOPED_TRACE(fmt::format("{}, {}", architecture, to_string(variant)));
      const jit::Resources resources = compile(variant, architecture).kernel("classify").resources.value();
      EXPECT_LE(resources.registers, 128);
      EXPECT_LE(resources.stack_bytes, 64);
    }
  }
}

TEST_F(TileProgram, HoldsNoLiteral) {
  const auto text = [](std::int32_t size) {
    const Variant variant = zoo::window(size);
    return tile_program(variant, variant::cuda_text(variant), {true}, jit::Architecture::parse("sm_80"))
        .headers.back()
        .text;
  };
  EXPECT_EQ(text(100), text(200));
}

}  // namespace
}  // namespace tilewise::cuda
