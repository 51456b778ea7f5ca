// The named variants. Written by tools/generate_zoo from the headers of src/variant/zoo/; do not edit.
//
// Each is an ordinary Variant, to be composed with others by `&`. Positions and indices are those of At; lengths and
// sizes count them. Every function throws Error(invalid_argument) on arguments that its comment rules out.
#pragma once

#include <cstdint>
#include <vector>

#include "tilewise/variant.h"
#include "tilewise/zoo_entry.h"

namespace tilewise::zoo {

/// Attention with linear biases: scores fall with distance, at a slope of each head's own.
///
///     s - slope[head] * abs(query - key)
///
/// Of a power of two of heads, head i has the slope 2^(-8 (i + 1) / heads). Otherwise the largest power of two below
/// gives its slopes first, and the rest are every other one of twice that many heads, as in the paper's code. Slopes
/// are float32. The absolute distance is the paper's for causal masks, and its symmetric extension for others.
///
/// `heads`: query heads, at least 1; a call with more of them is refused when it is planned.
///
/// Source: Train Short, Test Long: ALiBi (Press, Smith, Lewis 2022)
/// Example: alibi(8)
Variant alibi(std::int32_t heads);

/// A learned logit for each head that joins the denominator only, so that a head can attend to nothing.
///
///     sink(logit[head])
///
/// `logit`: a table of reals [heads].
Variant attention_sink(const Table& logit);

/// A learned logit by head in the denominator; to be bound: `sink_logit`, float32 [heads].
///
///     sink(sink_logit[head])
///
/// Source: gpt-oss (OpenAI 2025); attention sinks (Xiao et al. 2024)
/// Example: attention_sink()
Variant attention_sink();

/// Axial attention over an image stored row by row: each pixel sees its own column or its own row.
///
///     keep(query % width == key % width) along axis 0, keep(query // width == key // width) along axis 1
///
/// Positions from height * width on see nothing and nothing sees them.
///
/// `height`, `width`: at least 1; the width is part of the code. `axis`: the one that attention runs along: 0 for the
/// height (a column is seen), 1 for the width (a row is seen).
///
/// Source: Axial Attention in Multidimensional Transformers (Ho et al. 2019)
/// Example: axial(32, 32, 0)
Variant axial(std::int32_t height, std::int32_t width, std::int32_t axis);

/// A band: causal from the bottom right and inverse causal from the top left at once.
///
///     keep(0 <= key_index - query_index <= keys - queries)
///
/// Each query sees keys - queries + 1 keys. With as many queries as keys that is the diagonal; with more queries than
/// keys, nothing.
///
/// Source: MagiAttention's bi-causal mask (Sand AI 2025)
/// Example: bi_causal()
Variant bi_causal();

/// Blocks of a window, global blocks at the start, and random ones: BigBird's internal transformer construction.
///
///     keep(abs(query // block - key // block) <= window_blocks // 2 or query // block < global_blocks
///          or key // block < global_blocks or random[query // block, key // block])
///
/// The random blocks of a row are drawn without repetition among those that it does not see yet, in the order of the
/// words of Philox4x32-10 with key (seed, 0) and counters (0, row, 0, 0), (1, row, 0, 0), ...: word * blocks / 2^32,
/// rounded down. They are the same on every platform. Positions from `length` on see nothing and nothing sees them.
///
/// `block`: positions, at least 1; it is part of the code. `window_blocks`: odd, a block's own in the middle.
/// `global_blocks`, `random_blocks`: at least 0; a row takes fewer random ones where fewer are left. `length`: at most
/// 16384 blocks. `seed`: any int.
///
/// Source: Big Bird: Transformers for Longer Sequences (Zaheer et al. 2020)
/// Example: bigbird(64, 3, 1, 3, 1024, 0)
Variant bigbird(std::int32_t block, std::int32_t window_blocks, std::int32_t global_blocks, std::int32_t random_blocks,
                std::int32_t length, std::int32_t seed);

/// Causal between blocks, full within them.
///
///     keep(query // block >= key // block)
///
/// `block`: positions, at least 1; it is part of the code.
///
/// Source: MAGI-1: Autoregressive Video Generation at Scale (Sand AI 2025)
/// Example: block_causal(64)
Variant block_causal(std::int32_t block);

/// Training of block diffusion: a noisy copy of a sequence, and the clean one behind it, in one pass.
///
///     keep(same half and same block
///          or noisy query, clean key and block(query) > block(key)
///          or clean query, clean key and block(query) >= block(key))
///
/// Positions 0 to length - 1 are the noisy half, length to 2 * length - 1 the clean one; block() counts from 0 in each.
/// A noisy block sees itself and the clean blocks before it, a clean block the clean blocks up to itself. Positions
/// from 2 * length on see nothing and nothing sees them.
///
/// `block`: positions, at least 1; it is part of the code. `length`: of one half, 1 to 2^30 - 1.
///
/// Source: Block Diffusion, BD3-LM (Arriola et al. 2025)
/// Example: block_diffusion(16, 512)
Variant block_diffusion(std::int32_t block, std::int32_t length);

/// A mask given block by block.
///
///     keep(blocks[query_index // block, key_index // block])
///
/// `block`: queries and keys of a block, at least 1; it is part of the code. `blocks`: a bool table
/// [ceil(s_q / block), ceil(s_kv / block)], behind [h] or [b, h] at rank 3 or 4; a stride of 0 shares an axis.
Variant block_sparse(std::int32_t block, const Table& blocks);

/// A mask given block by block; to be bound: `blocks`, a bool table of the given rank.
///
///     keep(blocks[query_index // block, key_index // block]), behind head at rank 3, batch and head at rank 4
///
/// `block`: queries and keys of a block, at least 1; it is part of the code. `rank`: 2 for [ceil(s_q / block),
/// ceil(s_kv / block)], 3 and 4 with [h] or [b, h] before.
///
/// Source: GPU Kernels for Block-Sparse Weights (Gray, Radford, Kingma 2017); FlexAttention's BlockMask (2024)
/// Example: block_sparse(128)
Variant block_sparse(std::int32_t block, std::int32_t rank = 2);

/// Each query sees its own position and those before it.
///
///     keep(query >= key)
///
/// By positions: with the default query_offset the last query sees the last key, so the same variant is right when
/// decoding against a cache (bottom-right alignment). See causal_top_left for the other alignment.
///
/// Source: Attention Is All You Need (Vaswani et al. 2017)
/// Example: causal()
Variant causal();

/// Causal with the first query aligned to the first key, whatever the lengths and offsets.
///
///     keep(query_index >= key_index)
///
/// Differs from causal where there are not as many queries as keys.
///
/// Source: PyTorch's scaled_dot_product_attention with is_causal (2023)
/// Example: causal_top_left()
Variant causal_top_left();

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
Variant cross_to_media(const std::vector<std::int32_t>& positions, std::int32_t media_tokens);

/// An additive mask given entry by entry.
///
///     s + addend[query_index, key_index]
///
/// `addend`: a table of reals [s_q, s_kv], [h, s_q, s_kv] or [b, h, s_q, s_kv]; a stride of 0 shares an axis. -inf
/// removes an entry.
Variant dense_bias(const Table& addend);

/// An additive mask given entry by entry; to be bound: `addend`, a float32 table of the given rank.
///
///     s + addend[query_index, key_index], behind head at rank 3, batch and head at rank 4
///
/// -inf removes an entry.
///
/// `rank`: 2 for [s_q, s_kv], 3 for [h, s_q, s_kv], 4 for [b, h, s_q, s_kv].
///
/// Source: the float attn_mask of PyTorch's scaled_dot_product_attention (2023)
/// Example: dense_bias(2)
Variant dense_bias(std::int32_t rank = 2);

/// A mask given entry by entry.
///
///     keep(mask[query_index, key_index])
///
/// `mask`: a bool table [s_q, s_kv], [h, s_q, s_kv] or [b, h, s_q, s_kv]; a stride of 0 shares an axis.
Variant dense_mask(const Table& mask);

/// A mask given entry by entry; to be bound: `mask`, a bool table of the given rank.
///
///     keep(mask[query_index, key_index]), behind head at rank 3, batch and head at rank 4
///
/// `rank`: 2 for [s_q, s_kv], 3 for [h, s_q, s_kv], 4 for [b, h, s_q, s_kv].
///
/// Source: the bool attn_mask of PyTorch's scaled_dot_product_attention (2023)
/// Example: dense_mask(2)
Variant dense_mask(std::int32_t rank = 2);

/// Sliding window with gaps, causal: each query sees `size` positions, `dilation` apart, its own the last of them.
///
///     keep(0 <= query - key < size * dilation and (query - key) % dilation == 0)
///
/// `size`: positions that a query sees, at least 1. `dilation`: the distance between them, at least 1; it is part of
/// the code. Their product must be below 2^31.
///
/// Source: Longformer (Beltagy, Peters, Cohan 2020); LongNet (Ding et al. 2023)
/// Example: dilated_window(256, 4)
Variant dilated_window(std::int32_t size, std::int32_t dilation);

/// Documents packed one behind the other: each token sees its own document, all of it.
///
///     keep(document[query_token] == document[key_token])
///
/// Compose with causal() for language models. Tokens behind the last document are padding: they see nothing and nothing
/// sees them. Queries and keys must be the same packed tokens (no cache).
///
/// `lengths`: tokens of each document in order, none negative, 1 to 2^31 - 1 in all.
///
/// Source: Efficient Sequence Packing without Cross-contamination (Krell et al. 2021); Llama 3 (Dubey et al. 2024)
/// Example: documents([300, 500, 224])
Variant documents(const std::vector<std::int32_t>& lengths);

/// Sparse Transformer's fixed pattern: the query's own block, and the last `summary` positions of each, causally.
///
///     keep(query >= key and (query // block == key // block or key % block >= block - summary))
///
/// The union of the paper's two factors, which a single head computes when they are merged.
///
/// `block`: at least 1; it is part of the code. `summary`: positions of each block that all later ones see, 1 to block.
///
/// Source: Generating Long Sequences with Sparse Transformers (Child et al. 2019)
/// Example: fixed(128, 8)
Variant fixed(std::int32_t block, std::int32_t summary);

/// Each query sees the key of its own index and those after it.
///
///     keep(query_index <= key_index)
///
/// By indices, the first query aligned to the first key, as in its source: the mirror image of a causal mask whose last
/// query is aligned to the last key.
///
/// Source: MagiAttention's inverse causal mask (Sand AI 2025)
/// Example: inverse_causal()
Variant inverse_causal();

/// A learned bias for each head and pair of positions.
///
///     s + bias[head, query, key]
///
/// `bias`: a table of reals [heads, positions, positions]. By positions, so that a row keeps its biases when decoding
/// against a cache; see pair_bias for a table of one call's own entries.
Variant learned_bias(const Table& bias);

/// A learned bias by head and positions; to be bound: `bias`, float32 [heads, positions, positions].
///
///     s + bias[head, query, key]
///
/// Source: LeViT's attention biases (Graham et al. 2021)
/// Example: learned_bias()
Variant learned_bias();

/// Sharpens attention step by step with the query's position, for layers without position embeddings.
///
///     s * (1 + gain * log(1 + (query + 1) // span))
///
/// `span`: positions of a step, at least 1; it is part of the code. `gain`: finite and above 0.
///
/// Source: Llama 4's temperature tuning (Meta 2025), after Scalable-Softmax (Nakanishi 2025)
/// Example: llama4_temperature(8192, 0.1)
Variant llama4_temperature(std::int32_t span = 8192, double gain = 0.1);

/// Causal within chunks of fixed size: no query sees beyond the start of its own chunk.
///
///     keep(query >= key and query // chunk == key // chunk)
///
/// `chunk`: positions, at least 1; it is part of the code.
///
/// Source: Llama 4's chunked attention layers (Meta 2025)
/// Example: local_chunked(512)
Variant local_chunked(std::int32_t chunk);

/// Sharpens attention as the context outgrows the trained length, so that its entropy stays about the same.
///
///     s * max(1, log(query + 1) / log(trained_length))
///
/// query + 1 is how many keys a causal query sees. Up to the trained length scores stay as they are.
///
/// `trained_length`: at least 2.
///
/// Source: Su (2021) and Qwen's log-n attention (2023), after Chiang and Cholak (2022)
/// Example: log_n_scaling(2048)
Variant log_n_scaling(std::int32_t trained_length);

/// Sliding window to both sides, and global tokens at the start that see all and are seen by all.
///
///     keep(abs(query - key) <= window / 2 or query < global_tokens or key < global_tokens)
///
/// `window`: half of it lies on each side of a query, so it is even and at least 0. `global_tokens`: how many of the
/// first positions are global, at least 0.
///
/// Source: Longformer (Beltagy, Peters, Cohan 2020)
/// Example: longformer(512, 16)
Variant longformer(std::int32_t window, std::int32_t global_tokens);

/// Neighbourhood attention in one dimension: a window that is shifted inwards at the ends instead of cut off.
///
///     keep(query % dilation == key % dilation and 0 <= key // dilation - first(query) < window)
///
/// first(query) = clamp(leader - window / 2, 0, places - window) in the query's dilation group, where leader is the
/// middle query of each `stride` neighbours (the right one of two). Every query sees exactly `window` keys. Positions
/// from `length` on see nothing and nothing sees them.
///
/// `length`: places. `window`: places that a query sees; window * dilation is at most length. `stride`: queries that
/// share a window, at most window. `dilation`: distance of seen places. All at least 1; the last two are part of the
/// code.
///
/// Source: Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. 2025)
/// Example: neighbourhood_1d(1024, 63, 1, 2)
Variant neighbourhood_1d(std::int32_t length, std::int32_t window, std::int32_t stride = 1, std::int32_t dilation = 1);

/// Neighbourhood attention over an image stored row by row: neighbours along both axes.
///
///     keep(neighbour(row(query), row(key)) and neighbour(column(query), column(key)))
///
/// neighbour() is neighbourhood_1d's along each axis. Positions from height * width on see nothing and nothing sees
/// them.
///
/// `extents`: [height, width]. `window`, `stride`, `dilation`: one number for each axis, bounded as in
/// neighbourhood_1d.
///
/// Source: Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. 2025)
/// Example: neighbourhood_2d([32, 32], [7, 7])
Variant neighbourhood_2d(const std::vector<std::int32_t>& extents, const std::vector<std::int32_t>& window,
                         const std::vector<std::int32_t>& stride = {1, 1},
                         const std::vector<std::int32_t>& dilation = {1, 1});

/// Neighbourhood attention over a video stored frame by frame, row by row: neighbours along all three axes.
///
///     keep(neighbour along depth, height and width)
///
/// neighbour is neighbourhood_1d's along each axis. Positions from depth * height * width on see nothing and nothing
/// sees them.
///
/// `extents`: [depth, height, width]. `window`, `stride`, `dilation`: one number for each axis, bounded as in
/// neighbourhood_1d.
///
/// Source: Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. 2025)
/// Example: neighbourhood_3d([8, 16, 16], [3, 5, 5])
Variant neighbourhood_3d(const std::vector<std::int32_t>& extents, const std::vector<std::int32_t>& window,
                         const std::vector<std::int32_t>& stride = {1, 1, 1},
                         const std::vector<std::int32_t>& dilation = {1, 1, 1});

/// Padded batches: keys from each sequence's length on are removed.
///
///     keep(key_index < length[batch])
///
/// A batch with more sequences than `lengths` is refused when it is planned.
///
/// `lengths`: keys of each sequence, none negative, at least 1 in all.
///
/// Source: the key padding mask of PyTorch's MultiheadAttention (2019)
/// Example: padding([700, 512, 1024])
Variant padding(const std::vector<std::int32_t>& lengths);

/// A bias for each head and entry, computed from features of the pair of tokens.
///
///     s + pair[batch, head, query_index, key_index]
///
/// `pair`: a table of reals [h, s_q, s_kv] or [b, h, s_q, s_kv]; a stride of 0 shares an axis.
Variant pair_bias(const Table& pair);

/// A bias from features of token pairs; to be bound: `pair`, float32, [b, h, s_q, s_kv] or without b at rank 3.
///
///     s + pair[batch, head, query_index, key_index]
///
/// `rank`: 4 or 3.
///
/// Source: AlphaFold 2's row-wise attention with pair bias (Jumper et al. 2021)
/// Example: pair_bias(4)
Variant pair_bias(std::int32_t rank = 4);

/// Causal, but the first `prefix` positions are seen by all.
///
///     keep(query >= key or key < prefix)
///
/// `prefix`: positions, at least 0.
///
/// Source: Exploring the Limits of Transfer Learning (T5, Raffel et al. 2020); UniLM (Dong et al. 2019)
/// Example: prefix_lm(256)
Variant prefix_lm(std::int32_t prefix);

/// A learned bias for each head and relative position, which is clipped.
///
///     s + bias[head, clamp(key - query, -max_distance, max_distance) + max_distance]
///
/// `bias`: a table of reals [heads, 2 * max_distance + 1]. `max_distance`: 0 to 2^30 - 1.
Variant relative_position(const Table& bias, std::int32_t max_distance);

/// A bias by clipped relative position; to be bound: `distance_bias`, float32 [heads, 2 * max_distance + 1].
///
///     s + distance_bias[head, clamp(key - query, -max_distance, max_distance) + max_distance]
///
/// `max_distance`: 0 to 2^30 - 1.
///
/// Source: Self-Attention with Relative Position Representations (Shaw et al. 2018), with a number for each vector
/// Example: relative_position(128)
Variant relative_position(std::int32_t max_distance);

/// Sandwich: the inner product of two sinusoidal position embeddings as a bias, compressed by head.
///
///     s + sum(cos((query - key) / 10000^(2 i / dimension)) for i in 0 ... dimension / 2 - 1) / (8 (head + 1) / heads)
///
/// A bias without parameters that falls logarithmically with distance.
///
/// `heads`: query heads, at least 1. `dimension`: of the embeddings, even, 2 to 1024; the paper's choice is 128.
///
/// Source: Dissecting Transformer Length Extrapolation, Sandwich (Chi et al. 2023)
/// Example: sandwich(12, 128)
Variant sandwich(std::int32_t heads, std::int32_t dimension = 128);

/// One prefix and several continuations of it packed behind each other: each sees the prefix and itself, causally.
///
///     keep(query_token >= key_token and (key_token < prefix or part[query_token] == part[key_token]))
///
/// Tokens behind the last suffix are padding: they see nothing and nothing sees them. Queries and keys must be the same
/// packed tokens (no cache).
///
/// `prefix`: tokens of the prefix, at least 0. `suffixes`: tokens of each continuation, none negative, at
/// least 1 in all.
///
/// Source: Hydragen (Juravsky et al. 2024); preference tuning with shared prompts (Wang and Hegde 2024)
/// Example: shared_prefix(512, [128, 256, 128])
Variant shared_prefix(std::int32_t prefix, const std::vector<std::int32_t>& suffixes);

/// Keeps scores within (-cap, cap), smoothly.
///
///     cap * tanh(s / cap)
///
/// `cap`: finite and above 0.
///
/// Source: Neural Combinatorial Optimization (Bello et al. 2016); Gemma 2 (2024)
/// Example: softcap(30)
Variant softcap(double cap);

/// Causal sliding window that always keeps the first positions as well.
///
///     keep(query >= key and (query - key < window or key < sinks))
///
/// `sinks`: first positions that all later ones see, at least 0. `window`: positions, the query's own among them, at
/// least 1. The source also renumbers positions inside its cache; here they stay as they are.
///
/// Source: Efficient Streaming Language Models with Attention Sinks (Xiao et al. 2024)
/// Example: streaming_llm(4, 252)
Variant streaming_llm(std::int32_t sinks, std::int32_t window);

/// Sparse Transformer's strided pattern: the last `stride` positions, and every stride-th one before, causally.
///
///     keep(query >= key and (query - key <= stride or (query - key) % stride == 0))
///
/// The union of the paper's two factors, which a single head computes when they are merged.
///
/// `stride`: at least 1; it is part of the code.
///
/// Source: Generating Long Sequences with Sparse Transformers (Child et al. 2019)
/// Example: strided(32)
Variant strided(std::int32_t stride);

/// T5's relative position bias: a learned number for each head and bucket of distances.
///
///     s + bias[bucket(key - query), head]
///
/// `bias`: a table of reals [buckets, heads]. The other arguments as below.
Variant t5_buckets(const Table& bias, std::int32_t buckets, std::int32_t max_distance, bool bidirectional);

/// T5's relative position bias by buckets of distances; to be bound: `bucket_bias`, float32 [buckets, heads].
///
///     s + bucket_bias[bucket(key - query), head]
///
/// In one direction, n buckets: distances below n / 2 have one each, the others share the rest geometrically up to
/// max_distance, bucket = n / 2 + floor(log(distance / (n / 2)) / log(max_distance / (n / 2)) * n / 2), at most n - 1.
/// Bidirectional: half of the buckets for keys up to the query, the other half for those after it. Else keys after the
/// query count as distance 0.
///
/// `buckets`: 2 to 2^20, even, or a multiple of 4 when bidirectional. `max_distance`: above n / 2, at most 2^24.
/// `bidirectional`: 1 for encoders, 0 for decoders.
///
/// Source: T5 (Raffel et al. 2020)
/// Example: t5_buckets(32, 128, 1)
Variant t5_buckets(std::int32_t buckets = 32, std::int32_t max_distance = 128, bool bidirectional = true);

/// Divides scores by a temperature: above 1 weights even out, below 1 they sharpen.
///
///     s / temperature
///
/// `temperature`: finite and above 0.
///
/// Source: Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean 2015)
/// Example: temperature(0.7)
Variant temperature(double temperature);

/// Sliding tile attention over an image: windows of whole tiles, moving tile by tile, so that no tile is partial.
///
///     keep(abs(tile(key) - clamp(tile(query), window / 2, tiles - 1 - window / 2)) <= window / 2, along both axes)
///
/// Tokens are stored tile by tile, tiles row by row, and `text` tokens behind the image see all and are seen by all.
/// Positions behind those see nothing and nothing sees them.
///
/// `extents`: [height, width]. `tile`: [height, width], which divide the extents. `window`: tiles along each axis, odd
/// and at most as many as there are. `text`: at least 0. Tiles are part of the code.
///
/// Source: Fast Video Generation with Sliding Tile Attention (Zhang et al. 2025)
/// Example: tiled_window_2d([64, 64], [8, 8], [3, 3])
Variant tiled_window_2d(const std::vector<std::int32_t>& extents, const std::vector<std::int32_t>& tile,
                        const std::vector<std::int32_t>& window, std::int32_t text = 0);

/// Sliding tile attention over a video: windows of whole tiles, moving tile by tile, so that no tile is partial.
///
///     keep(abs(tile(key) - clamp(tile(query), window / 2, tiles - 1 - window / 2)) <= window / 2, along all axes)
///
/// Tokens are stored tile by tile, tiles frame by frame and row by row, and `text` tokens behind the video see all and
/// are seen by all. Positions behind those see nothing and nothing sees them.
///
/// `extents`: [depth, height, width]. `tile`: [depth, height, width], which divide the extents. `window`: tiles along
/// each axis, odd and at most as many as there are. `text`: at least 0. Tiles are part of the code.
///
/// Source: Fast Video Generation with Sliding Tile Attention (Zhang et al. 2025)
/// Example: tiled_window_3d([18, 16, 16], [6, 8, 8], [3, 1, 1])
Variant tiled_window_3d(const std::vector<std::int32_t>& extents, const std::vector<std::int32_t>& tile,
                        const std::vector<std::int32_t>& window, std::int32_t text = 0);

/// Causal, but within spans such as images each position sees the whole span.
///
///     keep(query >= key or query and key lie in the same span)
///
/// `starts`, `lengths`: first position and number of positions of each span, ascending and disjoint, from 0 on; lengths
/// are at least 1.
///
/// Source: Transfusion (Zhou et al. 2024); PaliGemma (Beyer et al. 2024) and Gemma 3 (2025) for image tokens
/// Example: transfusion([64, 512], [256, 256])
Variant transfusion(const std::vector<std::int32_t>& starts, const std::vector<std::int32_t>& lengths);

/// A tree of draft tokens behind a cached prefix: each sees the prefix, its ancestors and itself.
///
///     keep(key < prefix or enter[key - prefix] <= enter[query - prefix] < exit[key - prefix])
///
/// enter and exit are the times of a depth-first walk, so two comparisons decide ancestry. A query inside the prefix
/// sees it causally. Positions behind the tree see nothing and nothing sees them. Positions count the stored tokens,
/// not their depth in the tree.
///
/// `parents`: each token's parent as its index in this list, -1 for a root, always before its children.
/// `prefix`: cached positions before the tree, at least 0.
///
/// Source: SpecInfer (Miao et al. 2024); Medusa (Cai et al. 2024)
/// Example: tree([-1, 0, 0, 1, 1, 2], 32)
Variant tree(const std::vector<std::int32_t>& parents, std::int32_t prefix = 0);

/// Sliding window, causal: each query sees the last `size` positions, its own among them.
///
///     keep(0 <= query - key < size)
///
/// `size`: positions that a query sees, at least 1.
///
/// Source: Longformer (Beltagy, Peters, Cohan 2020); Mistral 7B (Jiang et al. 2023)
/// Example: window(1024)
Variant window(std::int32_t size);

/// Sliding window that reaches `left` positions back and `right` ahead.
///
///     keep(-right <= query - key <= left)
///
/// `left`, `right`: positions, at least 0. Each query sees left + right + 1 of them, its own among them.
///
/// Source: Longformer (Beltagy, Peters, Cohan 2020); FlashAttention 2.3's window_size (Dao 2023)
/// Example: window_two_sided(256, 256)
Variant window_two_sided(std::int32_t left, std::int32_t right);

}  // namespace tilewise::zoo
