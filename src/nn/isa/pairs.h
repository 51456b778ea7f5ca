// Products of bytes that are added in pairs of 16 bits, for x86 without dot products of bytes.
#pragma once

#include "nn/panels.h"

namespace tilewise::nn {

/// Steps whose products 16 bits hold: each adds two products of at most 2^bits - 1 and 127. Integers of 8 bits are
/// taken as signed, so that a pair is at most 2 * 128 * 127 = 32,512.
constexpr int steps_held(int bits) { return bits == 8 ? 1 : 32767 / (2 * ((1 << bits) - 1) * 127); }
static_assert(steps_held(4) == 8 && steps_held(5) == 4 && steps_held(6) == 2);

/// What is left to take from the integers.
constexpr int zero_of_pairs(const PanelShape& shape) { return shape.bits == 8 ? 0 : shape.zero; }

}  // namespace tilewise::nn
