"""tilewise.torch.flex_attention against FlexAttention's eager form, and its functions on whole tensors."""

import inspect

import pytest

torch = pytest.importorskip("torch")
import tilewise.torch  # noqa: E402
from torch.nn.attention import flex_attention as flex  # noqa: E402
from torch_cases import LOOSE, by_pytorch, expect_equal, seeded, tensors  # noqa: E402, F401


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


def test_the_signature_is_pytorchs():
    assert inspect.signature(tilewise.torch.flex_attention).parameters.keys() == (
        inspect.signature(flex.flex_attention).parameters.keys())
