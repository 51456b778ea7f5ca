// Every named variant. Written by tools/generate_zoo from the headers of this folder; do not edit.
#include <algorithm>

#include "tilewise/zoo_entry.h"
#include "variant/zoo/alibi.h"
#include "variant/zoo/attention_sink.h"
#include "variant/zoo/axial.h"
#include "variant/zoo/bi_causal.h"
#include "variant/zoo/bigbird.h"
#include "variant/zoo/block_causal.h"
#include "variant/zoo/block_diffusion.h"
#include "variant/zoo/block_sparse.h"
#include "variant/zoo/causal.h"
#include "variant/zoo/causal_top_left.h"
#include "variant/zoo/common/arguments.h"
#include "variant/zoo/cross_to_media.h"
#include "variant/zoo/dense_bias.h"
#include "variant/zoo/dense_mask.h"
#include "variant/zoo/dilated_window.h"
#include "variant/zoo/documents.h"
#include "variant/zoo/fixed.h"
#include "variant/zoo/inverse_causal.h"
#include "variant/zoo/learned_bias.h"
#include "variant/zoo/llama4_temperature.h"
#include "variant/zoo/local_chunked.h"
#include "variant/zoo/log_n_scaling.h"
#include "variant/zoo/longformer.h"
#include "variant/zoo/neighbourhood_1d.h"
#include "variant/zoo/neighbourhood_2d.h"
#include "variant/zoo/neighbourhood_3d.h"
#include "variant/zoo/padding.h"
#include "variant/zoo/pair_bias.h"
#include "variant/zoo/prefix_lm.h"
#include "variant/zoo/relative_position.h"
#include "variant/zoo/sandwich.h"
#include "variant/zoo/shared_prefix.h"
#include "variant/zoo/softcap.h"
#include "variant/zoo/streaming_llm.h"
#include "variant/zoo/strided.h"
#include "variant/zoo/t5_buckets.h"
#include "variant/zoo/temperature.h"
#include "variant/zoo/tiled_window_2d.h"
#include "variant/zoo/tiled_window_3d.h"
#include "variant/zoo/transfusion.h"
#include "variant/zoo/tree.h"
#include "variant/zoo/window.h"
#include "variant/zoo/window_two_sided.h"

