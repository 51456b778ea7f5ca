"""What the tests of the Python package share: random arrays by a printed seed, and attention written as its formula."""

import os
import pathlib
import re

# Small problems on shared machines: before anything starts threads of its own.
os.environ.setdefault("OMP_NUM_THREADS", "2")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other where tests run side by side

import numpy
import pytest

if os.environ.get("TILEWISE_REQUIRE_FRAMEWORKS") == "1":  # then importorskip() may skip nothing
    for framework in ("ml_dtypes", "torch", "jax", "transformers", "gguf", "mypy", "scikit_build_core"):
        __import__(framework)

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]


def python_of(page):
    """The blocks of Python on a page, as one program."""
    return "\n".join(re.findall(r"```python\n(.*?)```", (REPOSITORY / page).read_text(encoding="utf-8"), re.DOTALL))


@pytest.fixture
def random(request):
    """A generator of the test's own; its seed is printed where the test fails."""
    seed = sum(ord(letter) * (index + 1) for index, letter in enumerate(request.node.name)) % 2**32
    print(f"seed {seed}")
    return numpy.random.default_rng(seed)


def standard_attention(q, k, v, *, scale=None, bias=0.0, mask=None, scores=None):
    """softmax(scores(scale q k^T) + bias) v in float64, and lse; rows that keep nothing are 0 and -inf.

    q [b, h_q, s_q, d], k [b, h_kv, s_kv, d], v [b, h_kv, s_kv, d_v]; bias and mask broadcast to [b, h_q, s_q, s_kv].
    """
    q, k, v = (numpy.asarray(each, numpy.float64) for each in (q, k, v))
    k, v = (each.repeat(q.shape[1] // each.shape[1], axis=1) for each in (k, v))
    s = numpy.einsum("bhqd,bhkd->bhqk", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    s = (s if scores is None else scores(s)) + bias
    if mask is not None:
        s = numpy.where(mask, s, -numpy.inf)
    if s.shape[-1] == 0:
        return numpy.zeros((*q.shape[:-1], v.shape[-1])), numpy.full(q.shape[:-1], -numpy.inf)
    top = s.max(-1, keepdims=True)
    p = numpy.exp(s - numpy.where(numpy.isfinite(top), top, 0.0))
    total = p.sum(-1, keepdims=True)
    with numpy.errstate(divide="ignore"):
        lse = numpy.log(total[..., 0]) + numpy.where(numpy.isfinite(top), top, 0.0)[..., 0]
    return numpy.einsum("bhqk,bhkd->bhqd", p / numpy.where(total == 0, 1.0, total), v), lse


# Twice what float32 arithmetic on weights below 1 and values of a few units loses over some hundred terms.
FLOAT32 = {"rtol": 1e-5, "atol": 1e-5}
