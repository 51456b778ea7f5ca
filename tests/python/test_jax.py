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


def test_packed_sequences_and_their_gradients():
    lengths = [5, 0, 13, 1]
    q, k, v = (x[0] for x in arrays(b=1))
    rows = [slice(sum(lengths[:n]), sum(lengths[: n + 1])) for n in range(len(lengths))]

    def packed(q, k, v):
        return tw.attention(q, k, v, tw.zoo.causal(), sequences=lengths)

    def each_alone(q, k, v):
        parts = [tw.attention(q[None, :, r], k[None, :, r], v[None, :, r], tw.zoo.causal())[0] for r in rows]
        return jnp.concatenate(parts, axis=1)

    expect_close(jax.jit(packed)(q, k, v), each_alone(q, k, v))
    ours, theirs = (jax.grad(lambda *a, f=f: (f(*a) ** 2).sum(), argnums=(0, 1, 2)) for f in (packed, each_alone))
    expect_close(jax.jit(ours)(q, k, v), theirs(q, k, v), 1e-4)
    stacked = jnp.stack([q, 2 * q])
    expect_close(jax.vmap(packed, in_axes=(0, None, None))(stacked, k, v),
                 jnp.stack([each_alone(each, k, v) for each in stacked]))
    expect_close(packed(q, k, v), jax.vmap(packed, in_axes=1, out_axes=1)(*(x[:, None] for x in (q, k, v)))[:, 0])


def test_rows_of_no_sequence_are_zero():
    q, k, v = arrays()
    sequences = [tw.Sequence(LENGTH, LENGTH), tw.Sequence(7, 11)]
    o, lse = tw.attention(q, k, v, sequences=sequences, return_lse=True)
    assert (o[1, :, 7:] == 0).all() and jnp.isneginf(lse[1, :, 7:]).all()
    numpys = tw.attention(*(numpy.asarray(x) for x in (q, k, v)), sequences=sequences)
    expect_close(o, numpys)
    d_k = jax.grad(lambda k: tw.attention(q, k, v, sequences=sequences).sum())(k)
    assert (d_k[1, :, 11:] == 0).all() and (d_k[1, :, :11] != 0).any()


def test_pages_and_scales():
    q, *_ = arrays()
    pages_k, pages_v = (jax.random.normal(jax.random.key(n), (6, 3, 4, 8)) for n in (1, 2))
    table = jnp.array([[5, 0, 2], [1, 3, 4]], jnp.int32)
    sequences = [tw.Sequence(LENGTH, 10), tw.Sequence(LENGTH, 7)]
    o = jax.jit(lambda *a: tw.attention(*a, block_table=table, sequences=sequences))(q, pages_k, pages_v)
    for row, length in enumerate((10, 7)):
        k, v = (jnp.concatenate(list(pages[table[row]]), axis=1)[None, :, :length] for pages in (pages_k, pages_v))
        expect_close(o[row], tw.attention(q[row][None], k, v)[0])
    whole = jax.random.randint(jax.random.key(3), (2, 2, 3, LENGTH, 8), -127, 128).astype(jnp.int8)
    scales = jax.random.uniform(jax.random.key(4), (2, 2, 3, LENGTH)) / 50
    o = tw.attention(q, whole[0], whole[1], k_scales=scales[0], v_scales=scales[1])
    expect_close(o, tw.attention(q, *(whole * scales[..., None])))
    with pytest.raises(tw.Unsupported, match="int8"):
        jax.grad(lambda q: tw.attention(q, whole[0], whole[1], k_scales=scales[0], v_scales=scales[1]).sum())(q)


def test_captured_arrays_of_every_kind_have_gradients():
    q, k, v = arrays()
    logit, bias = jnp.array([0.5, -1.0, 2.0]), jax.random.normal(jax.random.key(5), (LENGTH, LENGTH))

    def ours(logit, bias):
        return (tw.attention(q, k, v, tw.zoo.dense_bias(bias) & tw.zoo.attention_sink(logit)) ** 2).sum()

    def theirs(logit, bias):
        s = jnp.einsum("bhqd,bhkd->bhqk", q, k) / numpy.sqrt(8) + bias
        total = jnp.exp(s).sum(-1, keepdims=True) + jnp.exp(logit)[:, None, None]
        return (jnp.einsum("bhqk,bhkd->bhqd", jnp.exp(s) / total, v) ** 2).sum()

    expect_close(jax.jit(jax.grad(ours, (0, 1)))(logit, bias), jax.grad(theirs, (0, 1))(logit, bias), 1e-4)


def test_refusals():
    q, k, v = arrays()
    with pytest.raises(tw.InvalidArgument, match="shapes"):
        tw.attention(q, k[:1], v)
    with pytest.raises(TypeError, match="int32"):
        tw.attention(q.astype(jnp.int32), k, v)
    with pytest.raises(tw.InvalidArgument, match="seed"):
        tw.attention(q, k, v, dropout=0.5)
    with pytest.raises(tw.InvalidArgument, match="k_scales"):
        tw.attention(q, k, v, k_scales=k[..., 0])
    with pytest.raises(tw.Unsupported, match="query_offset"):
        tw.attention(q, k, v, query_offset=[1, 2])
    with pytest.raises(jax.errors.JaxRuntimeError, match="sequences"):
        tw.attention(q, k, v, sequences=[3, 4, 5])
