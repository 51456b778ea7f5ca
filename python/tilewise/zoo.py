"""The named variants. Written by tools/generate_zoo from the headers of src/variant/zoo/; do not edit.

Each is an ordinary Variant, to be composed with others by `&`. Positions and indices are those of `at`; lengths and
sizes count them. Every function raises InvalidArgument on arguments that its description rules out. Where a table is
left out, it is to be given with each call, under the name that print(variant) shows.
"""

from __future__ import annotations

from collections.abc import Sequence

from tilewise import _core
from tilewise._named import named, with_table
from tilewise._recording import Table
from tilewise._typing import Array
from tilewise._variant import Variant

__all__ = [
    "alibi",
    "attention_sink",
    "axial",
    "bi_causal",
    "bigbird",
    "block_causal",
    "block_diffusion",
    "block_sparse",
    "causal",
    "causal_top_left",
    "cross_to_media",
    "dense_bias",
    "dense_mask",
    "dilated_window",
    "documents",
    "fixed",
    "inverse_causal",
    "learned_bias",
    "llama4_temperature",
    "local_chunked",
    "log_n_scaling",
    "longformer",
    "neighbourhood_1d",
    "neighbourhood_2d",
    "neighbourhood_3d",
    "padding",
    "pair_bias",
    "prefix_lm",
    "relative_position",
    "sandwich",
    "shared_prefix",
    "softcap",
    "streaming_llm",
    "strided",
    "t5_buckets",
    "temperature",
    "tiled_window_2d",
    "tiled_window_3d",
    "transfusion",
    "tree",
    "window",
    "window_two_sided",
]


def alibi(heads: int) -> Variant:
    """Attention with linear biases: scores fall with distance, at a slope of each head's own.

        s - slope[head] * abs(query - key)

    Of a power of two of heads, head i has the slope 2^(-8 (i + 1) / heads). Otherwise the largest power of two below
    gives its slopes first, and the rest are every other one of twice that many heads, as in the paper's code. Slopes
    are float32. The absolute distance is the paper's for causal masks, and its symmetric extension for others.

    `heads`: query heads, at least 1; a call with more of them is refused when it is planned.

    Source: Train Short, Test Long: ALiBi (Press, Smith, Lewis 2022)
    """
    return named("alibi", heads)


def attention_sink(logit: Table | Array | None = None) -> Variant:
    """A learned logit for each head that joins the denominator only, so that a head can attend to nothing.

        sink(logit[head])

    `logit`: a table of reals [heads].
    """
    if logit is not None:
        return with_table(_core.zoo_attention_sink, "logit", logit)
    return named("attention_sink")


def axial(height: int, width: int, axis: int) -> Variant:
    """Axial attention over an image stored row by row: each pixel sees its own column or its own row.

        keep(query % width == key % width) along axis 0, keep(query // width == key // width) along axis 1

    Positions from height * width on see nothing and nothing sees them.

    `height`, `width`: at least 1; the width is part of the code. `axis`: the one that attention runs along: 0 for the
    height (a column is seen), 1 for the width (a row is seen).

    Source: Axial Attention in Multidimensional Transformers (Ho et al. 2019)
    """
    return named("axial", height, width, axis)


def bi_causal() -> Variant:
    """A band: causal from the bottom right and inverse causal from the top left at once.

        keep(0 <= key_index - query_index <= keys - queries)

    Each query sees keys - queries + 1 keys. With as many queries as keys that is the diagonal; with more queries than
    keys, nothing.

    Source: MagiAttention's bi-causal mask (Sand AI 2025)
    """
    return named("bi_causal")


