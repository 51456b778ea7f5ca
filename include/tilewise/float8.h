// Rounding to float8_e4m3, with a scale for each head or block of rows.
#pragma once

#include "tilewise/tensor.h"

namespace tilewise {

/// Writes codes and scales whose products are nearest to `values`: a group's scale is its largest magnitude / 448, the
/// largest number of float8_e4m3 (1 where all of it is 0), and a code the nearest one to value / scale, ties to even.
///
///   values  [b, h, s, d] or packed [h, tokens, d], a floating dtype
///   codes   float8_e4m3, likewise
///   scales  float32: [h], a group for each head; or, where values are not packed, [b, h, blocks], one for each
///           kScaleRows rows (tilewise/arguments.h) of a sequence's head, the last of which may be fewer
///
/// On the processor. Throws Error(invalid_argument), before anything is written, on extents and dtypes that do not fit
/// together and on a value that is not finite.
void quantize_float8(const ConstTensor& values, const Tensor& codes, const Tensor& scales);

}  // namespace tilewise
