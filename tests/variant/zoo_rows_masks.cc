#include <algorithm>
#include <cstdlib>

#include "tests/variant/zoo_rows.h"

namespace tilewise {

std::vector<Row> mask_rows() {
  using P = const Point&;
  std::vector<Row> rows;
  const auto add = [&rows](std::string call, std::function<bool(P)> keeps) {
    rows.push_back({.call = std::move(call), .keeps = std::move(keeps)});
  };

  add("causal()", [](P p) { return p.key <= p.query; });
  add("causal_top_left()", [](P p) { return p.key_index <= p.query_index; });
  add("inverse_causal()", [](P p) { return p.key_index >= p.query_index; });
  // MagiAttention: a causal mask aligned to the bottom right, met with an inverse one aligned to the top left.
  add("bi_causal()", [](P p) {
    const int from_bottom_right = (p.keys - 1 - p.key_index) - (p.queries - 1 - p.query_index);
    return from_bottom_right >= 0 && p.key_index >= p.query_index;
  });

  for (int size : {1, 3, 100}) {
    add("window(" + std::to_string(size) + ")",
        [=](P p) { return std::max(p.query - size + 1, 0) <= p.key && p.key <= p.query; });
  }
  rows.back().refuses = {{"window(0)", "window(): size is 0, expected at least 1"}, {"window(-3)", "size is -3"}};
  add("window_two_sided(2, 3)", [](P p) { return p.query - 2 <= p.key && p.key <= p.query + 3; });
  add("window_two_sided(0, 0)", [](P p) { return p.query == p.key; });
  rows.back().refuses = {{"window_two_sided(-1, 0)", "left is -1"}, {"window_two_sided(0, -1)", "right is -1"}};
  for (int dilation : {1, 2, 3}) {
    add("dilated_window(3, " + std::to_string(dilation) + ")",
        [=](P p) { return p.key == p.query || p.key == p.query - dilation || p.key == p.query - 2 * dilation; });
  }
  rows.back().refuses = {{"dilated_window(4, 0)", "dilation is 0"},
                         {"dilated_window(0, 4)", "size is 0"},
                         {"dilated_window(65536, 65536)", "size * dilation is the product of [65536, 65536]"}};
  // Longformer: half a window on each side, global attention symmetric.
  add("longformer(4, 2)", [](P p) {
    const bool is_global = p.query < 2 || p.key < 2;
    return is_global || (p.query - 2 <= p.key && p.key <= p.query + 2);
  });
  add("longformer(0, 0)", [](P p) { return p.query == p.key; });
  rows.back().refuses = {{"longformer(5, 0)", "window is 5, expected an even number"},
                         {"longformer(-2, 0)", "window is -2"},
                         {"longformer(2, -1)", "global_tokens is -1"}};
  add("prefix_lm(4)", [](P p) { return p.key < 4 || p.key <= p.query; });
  add("prefix_lm(0)", [](P p) { return p.key <= p.query; });
  rows.back().refuses = {{"prefix_lm(-1)", "prefix is -1"}};
  add("local_chunked(4)", [](P p) {
    if (p.key > p.query) return false;
    for (int between = p.key + 1; between <= p.query; ++between) {
      if (between % 4 == 0) return false;  // a chunk starts there
    }
    return true;
  });
  rows.back().refuses = {{"local_chunked(0)", "chunk is 0"}};
  add("block_causal(3)", [](P p) {
    int end_of_query_block = p.query + 1;
    while (end_of_query_block % 3 != 0) ++end_of_query_block;
    return p.key < end_of_query_block;
  });
  rows.back().refuses = {{"block_causal(0)", "block is 0"}};
  add("streaming_llm(2, 3)", [](P p) { return p.key <= p.query && (p.key < 2 || p.key > p.query - 3); });
  add("streaming_llm(0, 1)", [](P p) { return p.key == p.query; });
  rows.back().refuses = {{"streaming_llm(-1, 4)", "sinks is -1"}, {"streaming_llm(4, 0)", "window is 0"}};

  // Child et al. 2019, section 4.3: A(1) = {t, ..., i} with t = max(0, i - l); A(2) = {j <= i: (i - j) mod l = 0}.
  add("strided(3)", [](P p) {
    for (int j = std::max(0, p.query - 3); j <= p.query; ++j) {
      if (j == p.key) return true;
    }
    for (int j = p.query; j >= std::min(p.key, 0); j -= 3) {
      if (j == p.key) return true;
    }
    return false;
  });
  rows.back().refuses = {{"strided(0)", "stride is 0"}};
  // A(1) = {j <= i: floor(j / l) = floor(i / l)}; A(2) = {j <= i: j mod l in {t, ..., l - 1}} with t = l - c.
  for (int summary : {1, 2, 4}) {
    add("fixed(4, " + std::to_string(summary) + ")", [=](P p) {
      if (p.key > p.query) return false;
      return p.key / 4 == p.query / 4 || p.key % 4 + summary >= 4;
    });
  }
  rows.back().refuses = {{"fixed(0, 1)", "block is 0"},
                         {"fixed(8, 0)", "summary is 0, expected 1 to 8"},
                         {"fixed(8, 9)", "summary is 9, expected 1 to 8"}};

  // Arriola et al. 2025: noisy tokens x_t, then clean tokens x_0, both of length 6 in blocks of 4 (the last one short).
  rows.push_back({.call = "block_diffusion(4, 6)",
                  .keeps =
                      [](P p) {
                        if (p.query >= 12 || p.key >= 12) return false;
                        const bool query_is_clean = p.query >= 6, key_is_clean = p.key >= 6;
                        const int query_block = p.query % 6 / 4, key_block = p.key % 6 / 4;
                        const bool block_diagonal = query_block == key_block && query_is_clean == key_is_clean;
                        const bool offset_block_causal = !query_is_clean && key_is_clean && query_block > key_block;
                        const bool block_causal = query_is_clean && key_is_clean && query_block >= key_block;
                        return block_diagonal || offset_block_causal || block_causal;
                      },
                  .shapes = {{.s_q = 12, .s_kv = 12}, {.s_q = 5, .s_kv = 12}, {.s_q = 14, .s_kv = 14}}});
  rows.back().refuses = {{"block_diffusion(0, 8)", "block is 0"},
                         {"block_diffusion(4, 0)", "length is 0"},
                         {"block_diffusion(4, 1073741824)", "length is 1073741824"}};
  return rows;
}

}  // namespace tilewise
