"""JAX: attention under jit, grad and vmap, against its formula in JAX."""

import numpy
import pytest

jax = pytest.importorskip("jax")
import jax.numpy as jnp  # noqa: E402
import tilewise as tw  # noqa: E402

LENGTH = 19


def arrays(b=2, h=3, h_kv=3):
    keys = jax.random.split(jax.random.key(0), 3)
    return [jax.random.normal(key, (b, heads, LENGTH, 8)) for key, heads in zip(keys, (h, h_kv, h_kv))]


def formula(q, k, v, bias=None, cap=None):
    k, v = (jnp.repeat(each, q.shape[-3] // each.shape[-3], axis=-3) for each in (k, v))
    i = jnp.arange(LENGTH)
    s = jnp.einsum("...qd,...kd->...qk", q, k) / numpy.sqrt(8)
    s = s if cap is None else cap * jnp.tanh(s / cap)
    s = s if bias is None else s + bias[:, None, None] * (i[:, None] - i)
    return jnp.einsum("...qk,...kd->...qd", jax.nn.softmax(jnp.where(i[:, None] >= i, s, -jnp.inf), -1), v)


def biased(q, k, v, bias):
    return tw.attention(q, k, v, tw.zoo.causal() & tw.score(lambda s, at: s + bias[at.head] * (at.query - at.key)))


def expect_close(ours, theirs, tolerance=2e-5):
    jax.tree.map(lambda a, b: numpy.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance), ours, theirs)


def test_values_and_gradients_with_and_without_jit():
    given = (*arrays(), jnp.array([0.1, 0.2, -0.3]))
    expect_close(biased(*given), formula(*given))
    expect_close(jax.jit(biased)(*given), formula(*given))
    ours, theirs = (jax.grad(lambda *a, f=f: (f(*a) ** 2).sum(), argnums=(0, 1, 2, 3)) for f in (biased, formula))
    expected = theirs(*given)
    expect_close(ours(*given), expected, 1e-4)
    expect_close(jax.jit(ours)(*given), expected, 1e-4)


def test_vmap():
    q, k, v = arrays()
    bias = jnp.array([[0.1, 0.2, -0.3], [1.0, 0.0, 0.5]])
    stacked = jnp.stack([q, 2 * q])
    for axes in ((0, None, None, None), (None, None, None, 0), (0, None, None, 0)):
        given = [stacked if axes[0] == 0 else q, k, v, bias if axes[3] == 0 else bias[0]]
        expect_close(jax.vmap(biased, in_axes=axes)(*given), jax.vmap(formula, in_axes=axes)(*given))
    per_example = jax.vmap(jax.grad(lambda *a: biased(*a).sum()), in_axes=(0, None, None, None))
    expected = jax.vmap(jax.grad(lambda *a: formula(*a).sum()), in_axes=(0, None, None, None))
    expect_close(per_example(stacked, k, v, bias[0]), expected(stacked, k, v, bias[0]), 1e-4)


def test_parameters_lse_layout_and_grouped_heads():
    q, k, v = arrays(h=6, h_kv=2)

    def capped(q, cap):
        return tw.attention(q, k, v, tw.score(lambda s, at: cap * tw.tanh(s / cap)) & tw.zoo.causal())

    cap = jnp.float32(2.0)
    expect_close(jax.grad(lambda c: capped(q, c).sum())(cap), jax.grad(lambda c: formula(q, k, v, cap=c).sum())(cap), 1e-3)
    swapped = [each.swapaxes(1, 2) for each in (q, k, v)]
    o, lse = tw.attention(*swapped, tw.zoo.causal(), layout="bshd", return_lse=True)
    expect_close(o.swapaxes(1, 2), formula(q, k, v))
    expected = tw.attention(*(numpy.asarray(each) for each in (q, k, v)), tw.zoo.causal(), return_lse=True)[1]
    expect_close(lse, expected)
    d_q = jax.grad(lambda q: tw.attention(q, k, v, return_lse=True)[1].sum())(q)
    wide = jnp.repeat(k, 3, axis=1)
    scores = lambda q: jax.nn.logsumexp(jnp.einsum("bhqd,bhkd->bhqk", q, wide) / numpy.sqrt(8), -1).sum()  # noqa: E731
    expect_close(d_q, jax.grad(scores)(q))


def test_bfloat16():
    q, k, v = (each.astype(jnp.bfloat16) for each in arrays())
    o = tw.attention(q, k, v, tw.zoo.causal())
    assert o.dtype == jnp.bfloat16
    expect_close(o.astype(jnp.float32), formula(*(each.astype(jnp.float32) for each in (q, k, v))), 2**-6)


def test_refusals():
    q, k, v = arrays()
    with pytest.raises(tw.InvalidArgument, match="shapes"):
        tw.attention(q, k[:1], v)
    with pytest.raises(TypeError, match="int32"):
        tw.attention(q.astype(jnp.int32), k, v)
    with pytest.raises(tw.InvalidArgument, match="seed"):
        tw.attention(q, k, v, dropout=0.5)
    with pytest.raises(tw.Unsupported, match="sequences"):
        tw.attention(q, k, v, sequences=[3, 4])