def bigbird(block: int, window_blocks: int, global_blocks: int, random_blocks: int, length: int, seed: int) -> Variant:
    """Blocks of a window, global blocks at the start, and random ones: BigBird's internal transformer construction.

        keep(abs(query // block - key // block) <= window_blocks // 2 or query // block < global_blocks
             or key // block < global_blocks or random[query // block, key // block])

    The random blocks of a row are drawn without repetition among those that it does not see yet, in the order of the
    words of Philox4x32-10 with key (seed, 0) and counters (0, row, 0, 0), (1, row, 0, 0), ...: word * blocks / 2^32,
    rounded down. They are the same on every platform. Positions from `length` on see nothing and nothing sees them.

    `block`: positions, at least 1; it is part of the code. `window_blocks`: odd, a block's own in the middle.
    `global_blocks`, `random_blocks`: at least 0; a row takes fewer random ones where fewer are left. `length`: at most
    16384 blocks. `seed`: any int.

    Source: Big Bird: Transformers for Longer Sequences (Zaheer et al. 2020)
    """
    return named("bigbird", block, window_blocks, global_blocks, random_blocks, length, seed)


def block_causal(block: int) -> Variant:
    """Causal between blocks, full within them.

        keep(query // block >= key // block)

    `block`: positions, at least 1; it is part of the code.

    Source: MAGI-1: Autoregressive Video Generation at Scale (Sand AI 2025)
    """
    return named("block_causal", block)


def block_diffusion(block: int, length: int) -> Variant:
    """Training of block diffusion: a noisy copy of a sequence, and the clean one behind it, in one pass.

        keep(same half and same block
             or noisy query, clean key and block(query) > block(key)
             or clean query, clean key and block(query) >= block(key))

    Positions 0 to length - 1 are the noisy half, length to 2 * length - 1 the clean one; block() counts from 0 in each.
    A noisy block sees itself and the clean blocks before it, a clean block the clean blocks up to itself. Positions
    from 2 * length on see nothing and nothing sees them.

    `block`: positions, at least 1; it is part of the code. `length`: of one half, 1 to 2^30 - 1.

    Source: Block Diffusion, BD3-LM (Arriola et al. 2025)
    """
    return named("block_diffusion", block, length)


def block_sparse(block: int, blocks: Table | Array | None = None, *, rank: int = 2) -> Variant:
    """A mask given block by block.

        keep(blocks[query_index // block, key_index // block])

    `block`: queries and keys of a block, at least 1; it is part of the code. `blocks`: a bool table
    [ceil(s_q / block), ceil(s_kv / block)], behind [h] or [b, h] at rank 3 or 4; a stride of 0 shares an axis.
    """
    if blocks is not None:
        return with_table(_core.zoo_block_sparse, "blocks", blocks, block)
    return named("block_sparse", block, rank)


def causal() -> Variant:
    """Each query sees its own position and those before it.

        keep(query >= key)

    By positions: with the default query_offset the last query sees the last key, so the same variant is right when
    decoding against a cache (bottom-right alignment). See causal_top_left for the other alignment.

    Source: Attention Is All You Need (Vaswani et al. 2017)
    """
    return named("causal")


def causal_top_left() -> Variant:
    """Causal with the first query aligned to the first key, whatever the lengths and offsets.

        keep(query_index >= key_index)

    Differs from causal where there are not as many queries as keys.

    Source: PyTorch's scaled_dot_product_attention with is_causal (2023)
    """
    return named("causal_top_left")


def cross_to_media(positions: Sequence[int], media_tokens: int) -> Variant:
    """Cross-attention from text to images: each text token sees the last image that precedes it, and no other.

        keep(start[key // media_tokens] <= query < start[key // media_tokens + 1])

    Keys are the images' tokens, image by image, `media_tokens` each. Text before the first image sees nothing, and its
    rows are 0. Keys behind the last image are seen by nothing. Call with query_offset = 0 (or the text's position when
    decoding): by default positions count back from the number of keys, which here is not that of the text.

    `positions`: of each image's tag in the text, ascending, from 0 on; the tag sees its own image. `media_tokens`: at
    least 1; it is part of the code.

    Source: Flamingo (Alayrac et al. 2022)
    """
    return named("cross_to_media", positions, media_tokens)


def dense_bias(addend: Table | Array | None = None, *, rank: int = 2) -> Variant:
    """An additive mask given entry by entry.

        s + addend[query_index, key_index]

    `addend`: a table of reals [s_q, s_kv], [h, s_q, s_kv] or [b, h, s_q, s_kv]; a stride of 0 shares an axis. -inf
    removes an entry.
    """
    if addend is not None:
        return with_table(_core.zoo_dense_bias, "addend", addend)
    return named("dense_bias", rank)


