"""tilewise.torch.scaled_dot_product_attention against PyTorch's own mathematics."""

import pytest

torch = pytest.importorskip("torch")
import tilewise.torch  # noqa: E402
from torch_cases import by_pytorch, expect_equal, seeded, tensors  # noqa: E402, F401


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
