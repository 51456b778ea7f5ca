"""PyTorch: gradients, dropout, layouts, patch(), references, refusals."""

import gc
import sys

import numpy
import pytest

torch = pytest.importorskip("torch")
import tilewise as tw  # noqa: E402
import tilewise.torch  # noqa: E402
import torch.nn.functional as functional  # noqa: E402
from torch.nn.attention import flex_attention as flex  # noqa: E402
from torch_cases import LOOSE, by_formula, by_pytorch, expect_equal, seeded, tensors  # noqa: E402, F401


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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize(("batch", "queries", "keys"), [(0, 5, 7), (2, 0, 7), (2, 5, 0), (0, 0, 0)])
def test_tensors_without_elements_have_gradients(batch, queries, keys, dtype):
    """PyTorch gives such a gradient strides of 0, and calls it contiguous."""
    q = torch.randn(batch, 4, queries, 8, dtype=dtype, requires_grad=True)
    k, v = (torch.randn(batch, 2, keys, d, dtype=dtype, requires_grad=True) for d in (8, 3))
    o = tw.attention(q, k, v, tw.zoo.causal())
    assert o.shape == (batch, 4, queries, 3)
    assert not o.any()
    o.sum().backward()
    for each in (q, k, v):
        assert each.grad.shape == each.shape
        assert not each.grad.any()


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


def test_gradients_of_sinks_and_lse():
    q, k, v = tensors()
    logit = torch.randn(4, requires_grad=True)
    o, lse = tw.attention(q, k, v, tw.zoo.attention_sink(logit), return_lse=True)
    s = q @ k.transpose(-1, -2) / 4
    expected_lse = torch.logaddexp(s.logsumexp(-1), logit[:, None].expand(4, 37))
    expected = (s - expected_lse[..., None]).exp() @ v
    weights, lse_weights = torch.randn_like(o), torch.randn_like(lse)
    for which in ((1, 1), (1, 0), (0, 1)):  # both in the loss, or one alone
        ours, theirs = (torch.autograd.grad(which[0] * (a * weights).sum() + which[1] * (b * lse_weights).sum(),
                                            (q, k, v, logit), retain_graph=True, materialize_grads=True)
                        for a, b in ((o, lse), (expected, expected_lse)))
        for mine, other in zip(ours, theirs):
            torch.testing.assert_close(mine, other, **LOOSE)


def test_references_stay_flat():
    q, k, v = tensors(b=1, s_q=3, s_kv=4, d=8)
    counts = None
    for repeat in range(3):
        for _ in range(5000):  # twice as many calls in each
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
