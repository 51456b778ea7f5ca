"""The functions of the flash_attn package against their formulas."""

import itertools

import pytest

torch = pytest.importorskip("torch")
import tilewise as tw  # noqa: E402
import tilewise.torch  # noqa: E402
from torch_cases import LOOSE, by_formula, expect_equal, seeded  # noqa: E402, F401


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
    for function in (tilewise.torch.flash_attn_func, tilewise.torch.scaled_dot_product_attention):
        with pytest.raises(TypeError, match="return_debug_mask"):  # an argument of PyTorch's internal operator
            function(q, k, v, return_debug_mask=True)