def dense_mask(mask: Table | Array | None = None, *, rank: int = 2) -> Variant:
    """A mask given entry by entry.

        keep(mask[query_index, key_index])

    `mask`: a bool table [s_q, s_kv], [h, s_q, s_kv] or [b, h, s_q, s_kv]; a stride of 0 shares an axis.
    """
    if mask is not None:
        return with_table(_core.zoo_dense_mask, "mask", mask)
    return named("dense_mask", rank)


def dilated_window(size: int, dilation: int) -> Variant:
    """Sliding window with gaps, causal: each query sees `size` positions, `dilation` apart, its own the last of them.

        keep(0 <= query - key < size * dilation and (query - key) % dilation == 0)

    `size`: positions that a query sees, at least 1. `dilation`: the distance between them, at least 1; it is part of
    the code. Their product must be below 2^31.

    Source: Longformer (Beltagy, Peters, Cohan 2020); LongNet (Ding et al. 2023)
    """
    return named("dilated_window", size, dilation)


def documents(lengths: Sequence[int]) -> Variant:
    """Documents packed one behind the other: each token sees its own document, all of it.

        keep(document[query_token] == document[key_token])

    Compose with causal() for language models. Tokens behind the last document are padding: they see nothing and nothing
    sees them. Queries and keys must be the same packed tokens (no cache).

    `lengths`: tokens of each document in order, none negative, 1 to 2^31 - 1 in all.

    Source: Efficient Sequence Packing without Cross-contamination (Krell et al. 2021); Llama 3 (Dubey et al. 2024)
    """
    return named("documents", lengths)


def fixed(block: int, summary: int) -> Variant:
    """Sparse Transformer's fixed pattern: the query's own block, and the last `summary` positions of each, causally.

        keep(query >= key and (query // block == key // block or key % block >= block - summary))

    The union of the paper's two factors, which a single head computes when they are merged.

    `block`: at least 1; it is part of the code. `summary`: positions of each block that all later ones see, 1 to block.

    Source: Generating Long Sequences with Sparse Transformers (Child et al. 2019)
    """
    return named("fixed", block, summary)


def inverse_causal() -> Variant:
    """Each query sees the key of its own index and those after it.

        keep(query_index <= key_index)

    By indices, the first query aligned to the first key, as in its source: the mirror image of a causal mask whose last
    query is aligned to the last key.

    Source: MagiAttention's inverse causal mask (Sand AI 2025)
    """
    return named("inverse_causal")


def learned_bias(bias: Table | Array | None = None) -> Variant:
    """A learned bias for each head and pair of positions.

        s + bias[head, query, key]

    `bias`: a table of reals [heads, positions, positions]. By positions, so that a row keeps its biases when decoding
    against a cache; see pair_bias for a table of one call's own entries.
    """
    if bias is not None:
        return with_table(_core.zoo_learned_bias, "bias", bias)
    return named("learned_bias")


def llama4_temperature(span: int = 8192, gain: float = 0.1) -> Variant:
    """Sharpens attention step by step with the query's position, for layers without position embeddings.

        s * (1 + gain * log(1 + (query + 1) // span))

    `span`: positions of a step, at least 1; it is part of the code. `gain`: finite and above 0.

    Source: Llama 4's temperature tuning (Meta 2025), after Scalable-Softmax (Nakanishi 2025)
    """
    return named("llama4_temperature", span, gain)


def local_chunked(chunk: int) -> Variant:
    """Causal within chunks of fixed size: no query sees beyond the start of its own chunk.

        keep(query >= key and query // chunk == key // chunk)

    `chunk`: positions, at least 1; it is part of the code.

    Source: Llama 4's chunked attention layers (Meta 2025)
    """
    return named("local_chunked", chunk)


