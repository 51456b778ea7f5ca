"""PyTorch: gradients, drop-ins and torch.compile, against PyTorch's own mathematics."""

import gc
import itertools
import sys

import numpy
import pytest

torch = pytest.importorskip("torch")
import tilewise as tw  # noqa: E402
import tilewise.torch  # noqa: E402
import torch.nn.functional as functional  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402
from torch.nn.attention import flex_attention as flex  # noqa: E402

torch.set_num_threads(2)
LOOSE = {"rtol": 1e-4, "atol": 1e-5}  # float32 gradients: sums of some hundred products of a few units


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(1)


def tensors(b=2, h_q=4, h_kv=4, s_q=37, s_kv=41, d=16, d_v=16, dtype=torch.float32, requires_grad=True):
    shapes = (b, h_q, s_q, d), (b, h_kv, s_kv, d), (b, h_kv, s_kv, d_v)
    return [torch.randn(shape, dtype=dtype).requires_grad_(requires_grad) for shape in shapes]


def expect_equal(ours, theirs, inputs, **tolerance):
    """Outputs, and the gradients of a random loss in them."""
    tolerance = tolerance or LOOSE
    torch.testing.assert_close(ours, theirs, **tolerance)
    d_o = torch.randn_like(ours)
    for mine, other in zip(torch.autograd.grad(ours, inputs, d_o), torch.autograd.grad(theirs, inputs, d_o)):
        torch.testing.assert_close(mine, other, **tolerance)


def by_pytorch(*arguments, **options):
    with sdpa_kernel(SDPBackend.MATH):
        return functional.scaled_dot_product_attention(*arguments, **options)


def by_formula(q, k, v, scores=lambda s: s, mask=None):
    k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], dim=1) for each in (k, v))
    s = scores(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5)
    return (s if mask is None else s.masked_fill(~mask, -torch.inf)).softmax(-1) @ v


# scaled_dot_product_attention


@pytest.mark.parametrize(("s_q", "s_kv"), [(37, 41), (41, 37), (1, 64), (65, 65)])
@pytest.mark.parametrize("is_causal", [False, True])
def test_sdpa(s_q, s_kv, is_causal):
    q, k, v = tensors(s_q=s_q, s_kv=s_kv, d_v=8)
    ours = tilewise.torch.scaled_dot_product_attention(q, k, v, is_causal=is_causal, scale=0.3)
    expect_equal(ours, by_pytorch(q, k, v, is_causal=is_causal, scale=0.3), (q, k, v))


@pytest.mark.parametrize("shape", [(37, 41), (1, 41), (37, 1), (4, 1, 41), (2, 1, 1, 41), (2, 4, 37, 41), (1, 4, 37, 41), (1,)])
@pytest.mark.parametrize("kind", ["bool", "float"])
def test_sdpa_masks_of_every_shape(shape, kind):
    q, k, v = tensors()
    if kind == "bool":
        mask = torch.rand(shape) < 0.7
        mask[..., 0] = True  # every row keeps a key
        expect_equal(tilewise.torch.scaled_dot_product_attention(q, k, v, mask), by_pytorch(q, k, v, mask), (q, k, v))
    else:
        mask = torch.randn(shape, requires_grad=True)
        expect_equal(tilewise.torch.scaled_dot_product_attention(q, k, v, mask), by_pytorch(q, k, v, mask),
                     (q, k, v, mask))


def test_sdpa_rows_without_keys_are_zero():
    q, k, v = tensors()
    mask = torch.zeros(37, 41, dtype=torch.bool)
    mask[3] = True
    o = tilewise.torch.scaled_dot_product_attention(q, k, v, mask)
    assert (o[:, :, 4:] == 0).all()
    assert all(torch.isfinite(each).all() for each in torch.autograd.grad(o.sum(), (q, k, v)))


