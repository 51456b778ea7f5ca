#include "nn/weights.h"

#include <array>

namespace tilewise::nn {
namespace {

struct Kind {
  const char* name;
  BlockSize size;
};

constexpr std::array<Kind, kWeightKinds> kKinds{{
    {"float32", {1, 4}},
    {"float16", {1, 2}},
    {"bfloat16", {1, 2}},
    {"q4_0", {32, 18}},
    {"q4_1", {32, 20}},
    {"q5_0", {32, 22}},
    {"q5_1", {32, 24}},
    {"q8_0", {32, 34}},
    {"q4_k", {256, 144}},
    {"q5_k", {256, 176}},
    {"q6_k", {256, 210}},
}};

}  // namespace

BlockSize block_size(WeightKind kind) { return kKinds[static_cast<std::size_t>(kind)].size; }

const char* to_string(WeightKind kind) { return kKinds[static_cast<std::size_t>(kind)].name; }

}  // namespace tilewise::nn