def log_n_scaling(trained_length: int) -> Variant:
    """Sharpens attention as the context outgrows the trained length, so that its entropy stays about the same.

        s * max(1, log(query + 1) / log(trained_length))

    query + 1 is how many keys a causal query sees. Up to the trained length scores stay as they are.

    `trained_length`: at least 2.

    Source: Su (2021) and Qwen's log-n attention (2023), after Chiang and Cholak (2022)
    """
    return named("log_n_scaling", trained_length)


def longformer(window: int, global_tokens: int) -> Variant:
    """Sliding window to both sides, and global tokens at the start that see all and are seen by all.

        keep(abs(query - key) <= window / 2 or query < global_tokens or key < global_tokens)

    `window`: half of it lies on each side of a query, so it is even and at least 0. `global_tokens`: how many of the
    first positions are global, at least 0.

    Source: Longformer (Beltagy, Peters, Cohan 2020)
    """
    return named("longformer", window, global_tokens)


def neighbourhood_1d(length: int, window: int, stride: int = 1, dilation: int = 1) -> Variant:
    """Neighbourhood attention in one dimension: a window that is shifted inwards at the ends instead of cut off.

        keep(query % dilation == key % dilation and 0 <= key // dilation - first(query) < window)

    first(query) = clamp(leader - window / 2, 0, places - window) in the query's dilation group, where leader is the
    middle query of each `stride` neighbours (the right one of two). Every query sees exactly `window` keys. Positions
    from `length` on see nothing and nothing sees them.

    `length`: places. `window`: places that a query sees; window * dilation is at most length. `stride`: queries that
    share a window, at most window. `dilation`: distance of seen places. All at least 1; the last two are part of the
    code.

    Source: Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. 2025)
    """
    return named("neighbourhood_1d", length, window, stride, dilation)


def neighbourhood_2d(
    extents: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int] = (1, 1),
    dilation: Sequence[int] = (1, 1),
) -> Variant:
    """Neighbourhood attention over an image stored row by row: neighbours along both axes.

        keep(neighbour(row(query), row(key)) and neighbour(column(query), column(key)))

    neighbour() is neighbourhood_1d's along each axis. Positions from height * width on see nothing and nothing sees
    them.

    `extents`: [height, width]. `window`, `stride`, `dilation`: one number for each axis, bounded as in
    neighbourhood_1d.

    Source: Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. 2025)
    """
    return named("neighbourhood_2d", extents, window, stride, dilation)


def neighbourhood_3d(
    extents: Sequence[int],
    window: Sequence[int],
    stride: Sequence[int] = (1, 1, 1),
    dilation: Sequence[int] = (1, 1, 1),
) -> Variant:
    """Neighbourhood attention over a video stored frame by frame, row by row: neighbours along all three axes.

        keep(neighbour along depth, height and width)

    neighbour is neighbourhood_1d's along each axis. Positions from depth * height * width on see nothing and nothing
    sees them.

    `extents`: [depth, height, width]. `window`, `stride`, `dilation`: one number for each axis, bounded as in
    neighbourhood_1d.

    Source: Neighborhood Attention (Hassani et al. 2023); NATTEN, its generalized form (Hassani et al. 2025)
    """
    return named("neighbourhood_3d", extents, window, stride, dilation)


def padding(lengths: Sequence[int]) -> Variant:
    """Padded batches: keys from each sequence's length on are removed.

        keep(key_index < length[batch])

    A batch with more sequences than `lengths` is refused when it is planned.

    `lengths`: keys of each sequence, none negative, at least 1 in all.

    Source: the key padding mask of PyTorch's MultiheadAttention (2019)
    """
    return named("padding", lengths)


def pair_bias(pair: Table | Array | None = None, *, rank: int = 4) -> Variant:
    """A bias for each head and entry, computed from features of the pair of tokens.

        s + pair[batch, head, query_index, key_index]

    `pair`: a table of reals [h, s_q, s_kv] or [b, h, s_q, s_kv]; a stride of 0 shares an axis.
    """
    if pair is not None:
        return with_table(_core.zoo_pair_bias, "pair", pair)
    return named("pair_bias", rank)