def test_sdpa_gqa_and_other_ranks():
    q, k, v = tensors(h_q=6, h_kv=2)
    expect_equal(tilewise.torch.scaled_dot_product_attention(q, k, v, enable_gqa=True),
                 by_pytorch(q, k, v, enable_gqa=True), (q, k, v))
    for shape in ((41, 16), (3, 41, 16), (2, 3, 4, 41, 16)):
        q, k, v = (torch.randn(shape, requires_grad=True) for _ in range(3))
        expect_equal(tilewise.torch.scaled_dot_product_attention(q, k, v, is_causal=True),
                     by_pytorch(q, k, v, is_causal=True), (q, k, v))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_sdpa_dtypes(dtype):
    q, k, v = tensors(dtype=dtype)
    error = {torch.bfloat16: 3e-2, torch.float16: 4e-3, torch.float64: 1e-12}[dtype]
    expect_equal(tilewise.torch.scaled_dot_product_attention(q, k, v, is_causal=True),
                 by_pytorch(*(each.to(torch.float64) for each in (q, k, v)), is_causal=True).to(dtype), (q, k, v),
                 rtol=error, atol=error)


def test_sdpa_refuses_what_pytorch_refuses():
    q, k, v = tensors(requires_grad=False)
    mask = torch.ones(37, 41, dtype=torch.bool)
    for given in ((q, k[:, :2], v[:, :2]), (q, k, v, mask, 0.0, True), (q, k, v, mask[:5]), (q, k, v, mask.int())):
        with pytest.raises(RuntimeError):
            by_pytorch(*given)
        with pytest.raises(RuntimeError):
            tilewise.torch.scaled_dot_product_attention(*given)


def test_layouts_and_strides():
    q, k, v = tensors(d=16, requires_grad=False)
    expected = tw.attention(q, k, v)
    strided = [each.transpose(1, 2).contiguous().transpose(1, 2) for each in (q, k, v)]
    torch.testing.assert_close(tw.attention(*strided), expected, rtol=0, atol=0)
    turned = [each.transpose(2, 3).contiguous().transpose(2, 3).requires_grad_() for each in (q, k, v)]
    expect_equal(tw.attention(*turned), by_pytorch(*turned), turned)
    swapped = [each.transpose(1, 2).contiguous().requires_grad_() for each in (q, k, v)]
    o, lse = tw.attention(*swapped, layout="bshd", return_lse=True)
    assert lse.shape == (2, 4, 37)
    expect_equal(o, by_pytorch(*(each.transpose(1, 2) for each in swapped)).transpose(1, 2), swapped)
    wide = torch.randn(2, 1, 41, 16, requires_grad=True)
    expect_equal(tw.attention(q, wide.expand(2, 4, 41, 16), v), by_pytorch(q, wide.expand(2, 4, 41, 16), v), (wide,))


# Gradients


def test_gradcheck_through_the_reference():
    q, k, v = tensors(b=1, h_q=2, h_kv=1, s_q=5, s_kv=6, d=4, d_v=3, dtype=torch.float64)
    bias = torch.randn(2, 12, dtype=torch.float64, requires_grad=True)
    logit = torch.randn(2, dtype=torch.float64, requires_grad=True)
    cap = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)

    def function(q, k, v, bias, logit, cap):
        variant = tw.zoo.causal() & tw.score(lambda s, at: cap * tw.tanh(s / cap) + bias[at.head, at.query - at.key + 5])
        return tw.attention(q, k, v, variant & tw.zoo.attention_sink(logit), return_lse=True)

    assert torch.autograd.gradcheck(function, (q, k, v, bias, logit, cap))


