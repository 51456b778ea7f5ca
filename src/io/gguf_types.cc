// GGUF's numbers for types.
#include <array>

#include "io/gguf.h"
#include "io/gguf_types.h"

namespace tilewise::io {
namespace {

struct Numbered {
  std::uint32_t number;
  const char* name;                  // ggml's
  std::optional<Storage> storage{};  // nullopt: known, not supported
};

constexpr std::array<Numbered, 37> kNumbered = {{
    {0, "F32", Storage::float32},
    {1, "F16", Storage::float16},
    {2, "Q4_0", Storage::q4_0},
    {3, "Q4_1", Storage::q4_1},
    {6, "Q5_0", Storage::q5_0},
    {7, "Q5_1", Storage::q5_1},
    {8, "Q8_0", Storage::q8_0},
    {9, "Q8_1"},
    {10, "Q2_K"},
    {11, "Q3_K"},
    {12, "Q4_K", Storage::q4_k},
    {13, "Q5_K", Storage::q5_k},
    {14, "Q6_K", Storage::q6_k},
    {15, "Q8_K"},
    {16, "IQ2_XXS"},
    {17, "IQ2_XS"},
    {18, "IQ3_XXS"},
    {19, "IQ1_S"},
    {20, "IQ4_NL"},
    {21, "IQ3_S"},
    {22, "IQ2_S"},
    {23, "IQ4_XS"},
    {24, "I8", Storage::int8},
    {25, "I16", Storage::int16},
    {26, "I32", Storage::int32},
    {27, "I64", Storage::int64},
    {28, "F64", Storage::float64},
    {29, "IQ1_M"},
    {30, "BF16", Storage::bfloat16},
    {31, "Q4_0_4_4"},
    {32, "Q4_0_4_8"},
    {33, "Q4_0_8_8"},
    {34, "TQ1_0"},
    {35, "TQ2_0"},
    {36, "IQ4_NL_4_4"},
    {37, "IQ4_NL_4_8"},
    {39, "MXFP4"},
}};

}  // namespace

const char* to_string(GgufType type) {
  static constexpr std::array<const char*, 13> kNames = {"uint8",  "int8",    "uint16", "int16",  "uint32",
                                                         "int32",  "float32", "bool",   "string", "array",
                                                         "uint64", "int64",   "float64"};
  const auto number = static_cast<std::size_t>(type);
  return number < kNames.size() ? kNames[number] : "unknown";
}

std::int64_t size_of(GgufType type) {
  static constexpr std::array<std::int64_t, 13> kSizes = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kSizes[static_cast<std::size_t>(type)];
}

std::optional<std::uint32_t> gguf_number(Storage storage) {
  for (const Numbered& numbered : kNumbered) {
    if (numbered.storage == storage) return numbered.number;
  }
  return std::nullopt;
}

std::optional<Storage> storage_of_gguf(std::uint32_t number) {
  for (const Numbered& numbered : kNumbered) {
    if (numbered.number == number) return numbered.storage;
  }
  return std::nullopt;
}

std::string gguf_name(std::uint32_t number) {
  for (const Numbered& numbered : kNumbered) {
    if (numbered.number == number) return numbered.name;
  }
  return "number " + std::to_string(number);
}

std::string gguf_supported() {
  std::string names;
  for (const Numbered& numbered : kNumbered) {
    if (numbered.storage) names += (names.empty() ? "" : ", ") + std::string(numbered.name);
  }
  return names;
}

}  // namespace tilewise::io