def prefix_lm(prefix: int) -> Variant:
    """Causal, but the first `prefix` positions are seen by all.

        keep(query >= key or key < prefix)

    `prefix`: positions, at least 0.

    Source: Exploring the Limits of Transfer Learning (T5, Raffel et al. 2020); UniLM (Dong et al. 2019)
    """
    return named("prefix_lm", prefix)


def relative_position(max_distance: int, bias: Table | Array | None = None) -> Variant:
    """A learned bias for each head and relative position, which is clipped.

        s + bias[head, clamp(key - query, -max_distance, max_distance) + max_distance]

    `bias`: a table of reals [heads, 2 * max_distance + 1]. `max_distance`: 0 to 2^30 - 1.
    """
    if bias is not None:
        return with_table(_core.zoo_relative_position, "bias", bias, max_distance)
    return named("relative_position", max_distance)


def sandwich(heads: int, dimension: int = 128) -> Variant:
    """Sandwich: the inner product of two sinusoidal position embeddings as a bias, compressed by head.

        s + sum(cos((query - key) / 10000^(2 i / dimension)) for i in 0 ... dimension / 2 - 1) / (8 (head + 1) / heads)

    A bias without parameters that falls logarithmically with distance.

    `heads`: query heads, at least 1. `dimension`: of the embeddings, even, 2 to 1024; the paper's choice is 128.

    Source: Dissecting Transformer Length Extrapolation, Sandwich (Chi et al. 2023)
    """
    return named("sandwich", heads, dimension)


def shared_prefix(prefix: int, suffixes: Sequence[int]) -> Variant:
    """One prefix and several continuations of it packed behind each other: each sees the prefix and itself, causally.

        keep(query_token >= key_token and (key_token < prefix or part[query_token] == part[key_token]))

    Tokens behind the last suffix are padding: they see nothing and nothing sees them. Queries and keys must be the same
    packed tokens (no cache).

    `prefix`: tokens of the prefix, at least 0. `suffixes`: tokens of each continuation, none negative, at
    least 1 in all.

    Source: Hydragen (Juravsky et al. 2024); preference tuning with shared prompts (Wang and Hegde 2024)
    """
    return named("shared_prefix", prefix, suffixes)


def softcap(cap: float) -> Variant:
    """Keeps scores within (-cap, cap), smoothly.

        cap * tanh(s / cap)

    `cap`: finite and above 0.

    Source: Neural Combinatorial Optimization (Bello et al. 2016); Gemma 2 (2024)
    """
    return named("softcap", cap)


def streaming_llm(sinks: int, window: int) -> Variant:
    """Causal sliding window that always keeps the first positions as well.

        keep(query >= key and (query - key < window or key < sinks))

    `sinks`: first positions that all later ones see, at least 0. `window`: positions, the query's own among them, at
    least 1. The source also renumbers positions inside its cache; here they stay as they are.

    Source: Efficient Streaming Language Models with Attention Sinks (Xiao et al. 2024)
    """
    return named("streaming_llm", sinks, window)


def strided(stride: int) -> Variant:
    """Sparse Transformer's strided pattern: the last `stride` positions, and every stride-th one before, causally.

        keep(query >= key and (query - key <= stride or (query - key) % stride == 0))

    The union of the paper's two factors, which a single head computes when they are merged.

    `stride`: at least 1; it is part of the code.

    Source: Generating Long Sequences with Sparse Transformers (Child et al. 2019)
    """
    return named("strided", stride)


def t5_buckets(
    buckets: int = 32,
    max_distance: int = 128,
    bidirectional: bool = True,
    bias: Table | Array | None = None,
) -> Variant:
    """T5's relative position bias: a learned number for each head and bucket of distances.

        s + bias[bucket(key - query), head]

    `bias`: a table of reals [buckets, heads]. The other arguments as below.
    """
    if bias is not None:
        return with_table(_core.zoo_t5_buckets, "bias", bias, buckets, max_distance, bidirectional)
    return named("t5_buckets", buckets, max_distance, bidirectional)