namespace tilewise::zoo {

std::span<const Entry> entries() {
  using Arguments = std::span<const Argument>;
  // clang-format off
  static const std::vector<Entry> kEntries = {
      {.name = "alibi",
       .summary = "Attention with linear biases: scores fall with distance, at a slope of each head's own.",
       .source = "Train Short, Test Long: ALiBi (Press, Smith, Lewis 2022)",
       .mathematics = "s - slope[head] * abs(query - key)",
       .example = "alibi(8)",
       .arguments = {{"heads", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return alibi(integer(given[0], "alibi", "heads")); }},
      {.name = "attention_sink",
       .summary = "A learned logit by head in the denominator; to be bound: `sink_logit`, float32 [heads].",
       .source = "gpt-oss (OpenAI 2025); attention sinks (Xiao et al. 2024)",
       .mathematics = "sink(sink_logit[head])",
       .example = "attention_sink()",
       .arguments = {},
       .make = [](Arguments) {
          return attention_sink(); }},
      {.name = "axial",
       .summary = "Axial attention over an image stored row by row: each pixel sees its own column or its own "
          "row.",
       .source = "Axial Attention in Multidimensional Transformers (Ho et al. 2019)",
       .mathematics = "keep(query % width == key % width) along axis 0, keep(query // width == key // width) "
          "along axis 1",
       .example = "axial(32, 32, 0)",
       .arguments = {{"height", ArgumentKind::integer},
          {"width", ArgumentKind::integer},
          {"axis", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return axial(integer(given[0], "axial", "height"),
          integer(given[1], "axial", "width"),
          integer(given[2], "axial", "axis")); }},
      {.name = "bi_causal",
       .summary = "A band: causal from the bottom right and inverse causal from the top left at once.",
       .source = "MagiAttention's bi-causal mask (Sand AI 2025)",
       .mathematics = "keep(0 <= key_index - query_index <= keys - queries)",
       .example = "bi_causal()",
       .arguments = {},
       .make = [](Arguments) {
          return bi_causal(); }},
      {.name = "bigbird",
       .summary = "Blocks of a window, global blocks at the start, and random ones: BigBird's internal "
          "transformer construction.",
       .source = "Big Bird: Transformers for Longer Sequences (Zaheer et al. 2020)",
       .mathematics = "keep(abs(query // block - key // block) <= window_blocks // 2 or query // block < "
          "global_blocks\n"
          "     or key // block < global_blocks or random[query // block, key // block])",
       .example = "bigbird(64, 3, 1, 3, 1024, 0)",
       .arguments = {{"block", ArgumentKind::integer},
          {"window_blocks", ArgumentKind::integer},
          {"global_blocks", ArgumentKind::integer},
          {"random_blocks", ArgumentKind::integer},
          {"length", ArgumentKind::integer},
          {"seed", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return bigbird(integer(given[0], "bigbird", "block"),
          integer(given[1], "bigbird", "window_blocks"),
          integer(given[2], "bigbird", "global_blocks"),
          integer(given[3], "bigbird", "random_blocks"),
          integer(given[4], "bigbird", "length"),
          integer(given[5], "bigbird", "seed")); }},
      {.name = "block_causal",
       .summary = "Causal between blocks, full within them.",
       .source = "MAGI-1: Autoregressive Video Generation at Scale (Sand AI 2025)",
       .mathematics = "keep(query // block >= key // block)",
       .example = "block_causal(64)",
       .arguments = {{"block", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return block_causal(integer(given[0], "block_causal", "block")); }},
      {.name = "block_diffusion",
       .summary = "Training of block diffusion: a noisy copy of a sequence, and the clean one behind it, in "
          "one pass.",
       .source = "Block Diffusion, BD3-LM (Arriola et al. 2025)",
       .mathematics = "keep(same half and same block\n"
          "     or noisy query, clean key and block(query) > block(key)\n"
          "     or clean query, clean key and block(query) >= block(key))",
       .example = "block_diffusion(16, 512)",
       .arguments = {{"block", ArgumentKind::integer},
          {"length", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return block_diffusion(integer(given[0], "block_diffusion", "block"),
          integer(given[1], "block_diffusion", "length")); }},
      {.name = "block_sparse",
       .summary = "A mask given block by block; to be bound: `blocks`, a bool table of the given rank.",
       .source = "GPU Kernels for Block-Sparse Weights (Gray, Radford, Kingma 2017); FlexAttention's "
          "BlockMask (2024)",
       .mathematics = "keep(blocks[query_index // block, key_index // block]), behind head at rank 3, batch and "
          "head at rank 4",
       .example = "block_sparse(128)",
       .arguments = {{"block", ArgumentKind::integer},
          {"rank", ArgumentKind::integer, true, double{2}}},
       .make = [](Arguments given) {
          return block_sparse(integer(given[0], "block_sparse", "block"),
          integer(given[1], "block_sparse", "rank")); }},
      {.name = "causal",
       .summary = "Each query sees its own position and those before it.",
       .source = "Attention Is All You Need (Vaswani et al. 2017)",
       .mathematics = "keep(query >= key)",
       .example = "causal()",
       .arguments = {},
       .make = [](Arguments) {
          return causal(); }},
      {.name = "causal_top_left",
       .summary = "Causal with the first query aligned to the first key, whatever the lengths and offsets.",
       .source = "PyTorch's scaled_dot_product_attention with is_causal (2023)",
       .mathematics = "keep(query_index >= key_index)",
       .example = "causal_top_left()",
       .arguments = {},
       .make = [](Arguments) {
          return causal_top_left(); }},
      {.name = "cross_to_media",
       .summary = "Cross-attention from text to images: each text token sees the last image that precedes it, "
          "and no other.",
       .source = "Flamingo (Alayrac et al. 2022)",
       .mathematics = "keep(start[key // media_tokens] <= query < start[key // media_tokens + 1])",
       .example = "cross_to_media([0, 200, 650], 64)",
       .arguments = {{"positions", ArgumentKind::integers},
          {"media_tokens", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return cross_to_media(integers(given[0], "cross_to_media", "positions"),
          integer(given[1], "cross_to_media", "media_tokens")); }},
      {.name = "dense_bias",
       .summary = "An additive mask given entry by entry; to be bound: `addend`, a float32 table of the given "
          "rank.",
       .source = "the float attn_mask of PyTorch's scaled_dot_product_attention (2023)",
       .mathematics = "s + addend[query_index, key_index], behind head at rank 3, batch and head at rank 4",
       .example = "dense_bias(2)",
       .arguments = {{"rank", ArgumentKind::integer, true, double{2}}},
       .make = [](Arguments given) {
          return dense_bias(integer(given[0], "dense_bias", "rank")); }},
      {.name = "dense_mask",
       .summary = "A mask given entry by entry; to be bound: `mask`, a bool table of the given rank.",
       .source = "the bool attn_mask of PyTorch's scaled_dot_product_attention (2023)",
       .mathematics = "keep(mask[query_index, key_index]), behind head at rank 3, batch and head at rank 4",
       .example = "dense_mask(2)",
       .arguments = {{"rank", ArgumentKind::integer, true, double{2}}},
       .make = [](Arguments given) {
          return dense_mask(integer(given[0], "dense_mask", "rank")); }},
      {.name = "dilated_window",
       .summary = "Sliding window with gaps, causal: each query sees `size` positions, `dilation` apart, its "
          "own the last of them.",
       .source = "Longformer (Beltagy, Peters, Cohan 2020); LongNet (Ding et al. 2023)",
       .mathematics = "keep(0 <= query - key < size * dilation and (query - key) % dilation == 0)",
       .example = "dilated_window(256, 4)",
       .arguments = {{"size", ArgumentKind::integer},
          {"dilation", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return dilated_window(integer(given[0], "dilated_window", "size"),
          integer(given[1], "dilated_window", "dilation")); }},
      {.name = "documents",
       .summary = "Documents packed one behind the other: each token sees its own document, all of it.",
       .source = "Efficient Sequence Packing without Cross-contamination (Krell et al. 2021); Llama 3 (Dubey "
          "et al. 2024)",
       .mathematics = "keep(document[query_token] == document[key_token])",
       .example = "documents([300, 500, 224])",
       .arguments = {{"lengths", ArgumentKind::integers}},
       .make = [](Arguments given) {
          return documents(integers(given[0], "documents", "lengths")); }},
      {.name = "fixed",
       .summary = "Sparse Transformer's fixed pattern: the query's own block, and the last `summary` "
          "positions of each, causally.",
       .source = "Generating Long Sequences with Sparse Transformers (Child et al. 2019)",
       .mathematics = "keep(query >= key and (query // block == key // block or key % block >= block - summary))",
       .example = "fixed(128, 8)",
       .arguments = {{"block", ArgumentKind::integer},
          {"summary", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return fixed(integer(given[0], "fixed", "block"),
          integer(given[1], "fixed", "summary")); }},
      {.name = "inverse_causal",
       .summary = "Each query sees the key of its own index and those after it.",
       .source = "MagiAttention's inverse causal mask (Sand AI 2025)",
       .mathematics = "keep(query_index <= key_index)",
       .example = "inverse_causal()",
       .arguments = {},
       .make = [](Arguments) {
          return inverse_causal(); }},
      {.name = "learned_bias",
       .summary = "A learned bias by head and positions; to be bound: `bias`, float32 [heads, positions, "
          "positions].",
       .source = "LeViT's attention biases (Graham et al. 2021)",
       .mathematics = "s + bias[head, query, key]",
       .example = "learned_bias()",
       .arguments = {},
       .make = [](Arguments) {
          return learned_bias(); }},
      {.name = "llama4_temperature",
       .summary = "Sharpens attention step by step with the query's position, for layers without position "
          "embeddings.",
       .source = "Llama 4's temperature tuning (Meta 2025), after Scalable-Softmax (Nakanishi 2025)",
       .mathematics = "s * (1 + gain * log(1 + (query + 1) // span))",
       .example = "llama4_temperature(8192, 0.1)",
       .arguments = {{"span", ArgumentKind::integer, true, double{8192}},
          {"gain", ArgumentKind::real, true, double{0.1}}},
       .make = [](Arguments given) {
          return llama4_temperature(integer(given[0], "llama4_temperature", "span"),
          real(given[1], "llama4_temperature", "gain")); }},
      {.name = "local_chunked",
       .summary = "Causal within chunks of fixed size: no query sees beyond the start of its own chunk.",
       .source = "Llama 4's chunked attention layers (Meta 2025)",
       .mathematics = "keep(query >= key and query // chunk == key // chunk)",
       .example = "local_chunked(512)",
       .arguments = {{"chunk", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return local_chunked(integer(given[0], "local_chunked", "chunk")); }},
      {.name = "log_n_scaling",
       .summary = "Sharpens attention as the context outgrows the trained length, so that its entropy stays "
          "about the same.",
       .source = "Su (2021) and Qwen's log-n attention (2023), after Chiang and Cholak (2022)",
       .mathematics = "s * max(1, log(query + 1) / log(trained_length))",
       .example = "log_n_scaling(2048)",
       .arguments = {{"trained_length", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return log_n_scaling(integer(given[0], "log_n_scaling", "trained_length")); }},
      {.name = "longformer",
       .summary = "Sliding window to both sides, and global tokens at the start that see all and are seen by "
          "all.",
       .source = "Longformer (Beltagy, Peters, Cohan 2020)",
       .mathematics = "keep(abs(query - key) <= window / 2 or query < global_tokens or key < global_tokens)",
       .example = "longformer(512, 16)",
       .arguments = {{"window", ArgumentKind::integer},
          {"global_tokens", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return longformer(integer(given[0], "longformer", "window"),
          integer(given[1], "longformer", "global_tokens")); }},
      {.name = "neighbourhood_1d",
       .summary = "Neighbourhood attention in one dimension: a window that is shifted inwards at the ends "
          "instead of cut off.",
       .source = "Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. "
          "2025)",
       .mathematics = "keep(query % dilation == key % dilation and 0 <= key // dilation - first(query) < window)",
       .example = "neighbourhood_1d(1024, 63, 1, 2)",
       .arguments = {{"length", ArgumentKind::integer},
          {"window", ArgumentKind::integer},
          {"stride", ArgumentKind::integer, true, double{1}},
          {"dilation", ArgumentKind::integer, true, double{1}}},
       .make = [](Arguments given) {
          return neighbourhood_1d(integer(given[0], "neighbourhood_1d", "length"),
          integer(given[1], "neighbourhood_1d", "window"),
          integer(given[2], "neighbourhood_1d", "stride"),
          integer(given[3], "neighbourhood_1d", "dilation")); }},
      {.name = "neighbourhood_2d",
       .summary = "Neighbourhood attention over an image stored row by row: neighbours along both axes.",
       .source = "Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. "
          "2025)",
       .mathematics = "keep(neighbour(row(query), row(key)) and neighbour(column(query), column(key)))",
       .example = "neighbourhood_2d([32, 32], [7, 7])",
       .arguments = {{"extents", ArgumentKind::integers},
          {"window", ArgumentKind::integers},
          {"stride", ArgumentKind::integers, true, std::vector<std::int32_t>{1, 1}},
          {"dilation", ArgumentKind::integers, true, std::vector<std::int32_t>{1, 1}}},
       .make = [](Arguments given) {
          return neighbourhood_2d(integers(given[0], "neighbourhood_2d", "extents"),
          integers(given[1], "neighbourhood_2d", "window"),
          integers(given[2], "neighbourhood_2d", "stride"),
          integers(given[3], "neighbourhood_2d", "dilation")); }},
      {.name = "neighbourhood_3d",
       .summary = "Neighbourhood attention over a video stored frame by frame, row by row: neighbours along "
          "all three axes.",
       .source = "Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. "
          "2025)",
       .mathematics = "keep(neighbour along depth, height and width)",
       .example = "neighbourhood_3d([8, 16, 16], [3, 5, 5])",
       .arguments = {{"extents", ArgumentKind::integers},
          {"window", ArgumentKind::integers},
          {"stride", ArgumentKind::integers, true, std::vector<std::int32_t>{1, 1, 1}},
          {"dilation", ArgumentKind::integers, true, std::vector<std::int32_t>{1, 1, 1}}},
       .make = [](Arguments given) {
          return neighbourhood_3d(integers(given[0], "neighbourhood_3d", "extents"),
          integers(given[1], "neighbourhood_3d", "window"),
          integers(given[2], "neighbourhood_3d", "stride"),
          integers(given[3], "neighbourhood_3d", "dilation")); }},
      {.name = "padding",
       .summary = "Padded batches: keys from each sequence's length on are removed.",
       .source = "the key padding mask of PyTorch's MultiheadAttention (2019)",
       .mathematics = "keep(key_index < length[batch])",
       .example = "padding([700, 512, 1024])",
       .arguments = {{"lengths", ArgumentKind::integers}},
       .make = [](Arguments given) {
          return padding(integers(given[0], "padding", "lengths")); }},
      {.name = "pair_bias",
       .summary = "A bias from features of token pairs; to be bound: `pair`, float32, [b, h, s_q, s_kv] or "
          "without b at rank 3.",
       .source = "AlphaFold 2's row-wise attention with pair bias (Jumper et al. 2021)",
       .mathematics = "s + pair[batch, head, query_index, key_index]",
       .example = "pair_bias(4)",
       .arguments = {{"rank", ArgumentKind::integer, true, double{4}}},
       .make = [](Arguments given) {
          return pair_bias(integer(given[0], "pair_bias", "rank")); }},
      {.name = "prefix_lm",
       .summary = "Causal, but the first `prefix` positions are seen by all.",
       .source = "Exploring the Limits of Transfer Learning (T5, Raffel et al. 2020); UniLM (Dong et al. "
          "2019)",
       .mathematics = "keep(query >= key or key < prefix)",
       .example = "prefix_lm(256)",
       .arguments = {{"prefix", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return prefix_lm(integer(given[0], "prefix_lm", "prefix")); }},
      {.name = "relative_position",
       .summary = "A bias by clipped relative position; to be bound: `distance_bias`, float32 [heads, 2 * "
          "max_distance + 1].",
       .source = "Self-Attention with Relative Position Representations (Shaw et al. 2018), with a number "
          "for each vector",
       .mathematics = "s + distance_bias[head, clamp(key - query, -max_distance, max_distance) + max_distance]",
       .example = "relative_position(128)",
       .arguments = {{"max_distance", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return relative_position(integer(given[0], "relative_position", "max_distance")); }},
      {.name = "sandwich",
       .summary = "Sandwich: the inner product of two sinusoidal position embeddings as a bias, compressed by "
          "head.",
       .source = "Dissecting Transformer Length Extrapolation, Sandwich (Chi et al. 2023)",
       .mathematics = "s + sum(cos((query - key) / 10000^(2 i / dimension)) for i in 0 ... dimension / 2 - 1) / "
          "(8 (head + 1) / heads)",
       .example = "sandwich(12, 128)",
       .arguments = {{"heads", ArgumentKind::integer},
          {"dimension", ArgumentKind::integer, true, double{128}}},
       .make = [](Arguments given) {
          return sandwich(integer(given[0], "sandwich", "heads"),
          integer(given[1], "sandwich", "dimension")); }},
      {.name = "shared_prefix",
       .summary = "One prefix and several continuations of it packed behind each other: each sees the prefix "
          "and itself, causally.",
       .source = "Hydragen (Juravsky et al. 2024); preference tuning with shared prompts (Wang and Hegde "
          "2024)",
       .mathematics = "keep(query_token >= key_token and (key_token < prefix or part[query_token] == "
          "part[key_token]))",
       .example = "shared_prefix(512, [128, 256, 128])",
       .arguments = {{"prefix", ArgumentKind::integer},
          {"suffixes", ArgumentKind::integers}},
       .make = [](Arguments given) {
          return shared_prefix(integer(given[0], "shared_prefix", "prefix"),
          integers(given[1], "shared_prefix", "suffixes")); }},
      {.name = "softcap",
       .summary = "Keeps scores within (-cap, cap), smoothly.",
       .source = "Neural Combinatorial Optimization (Bello et al. 2016); Gemma 2 (2024)",
       .mathematics = "cap * tanh(s / cap)",
       .example = "softcap(30)",
       .arguments = {{"cap", ArgumentKind::real}},
       .make = [](Arguments given) {
          return softcap(real(given[0], "softcap", "cap")); }},
      {.name = "streaming_llm",
       .summary = "Causal sliding window that always keeps the first positions as well.",
       .source = "Efficient Streaming Language Models with Attention Sinks (Xiao et al. 2024)",
       .mathematics = "keep(query >= key and (query - key < window or key < sinks))",
       .example = "streaming_llm(4, 252)",
       .arguments = {{"sinks", ArgumentKind::integer},
          {"window", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return streaming_llm(integer(given[0], "streaming_llm", "sinks"),
          integer(given[1], "streaming_llm", "window")); }},
      {.name = "strided",
       .summary = "Sparse Transformer's strided pattern: the last `stride` positions, and every stride-th one "
          "before, causally.",
       .source = "Generating Long Sequences with Sparse Transformers (Child et al. 2019)",
       .mathematics = "keep(query >= key and (query - key <= stride or (query - key) % stride == 0))",
       .example = "strided(32)",
       .arguments = {{"stride", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return strided(integer(given[0], "strided", "stride")); }},
      {.name = "t5_buckets",
       .summary = "T5's relative position bias by buckets of distances; to be bound: `bucket_bias`, float32 "
          "[buckets, heads].",
       .source = "T5 (Raffel et al. 2020)",
       .mathematics = "s + bucket_bias[bucket(key - query), head]",
       .example = "t5_buckets(32, 128, 1)",
       .arguments = {{"buckets", ArgumentKind::integer, true, double{32}},
          {"max_distance", ArgumentKind::integer, true, double{128}},
          {"bidirectional", ArgumentKind::integer, true, 1.0}},
       .make = [](Arguments given) {
          return t5_buckets(integer(given[0], "t5_buckets", "buckets"),
          integer(given[1], "t5_buckets", "max_distance"),
          flag(given[2], "t5_buckets", "bidirectional")); }},
      {.name = "temperature",
       .summary = "Divides scores by a temperature: above 1 weights even out, below 1 they sharpen.",
       .source = "Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean 2015)",
       .mathematics = "s / temperature",
       .example = "temperature(0.7)",
       .arguments = {{"temperature", ArgumentKind::real}},
       .make = [](Arguments given) {
          return temperature(real(given[0], "temperature", "temperature")); }},
      {.name = "tiled_window_2d",
       .summary = "Sliding tile attention over an image: windows of whole tiles, moving tile by tile, so that "
          "no tile is partial.",
       .source = "Fast Video Generation with Sliding Tile Attention (Zhang et al. 2025)",
       .mathematics = "keep(abs(tile(key) - clamp(tile(query), window / 2, tiles - 1 - window / 2)) <= window / "
          "2, along both axes)",
       .example = "tiled_window_2d([64, 64], [8, 8], [3, 3])",
       .arguments = {{"extents", ArgumentKind::integers},
          {"tile", ArgumentKind::integers},
          {"window", ArgumentKind::integers},
          {"text", ArgumentKind::integer, true, double{0}}},
       .make = [](Arguments given) {
          return tiled_window_2d(integers(given[0], "tiled_window_2d", "extents"),
          integers(given[1], "tiled_window_2d", "tile"),
          integers(given[2], "tiled_window_2d", "window"),
          integer(given[3], "tiled_window_2d", "text")); }},
      {.name = "tiled_window_3d",
       .summary = "Sliding tile attention over a video: windows of whole tiles, moving tile by tile, so that "
          "no tile is partial.",
       .source = "Fast Video Generation with Sliding Tile Attention (Zhang et al. 2025)",
       .mathematics = "keep(abs(tile(key) - clamp(tile(query), window / 2, tiles - 1 - window / 2)) <= window / "
          "2, along all axes)",
       .example = "tiled_window_3d([18, 16, 16], [6, 8, 8], [3, 1, 1])",
       .arguments = {{"extents", ArgumentKind::integers},
          {"tile", ArgumentKind::integers},
          {"window", ArgumentKind::integers},
          {"text", ArgumentKind::integer, true, double{0}}},
       .make = [](Arguments given) {
          return tiled_window_3d(integers(given[0], "tiled_window_3d", "extents"),
          integers(given[1], "tiled_window_3d", "tile"),
          integers(given[2], "tiled_window_3d", "window"),
          integer(given[3], "tiled_window_3d", "text")); }},
      {.name = "transfusion",
       .summary = "Causal, but within spans such as images each position sees the whole span.",
       .source = "Transfusion (Zhou et al. 2024); PaliGemma (Beyer et al. 2024) and Gemma 3 (2025) for image "
          "tokens",
       .mathematics = "keep(query >= key or query and key lie in the same span)",
       .example = "transfusion([64, 512], [256, 256])",
       .arguments = {{"starts", ArgumentKind::integers},
          {"lengths", ArgumentKind::integers}},
       .make = [](Arguments given) {
          return transfusion(integers(given[0], "transfusion", "starts"),
          integers(given[1], "transfusion", "lengths")); }},
      {.name = "tree",
       .summary = "A tree of draft tokens behind a cached prefix: each sees the prefix, its ancestors and "
          "itself.",
       .source = "SpecInfer (Miao et al. 2024); Medusa (Cai et al. 2024)",
       .mathematics = "keep(key < prefix or enter[key - prefix] <= enter[query - prefix] < exit[key - prefix])",
       .example = "tree([-1, 0, 0, 1, 1, 2], 32)",
       .arguments = {{"parents", ArgumentKind::integers},
          {"prefix", ArgumentKind::integer, true, double{0}}},
       .make = [](Arguments given) {
          return tree(integers(given[0], "tree", "parents"),
          integer(given[1], "tree", "prefix")); }},
      {.name = "window",
       .summary = "Sliding window, causal: each query sees the last `size` positions, its own among them.",
       .source = "Longformer (Beltagy, Peters, Cohan 2020); Mistral 7B (Jiang et al. 2023)",
       .mathematics = "keep(0 <= query - key < size)",
       .example = "window(1024)",
       .arguments = {{"size", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return window(integer(given[0], "window", "size")); }},
      {.name = "window_two_sided",
       .summary = "Sliding window that reaches `left` positions back and `right` ahead.",
       .source = "Longformer (Beltagy, Peters, Cohan 2020); FlashAttention 2.3's window_size (Dao 2023)",
       .mathematics = "keep(-right <= query - key <= left)",
       .example = "window_two_sided(256, 256)",
       .arguments = {{"left", ArgumentKind::integer},
          {"right", ArgumentKind::integer}},
       .make = [](Arguments given) {
          return window_two_sided(integer(given[0], "window_two_sided", "left"),
          integer(given[1], "window_two_sided", "right")); }},
  };
  // clang-format on
  return kEntries;
}

const Entry* find(std::string_view name) {
  const auto all = entries();
  const auto found = std::ranges::lower_bound(all, name, {}, &Entry::name);
  return found != all.end() && found->name == name ? &*found : nullptr;
}

}  // namespace tilewise::zoo
