"""What the tests beside PyTorch share: random tensors, its own mathematics, and comparison with gradients."""

import pytest

torch = pytest.importorskip("torch")
import torch.nn.functional as functional  # noqa: E402
from torch.nn.attention import SDPBackend, sdpa_kernel  # noqa: E402

# Two threads that made a process's first tanh together gave values that were 5e-5 off, once in 7,400 processes that did
# nothing else (PyTorch 2.15, an AMX processor): one thread makes it first.
torch.tanh(torch.zeros(1))
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