def test_second_derivatives_are_refused():
    q, k, v = tensors()
    (d_q,) = torch.autograd.grad(tw.attention(q, k, v).sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable|twice|does not require grad"):
        d_q.sum().backward()


def test_named_tables_and_parameters_have_gradients():
    q, k, v = tensors()
    bias = torch.randn(4, 37, 41, requires_grad=True)
    cap = torch.tensor(3.0, requires_grad=True)
    c = tw.Parameter("cap")
    variant = tw.score(lambda s, at: tw.minimum(s, c)) & tw.zoo.dense_bias(rank=3)
    ours = tw.attention(q, k, v, variant, tables={"addend": bias}, parameters={"cap": cap})
    expect_equal(ours, by_formula(q, k, v, lambda s: torch.minimum(s, cap) + bias), (q, k, v, bias, cap))


def test_dropout_follows_manual_seed():
    q, k, v = tensors(s_q=64, s_kv=64)
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        o = tilewise.torch.scaled_dot_product_attention(q, k, v, dropout_p=0.4)
        results.append((o, *torch.autograd.grad(o.sum(), (q, k, v))))
        again = tilewise.torch.scaled_dot_product_attention(q, k, v, dropout_p=0.4)
        assert (again != o).any()  # the generator has moved on
    for first, second, third in zip(*results):
        torch.testing.assert_close(first, second, rtol=0, atol=0)
        assert (first != third).any()
    # The entries are the library's own: NumPy's arrays drop the same.
    arrays = [each.detach().numpy() for each in (q, k, v)]
    numpy.testing.assert_array_equal(tw.attention(*arrays, dropout=0.4, seed=9),
                                     tw.attention(q, k, v, dropout=0.4, seed=9).detach().numpy())


# FlexAttention


def eager_flex(q, k, v, score_mod=None, mask_mod=None, block_mask=None):
    """What FlexAttention's eager form computes, which has no backward pass on the processor: its functions on all
    positions at once."""
    b, h, i, j = (torch.arange(n).view([-1 if axis == a else 1 for a in range(4)])
                  for axis, n in enumerate((q.shape[0], q.shape[1], q.shape[2], k.shape[2])))
    s = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
    s = s if score_mod is None else score_mod(s, b, h, i, j)
    if mask_mod is not None:
        s = s.masked_fill(~mask_mod(b, h, i, j), -torch.inf)
    return s.softmax(-1).nan_to_num(0.0) @ v


BIAS = torch.randn(4, 81)
DOCUMENT = torch.arange(41) // 10
OFFSETS = torch.tensor([0, 10, 20, 30, 40])


def make_alibi(heads):
    slopes = torch.exp2(-8 * torch.arange(1, heads + 1) / heads)
    return lambda s, b, h, i, j: s - slopes[h] * (i - j).abs()


SCORE_MODS = {
    "none": None,
    "cap": lambda s, b, h, i, j: 20 * torch.tanh(s / 20),
    "relative": lambda s, b, h, i, j: s + BIAS[h, i - j + 40],
    "alibi": make_alibi(4),
    "conditional": lambda s, b, h, i, j: torch.where((i - j) % 2 == 0, s, s * 0.5 + h),
}
MASK_MODS = {
    "causal": lambda b, h, i, j: i >= j,
    "window": lambda b, h, i, j: (i - j).abs() <= 7,
    "document": lambda b, h, i, j: DOCUMENT[i] == DOCUMENT[j],
    "in document": lambda b, h, i, j: (DOCUMENT[i] == DOCUMENT[j]) & (i - OFFSETS[DOCUMENT[i]] >= j - OFFSETS[DOCUMENT[j]]),
    "and": flex.and_masks(lambda b, h, i, j: i >= j, lambda b, h, i, j: i - j < 9),
    "or": flex.or_masks(lambda b, h, i, j: i >= j, lambda b, h, i, j: j < 5),
}


@pytest.mark.parametrize("mask_mod", [None, *MASK_MODS])
@pytest.mark.parametrize("score_mod", SCORE_MODS)
def test_flex_attention(score_mod, mask_mod):
    q, k, v = tensors(s_q=41)
    score, mask = SCORE_MODS[score_mod], MASK_MODS.get(mask_mod)
    block_mask = None if mask is None else flex.create_block_mask(mask, None, None, 41, 41, device="cpu", BLOCK_SIZE=16)
    ours = tilewise.torch.flex_attention(q, k, v, score, block_mask)
    expect_equal(ours, eager_flex(q, k, v, score, mask), (q, k, v))
    with torch.no_grad():
        theirs = flex.flex_attention(*(each.detach() for each in (q, k, v)), score, block_mask)
        torch.testing.assert_close(ours.detach(), theirs, **LOOSE)


def test_flex_attention_gradients_of_captured_tensors():
    q, k, v = tensors(s_q=41, h_kv=2)
    bias = torch.randn(4, 81, requires_grad=True)
    gate = torch.randn(4, requires_grad=True)

    def score_mod(s, b, h, i, j):
        return s * torch.sigmoid(gate[h]) + bias[h, i - j + 40]

    ours, lse = tilewise.torch.flex_attention(q, k, v, score_mod, enable_gqa=True, return_lse=True)
    wide = [each.repeat_interleave(2, dim=1) for each in (k, v)]
    expect_equal(ours, eager_flex(q, *wide, score_mod), (q, k, v, bias, gate))
    assert lse.shape == (2, 4, 41)


def test_block_masks_blocks_are_honoured_beside_the_mask():
    q, k, v = tensors(s_q=32, s_kv=32, requires_grad=False)
    counts = torch.tensor([[[1, 1]]], dtype=torch.int32)
    indices = torch.tensor([[[[0, 1], [1, 0]]]], dtype=torch.int32)
    full_counts = torch.tensor([[[0, 1]]], dtype=torch.int32)
    full_indices = torch.tensor([[[[1, 0], [0, 1]]]], dtype=torch.int32)
    mask = flex.BlockMask.from_kv_blocks(counts, indices, full_counts, full_indices, BLOCK_SIZE=16,
                                         mask_mod=lambda b, h, i, j: i >= j)
    i, j = torch.arange(32)[:, None], torch.arange(32)
    kept = ((i // 16 == j // 16) & (i >= j)) | ((i >= 16) & (j < 16))
    torch.testing.assert_close(tilewise.torch.flex_attention(q, k, v, block_mask=mask), by_pytorch(q, k, v, kept), **LOOSE)
    torch.testing.assert_close(flex.flex_attention(q, k, v, block_mask=mask), by_pytorch(q, k, v, kept), **LOOSE)


# flash_attn


def flash_bias(s_q, s_kv, causal, window, slopes):
    distance = torch.arange(s_q)[:, None] + s_kv - s_q - torch.arange(s_kv)
    left, right = window
    kept = torch.ones(s_q, s_kv, dtype=torch.bool)
    if causal:
        right = 0
    if left >= 0:
        kept &= distance <= left
    if right >= 0:
        kept &= distance >= -right
    return (0.0 if slopes is None else -slopes[:, None, None] * distance.abs()), kept


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [(-1, -1), (5, -1), (-1, 3), (5, 2), (0, 0)])
@pytest.mark.parametrize(("softcap", "has_slopes"), [(0.0, False), (15.0, True)])
def test_flash_attn_func(causal, window, softcap, has_slopes):
    q, k, v = (torch.randn(2, s, h, 16, requires_grad=True) for s, h in ((19, 4), (33, 2), (33, 2)))
    slopes = torch.rand(4) if has_slopes else None
    ours = tilewise.torch.flash_attn_func(q, k, v, causal=causal, window_size=window, softcap=softcap,
                                          alibi_slopes=slopes)
    bias, kept = flash_bias(19, 33, causal, window, slopes)
    theirs = by_formula(*(each.transpose(1, 2) for each in (q, k, v)),
                        lambda s: (softcap * torch.tanh(s / softcap) if softcap else s) + bias, kept).transpose(1, 2)
    expect_equal(ours, theirs, (q, k, v))


def test_flash_attn_varlen_func():
    lengths_q, lengths_k = [3, 0, 20, 7], [9, 4, 20, 7]
    ends_q, ends_k = (torch.tensor([0, *itertools.accumulate(each)], dtype=torch.int32)
                      for each in (lengths_q, lengths_k))
    q = torch.randn(30, 4, 8, requires_grad=True)
    k, v = (torch.randn(40, 2, 8, requires_grad=True) for _ in range(2))
    ours = tilewise.torch.flash_attn_varlen_func(q, k, v, ends_q, ends_k, 20, 20, causal=True)
    parts = []
    for i, (s_q, s_k) in enumerate(zip(lengths_q, lengths_k)):
        rows, keys = slice(ends_q[i], ends_q[i + 1]), slice(ends_k[i], ends_k[i + 1])
        _, kept = flash_bias(s_q, s_k, True, (-1, -1), None)
        parts.append(by_formula(*(each[None].transpose(1, 2) for each in (q[rows], k[keys], v[keys])), mask=kept)
                     .transpose(1, 2)[0])
    expect_equal(ours, torch.cat(parts), (q, k, v))


def rotated_pairs(x, positions, cos, sin, interleaved):
    """Rotary embedding as a product of complex numbers: x [s, h, d]."""
    half = cos.shape[1]
    first, second = (slice(0, 2 * half, 2), slice(1, 2 * half, 2)) if interleaved else (slice(0, half), slice(half, 2 * half))
    turned = x.clone()
    z = torch.complex(x[..., first], x[..., second]) * torch.complex(cos, sin)[positions][:, None]
    turned[..., first], turned[..., second] = z.real, z.imag
    return turned


@pytest.mark.parametrize("storage", ["rows", "batch_idx", "pages"])
@pytest.mark.parametrize("interleaved", [True, False])
def test_flash_attn_with_kvcache(storage, interleaved):
    b, s_new, capacity, h_q, h_kv, d = 2, 3, 24, 4, 2, 16
    lengths = torch.tensor([5, 17], dtype=torch.int32)
    full_k, full_v = (torch.randn(b, capacity, h_kv, d) for _ in range(2))
    q, k, v = torch.randn(b, s_new, h_q, d), torch.randn(b, s_new, h_kv, d), torch.randn(b, s_new, h_kv, d)
    angles = torch.randn(capacity, 4)
    cos, sin = angles.cos(), angles.sin()
    options = {}
    if storage == "rows":
        cache_k, cache_v = full_k.clone(), full_v.clone()
    elif storage == "batch_idx":
        cache_k, cache_v = (torch.full((4, capacity, h_kv, d), torch.nan) for _ in range(2))
        cache_k[[3, 1]], cache_v[[3, 1]] = full_k, full_v
        options["cache_batch_idx"] = torch.tensor([3, 1], dtype=torch.int32)
    else:
        order = torch.tensor([[4, 0, 2], [1, 5, 3]])
        cache_k, cache_v = (torch.empty(6, 8, h_kv, d) for _ in range(2))
        cache_k[order], cache_v[order] = full_k.view(b, 3, 8, h_kv, d), full_v.view(b, 3, 8, h_kv, d)
        options["block_table"] = order.to(torch.int32)
    o, lse = tilewise.torch.flash_attn_with_kvcache(
        q, cache_k, cache_v, k, v, rotary_cos=cos, rotary_sin=sin, rotary_interleaved=interleaved,
        cache_seqlens=lengths, causal=True, return_softmax_lse=True, **options)
    assert lse.shape == (b, h_q, s_new)
    for row in range(b):
        begin = int(lengths[row])
        places = torch.arange(begin, begin + s_new)
        turned_q, turned_k = (rotated_pairs(each[row], places, cos, sin, interleaved) for each in (q, k))
        keys = torch.cat([full_k[row, :begin], turned_k])
        values = torch.cat([full_v[row, :begin], v[row]])
        _, kept = flash_bias(s_new, begin + s_new, True, (-1, -1), None)
        expected = by_formula(*(each[None].transpose(1, 2) for each in (turned_q, keys, values)), mask=kept)
        torch.testing.assert_close(o[row], expected.transpose(1, 2)[0], **LOOSE)
        if storage == "rows":
            torch.testing.assert_close(cache_k[row, begin : begin + s_new], turned_k, **LOOSE)


def test_flash_attn_refuses_by_name():
    q, k, v = (torch.randn(1, 4, 2, 8) for _ in range(3))
    with pytest.raises(tw.Unsupported, match="return_attn_probs"):
        tilewise.torch.flash_attn_func(q, k, v, return_attn_probs=True)


# torch.compile, patch


def test_compiled_graphs_do_not_break():
    bias = torch.randn(4, 41, requires_grad=True)
    variant = tw.zoo.causal() & tw.score(lambda s, at: s + bias[at.head, at.key])
    mask = torch.rand(2, 1, 37, 41) < 0.8
    mask[..., 0] = True

    def function(q, k, v):
        first = tw.attention(q * 1.5, k, v, variant)
        return tilewise.torch.scaled_dot_product_attention(first + q, k, v, mask) + 1

    compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
    q, k, v = tensors()
    expect_equal(compiled(q, k, v), function(q, k, v), (q, k, v, bias), rtol=1e-5, atol=1e-6)
    compiled_dropout = torch.compile(
        lambda q, k, v: tilewise.torch.scaled_dot_product_attention(q, k, v, dropout_p=0.5), fullgraph=True,
        backend="aot_eager")
    torch.manual_seed(3)
    first = compiled_dropout(q, k, v)
    torch.manual_seed(3)
    torch.testing.assert_close(first, compiled_dropout(q, k, v), rtol=0, atol=0)


def test_custom_operators_are_registered_as_pytorch_wants_them():
    q, k, v = tensors(b=1, h_q=2, h_kv=2, s_q=5, s_kv=6)
    identity = tw.zoo.causal()._id
    arguments = (q, k, v, [], [], torch.tensor(0), identity, "", None, None, None, 0, "bhsd", False)
    torch.library.opcheck(torch.ops.tilewise.attention.default, arguments)


def test_patch_puts_tilewise_in_place_and_takes_it_away_again():
    q, k, v = tensors(requires_grad=False)
    before = functional.scaled_dot_product_attention, flex.flex_attention
    with tilewise.torch.patch():
        assert functional.scaled_dot_product_attention is tilewise.torch.scaled_dot_product_attention
        assert flex.flex_attention is tilewise.torch.flex_attention
        layer = torch.nn.MultiheadAttention(16, 2, batch_first=True)
        x = torch.randn(1, 5, 16, requires_grad=True)
        ours, _ = layer(x, x, x, need_weights=False)
    theirs, _ = layer(x, x, x, need_weights=False)
    torch.testing.assert_close(ours, theirs, **LOOSE)
    assert (functional.scaled_dot_product_attention, flex.flex_attention) == before
    with pytest.raises(ZeroDivisionError), tilewise.torch.patch():
        1 // 0
    assert functional.scaled_dot_product_attention is before[0]


def test_references_stay_flat():
    q, k, v = tensors(b=1, s_q=3, s_kv=4, d=8)
    counts = None
    for repeat in range(3):
        for _ in range(1000):
            tw.attention(q, k, v, tw.zoo.causal()).sum().backward()
            tilewise.torch.scaled_dot_product_attention(q, k, v, is_causal=True)
        gc.collect()
        found = [sys.getrefcount(each) for each in (q, k, v)], sys.getallocatedblocks()
        if counts is not None and repeat == 2:
            assert found[0] == counts[0] and abs(found[1] - counts[1]) < 500
        counts = found


def test_wrong_devices_and_kinds():
    q, k, v = tensors(requires_grad=False)
    with pytest.raises((TypeError, RuntimeError)):
        tw.attention(q, k.to("meta"), v)
    with pytest.raises(TypeError, match="tensors"):
        tw.attention(q, k.numpy(), v)
    with pytest.raises(tw.InvalidArgument):
        tw.attention(q, k[:, :3], v[:, :3])