def temperature(temperature: float) -> Variant:
    """Divides scores by a temperature: above 1 weights even out, below 1 they sharpen.

        s / temperature

    `temperature`: finite and above 0.

    Source: Distilling the Knowledge in a Neural Network (Hinton, Vinyals, Dean 2015)
    """
    return named("temperature", temperature)


def tiled_window_2d(extents: Sequence[int], tile: Sequence[int], window: Sequence[int], text: int = 0) -> Variant:
    """Sliding tile attention over an image: windows of whole tiles, moving tile by tile, so that no tile is partial.

        keep(abs(tile(key) - clamp(tile(query), window / 2, tiles - 1 - window / 2)) <= window / 2, along both axes)

    Tokens are stored tile by tile, tiles row by row, and `text` tokens behind the image see all and are seen by all.
    Positions behind those see nothing and nothing sees them.

    `extents`: [height, width]. `tile`: [height, width], which divide the extents. `window`: tiles along each axis, odd
    and at most as many as there are. `text`: at least 0. Tiles are part of the code.

    Source: Fast Video Generation with Sliding Tile Attention (Zhang et al. 2025)
    """
    return named("tiled_window_2d", extents, tile, window, text)


def tiled_window_3d(extents: Sequence[int], tile: Sequence[int], window: Sequence[int], text: int = 0) -> Variant:
    """Sliding tile attention over a video: windows of whole tiles, moving tile by tile, so that no tile is partial.

        keep(abs(tile(key) - clamp(tile(query), window / 2, tiles - 1 - window / 2)) <= window / 2, along all axes)

    Tokens are stored tile by tile, tiles frame by frame and row by row, and `text` tokens behind the video see all and
    are seen by all. Positions behind those see nothing and nothing sees them.

    `extents`: [depth, height, width]. `tile`: [depth, height, width], which divide the extents. `window`: tiles along
    each axis, odd and at most as many as there are. `text`: at least 0. Tiles are part of the code.

    Source: Fast Video Generation with Sliding Tile Attention (Zhang et al. 2025)
    """
    return named("tiled_window_3d", extents, tile, window, text)


def transfusion(starts: Sequence[int], lengths: Sequence[int]) -> Variant:
    """Causal, but within spans such as images each position sees the whole span.

        keep(query >= key or query and key lie in the same span)

    `starts`, `lengths`: first position and number of positions of each span, ascending and disjoint, from 0 on; lengths
    are at least 1.

    Source: Transfusion (Zhou et al. 2024); PaliGemma (Beyer et al. 2024) and Gemma 3 (2025) for image tokens
    """
    return named("transfusion", starts, lengths)


def tree(parents: Sequence[int], prefix: int = 0) -> Variant:
    """A tree of draft tokens behind a cached prefix: each sees the prefix, its ancestors and itself.

        keep(key < prefix or enter[key - prefix] <= enter[query - prefix] < exit[key - prefix])

    enter and exit are the times of a depth-first walk, so two comparisons decide ancestry. A query inside the prefix
    sees it causally. Positions behind the tree see nothing and nothing sees them. Positions count the stored tokens,
    not their depth in the tree.

    `parents`: each token's parent as its index in this list, -1 for a root, always before its children.
    `prefix`: cached positions before the tree, at least 0.

    Source: SpecInfer (Miao et al. 2024); Medusa (Cai et al. 2024)
    """
    return named("tree", parents, prefix)


def window(size: int) -> Variant:
    """Sliding window, causal: each query sees the last `size` positions, its own among them.

        keep(0 <= query - key < size)

    `size`: positions that a query sees, at least 1.

    Source: Longformer (Beltagy, Peters, Cohan 2020); Mistral 7B (Jiang et al. 2023)
    """
    return named("window", size)


def window_two_sided(left: int, right: int) -> Variant:
    """Sliding window that reaches `left` positions back and `right` ahead.

        keep(-right <= query - key <= left)

    `left`, `right`: positions, at least 0. Each query sees left + right + 1 of them, its own among them.

    Source: Longformer (Beltagy, Peters, Cohan 2020); FlashAttention 2.3's window_size (Dao 2023)
    """
    return named("window_two_sided", left, right)
