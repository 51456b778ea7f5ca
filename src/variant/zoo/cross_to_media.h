#pragma once

#include <algorithm>

#include "variant/zoo/common/expect.h"
#include "variant/zoo/common/frozen.h"
#include "variant/zoo/common/places.h"

namespace tilewise::zoo {

/// Cross-attention from text to images: each text token sees the last image that precedes it, and no other.
///
///     keep(start[key // media_tokens] <= query < start[key // media_tokens + 1])
///
/// Keys are the images' tokens, image by image, `media_tokens` each. Text before the first image sees nothing, and its
/// rows are 0. Keys behind the last image are seen by nothing. Call with query_offset = 0 (or the text's position when
/// decoding): by default positions count back from the number of keys, which here is not that of the text.
///
/// `positions`: of each image's tag in the text, ascending, from 0 on; the tag sees its own image. `media_tokens`: at
/// least 1; it is part of the code.
///
/// Source: Flamingo (Alayrac et al. 2022)
/// Example: cross_to_media([0, 200, 650], 64)
Variant cross_to_media(const std::vector<std::int32_t>& positions, std::int32_t media_tokens) {
  expect_at_least("cross_to_media", "media_tokens", media_tokens, 1);
  const auto media = static_cast<std::int32_t>(positions.size());
  expect_at_least("cross_to_media", "the number of positions", media, 1);
  expect_at_least("cross_to_media", "the first of positions", positions[0], 0);
  expect_product("cross_to_media", "the number of keys", {media, media_tokens});
  if (std::adjacent_find(positions.begin(), positions.end(), std::greater_equal<>()) != positions.end()) {
    fail_argument("cross_to_media(): positions are [{}], expected ascending ones", fmt::join(positions, ", "));
  }
  std::vector<std::int32_t> starts = positions;
  starts.push_back(std::numeric_limits<std::int32_t>::max());
  const Table start = frozen("media_start", starts);
  return keep([&](const At& at) {
    const Expr number = floor_divide(at.key, media_tokens);
    return inside(number, media) && start.clamped(number) <= at.query && at.query < start.clamped(number + 1);
  });
}

}  // namespace tilewise::zoo
