#include "core/isa.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>

#include "tilewise/error.h"

namespace tilewise {
namespace {

/// Sets TILEWISE_ISA for a scope.
class IsaVariable {
 public:
  explicit IsaVariable(const char* value) {
    if (const char* old = std::getenv("TILEWISE_ISA")) old_ = old;
    if (value != nullptr) {
      setenv("TILEWISE_ISA", value, 1);
    } else {
      unsetenv("TILEWISE_ISA");
    }
  }
  ~IsaVariable() {
    if (old_.empty()) {
      unsetenv("TILEWISE_ISA");
    } else {
      setenv("TILEWISE_ISA", old_.c_str(), 1);
    }
  }

 private:
  std::string old_;
};

ErrorCode code_of_choice() {
  try {
    chosen_isa();
  } catch (const Error& error) {
    return error.code();
  }
  ADD_FAILURE() << "no Error";
  return {};
}

TEST(Isa, NamesReadBack) {
  for (auto isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_vnni, Isa::avx512_bf16, Isa::amx})
    EXPECT_EQ(isa_from_string(to_string(isa)), isa);
}

TEST(Isa, AvailableOnesAreAPrefixOfTheRanks) {
  const auto& isas = available_isas();
  ASSERT_FALSE(isas.empty());
  for (std::size_t i = 0; i < isas.size(); ++i) EXPECT_EQ(isas[i], static_cast<Isa>(i));
}

TEST(Isa, TheOthersHaveAReason) {
  for (auto isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512_vnni, Isa::avx512_bf16, Isa::amx}) {
    const bool available = std::ranges::count(available_isas(), isa) != 0;
    EXPECT_EQ(why_unavailable(isa).empty(), available) << to_string(isa);
  }
}

#if defined(__x86_64__) && defined(__linux__)
TEST(Isa, AgreesWithTheKernelsFlags) {
  std::ifstream file("/proc/cpuinfo");
  std::string line, flags;
  while (std::getline(file, line)) {
    if (line.starts_with("flags")) flags = line + " ";
  }
  ASSERT_FALSE(flags.empty());
  const auto has = [&](std::initializer_list<const char*> names) {
    return std::all_of(names.begin(), names.end(),
                       [&](const char* n) { return flags.find(std::string(" ") + n + " ") != std::string::npos; });
  };
  const auto& isas = available_isas();
  const auto available = [&](Isa isa) { return std::find(isas.begin(), isas.end(), isa) != isas.end(); };
  EXPECT_EQ(available(Isa::avx2), has({"avx2", "fma", "f16c", "bmi1", "bmi2"}));
  EXPECT_EQ(available(Isa::avx512), has({"avx2", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd"}));
  EXPECT_EQ(available(Isa::avx512_vnni), available(Isa::avx512) && has({"avx512_vnni"}));
  EXPECT_EQ(available(Isa::avx512_bf16), available(Isa::avx512_vnni) && has({"avx512_bf16"}));
  EXPECT_LE(available(Isa::amx), has({"amx_tile", "amx_bf16", "amx_int8"}));  // the kernel may refuse its use
}
#endif

TEST(Isa, TheBestOneIsChosen) {
  IsaVariable none(nullptr);
  EXPECT_EQ(chosen_isa(), available_isas().back());
}

TEST(Isa, TheEnvironmentChoosesAnother) {
  for (Isa isa : available_isas()) {
    IsaVariable named(to_string(isa));
    EXPECT_EQ(chosen_isa(), isa);
  }
}

TEST(Isa, UnknownNamesAreErrors) {
  IsaVariable wrong("avx3");
  EXPECT_EQ(code_of_choice(), ErrorCode::parse);
  try {
    chosen_isa();
  } catch (const Error& error) {
    EXPECT_STREQ(
        error.what(),
        "instruction set 'avx3' is unknown, expected one of baseline, avx2, avx512, avx512_vnni, avx512_bf16, amx");
  }
}

TEST(Isa, UnavailableOnesAreErrors) {
  if (available_isas().back() == Isa::amx) GTEST_SKIP() << "every instruction set is available here";
  IsaVariable amx("amx");
  EXPECT_EQ(code_of_choice(), ErrorCode::unsupported);
}

}  // namespace
}  // namespace tilewise
