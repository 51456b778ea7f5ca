"""tilewise.attention and Plan on NumPy's arrays, against attention written as its formula."""

import gc
import itertools
import os
import sys
import threading

import numpy
import pytest
import tilewise as tw
from conftest import FLOAT32, standard_attention


def arrays(random, b=2, h_q=4, h_kv=2, s_q=37, s_kv=41, d=16, d_v=24, dtype=numpy.float32):
    shapes = (b, h_q, s_q, d), (b, h_kv, s_kv, d), (b, h_kv, s_kv, d_v)
    return [random.standard_normal(shape).astype(dtype) for shape in shapes]


def causal(s_q, s_kv):
    return numpy.arange(s_q)[:, None] + s_kv - s_q >= numpy.arange(s_kv)


def test_plain_attention_is_the_formula(random):
    q, k, v = arrays(random)
    o, lse = tw.attention(q, k, v, return_lse=True)
    expected, expected_lse = standard_attention(q, k, v)
    numpy.testing.assert_allclose(o, expected, **FLOAT32)
    numpy.testing.assert_allclose(lse, expected_lse, **FLOAT32)
    assert type(o) is numpy.ndarray and o.dtype == numpy.float32 and lse.dtype == numpy.float32


@pytest.mark.parametrize(
    ("s_q", "s_kv", "d"), [(0, 5, 8), (5, 0, 8), (1, 1, 1), (1, 97, 8), (63, 65, 3), (128, 64, 40), (130, 257, 64)]
)
def test_odd_sizes(random, s_q, s_kv, d):
    q, k, v = arrays(random, s_q=s_q, s_kv=s_kv, d=d, d_v=d)
    o, lse = tw.attention(q, k, v, tw.zoo.causal(), return_lse=True)
    expected, expected_lse = standard_attention(q, k, v, mask=causal(s_q, s_kv))
    numpy.testing.assert_allclose(o, expected, **FLOAT32)
    numpy.testing.assert_allclose(lse, expected_lse, **FLOAT32)


@pytest.mark.parametrize("shape", [(0, 4, 5, 8), (2, 4, 0, 8)])
def test_no_queries_give_an_empty_result(shape):
    q = numpy.ones(shape, numpy.float32)
    assert tw.attention(q, q, q).shape == shape


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_dtypes(random, dtype):
    q, k, v = arrays(random, dtype=dtype)
    o, lse = tw.attention(q, k, v, return_lse=True)
    assert o.dtype == dtype and lse.dtype == ("float64" if dtype == "float64" else "float32")
    error = {"float64": 1e-13, "float32": 1e-5, "float16": 4e-3}[dtype]  # float16: two roundings of values near 1
    numpy.testing.assert_allclose(o.astype("float64"), standard_attention(q, k, v)[0], rtol=error, atol=error)


def test_bfloat16_of_ml_dtypes(random):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    q, k, v = (each.astype(ml_dtypes.bfloat16) for each in arrays(random))
    o = tw.attention(q, k, v)
    assert o.dtype == ml_dtypes.bfloat16
    expected = standard_attention(*(each.astype(numpy.float64) for each in (q, k, v)))[0]
    numpy.testing.assert_allclose(o.astype(numpy.float64), expected, rtol=2**-6, atol=2**-6)


def test_bshd_is_the_same_with_two_axes_exchanged(random):
    q, k, v = arrays(random)
    swapped = [numpy.ascontiguousarray(each.swapaxes(1, 2)) for each in (q, k, v)]
    o, lse = tw.attention(*swapped, tw.zoo.causal(), layout="bshd", return_lse=True)
    expected, expected_lse = tw.attention(q, k, v, tw.zoo.causal(), return_lse=True)
    numpy.testing.assert_array_equal(o.swapaxes(1, 2), expected)
    numpy.testing.assert_array_equal(lse, expected_lse)


def test_strides_are_read_in_place_and_a_strided_last_axis_is_copied(random):
    q, k, v = arrays(random, d=16, d_v=16)
    expected = tw.attention(q, k, v)
    padded = [numpy.full((*each.shape[:-1], 32), numpy.nan, numpy.float32) for each in (q, k, v)]
    for hold, each in zip(padded, (q, k, v)):
        hold[..., :16] = each
    numpy.testing.assert_array_equal(tw.attention(*(each[..., :16] for each in padded)), expected)
    transposed = [numpy.ascontiguousarray(each.swapaxes(2, 3)).swapaxes(2, 3) for each in (q, k, v)]
    numpy.testing.assert_array_equal(tw.attention(*transposed), expected)
    backwards = [numpy.ascontiguousarray(each[:, :, ::-1])[:, :, ::-1] for each in (q, k, v)]
    numpy.testing.assert_array_equal(tw.attention(*backwards), expected)
    for each in (q, k, v):
        each.setflags(write=False)
    numpy.testing.assert_array_equal(tw.attention(q, k, v), expected)


def test_scale_and_query_offset(random):
    q, k, v = arrays(random, s_q=9, s_kv=30)
    o = tw.attention(q, k, v, tw.zoo.causal(), scale=-0.3, query_offset=5)
    mask = numpy.arange(9)[:, None] + 5 >= numpy.arange(30)
    numpy.testing.assert_allclose(o, standard_attention(q, k, v, scale=-0.3, mask=mask)[0], **FLOAT32)


def test_packed_sequences(random):
    lengths = [5, 0, 17, 1]
    q, k, v = (random.standard_normal((2, sum(lengths), 8)).astype(numpy.float32) for _ in range(3))
    o, lse = tw.attention(q, k, v, tw.zoo.causal(), sequences=lengths, return_lse=True)
    first = 0
    for length in lengths:
        rows = slice(first, first + length)
        expected, expected_lse = standard_attention(q[None, :, rows], k[None, :, rows], v[None, :, rows],
                                                    mask=causal(length, length))
        numpy.testing.assert_allclose(o[:, rows], expected[0], **FLOAT32)
        numpy.testing.assert_allclose(lse[:, rows], expected_lse[0], **FLOAT32)
        first += length


def test_shorter_sequences_leave_zeros(random):
    q, k, v = arrays(random, b=2, s_q=8, s_kv=8)
    o, lse = tw.attention(q, k, v, sequences=[tw.Sequence(8, 8), tw.Sequence(3, 5)], return_lse=True)
    numpy.testing.assert_allclose(o[1:, :, :3], standard_attention(q[1:, :, :3], k[1:, :, :5], v[1:, :, :5])[0],
                                  **FLOAT32)
    assert (o[1, :, 3:] == 0).all() and numpy.isneginf(lse[1, :, 3:]).all()


def test_pages(random):
    q = random.standard_normal((2, 4, 1, 8)).astype(numpy.float32)
    pages_k, pages_v = (random.standard_normal((6, 2, 4, 8)).astype(numpy.float32) for _ in range(2))
    table = numpy.array([[5, 0, 2], [1, 3, -1]], numpy.int32)
    lengths = [10, 7]
    o = tw.attention(q, pages_k, pages_v, block_table=table, sequences=[tw.Sequence(1, each) for each in lengths])
    for row, length in enumerate(lengths):
        used = [page for page in table[row] if page >= 0]
        k, v = (numpy.concatenate([pages[page] for page in used], axis=1)[None, :, :length]
                for pages in (pages_k, pages_v))
        numpy.testing.assert_allclose(o[row : row + 1], standard_attention(q[row : row + 1], k, v)[0], **FLOAT32)


def test_int8_with_scales(random):
    q = random.standard_normal((1, 2, 3, 8)).astype(numpy.float32)
    k, v = (random.integers(-127, 128, (1, 2, 20, 8)).astype(numpy.int8) for _ in range(2))
    k_scales, v_scales = (random.uniform(0.001, 0.02, (1, 2, 20)).astype(numpy.float32) for _ in range(2))
    o = tw.attention(q, k, v, k_scales=k_scales, v_scales=v_scales)
    expected, _ = standard_attention(q, k * k_scales[..., None].astype(float), v * v_scales[..., None].astype(float))
    numpy.testing.assert_allclose(o, expected, **FLOAT32)


def test_dropout_follows_the_seed_and_is_unbiased(random):
    q, k, v = arrays(random, s_q=64, s_kv=64)
    once = tw.attention(q, k, v, dropout=0.5, seed=3)
    numpy.testing.assert_array_equal(once, tw.attention(q, k, v, tw.dropout(0.1), dropout=0.5, seed=3))
    assert (once != tw.attention(q, k, v, dropout=0.5, seed=4)).any()
    numpy.testing.assert_array_equal(tw.attention(q, k, v, tw.dropout(0.5), seed=3), once)
    assert (once != tw.attention(q, k, v, dropout=0.5, seed=3, seed_offset=1)).any()
    numpy.testing.assert_array_equal(tw.attention(q, k, v, dropout=0.0), tw.attention(q, k, v))
    mean = numpy.mean([tw.attention(q, k, v, dropout=0.5, seed=seed) for seed in range(200)], axis=0)
    # A row's weights spread over 64 keys: the mean of 200 calls is within 5 of its standard errors, about 0.02.
    numpy.testing.assert_allclose(mean, standard_attention(q, k, v)[0], atol=0.15)


def test_a_plan_computes_what_attention_does(random):
    q, k, v = arrays(random)
    plan = tw.Plan(tw.zoo.causal(), dtype="float32", b=2, h_q=4, h_kv=2, d_qk=16, d_v=24, s_q=37, s_kv=41, backward=True)
    o, lse = numpy.full((2, 4, 37, 24), numpy.nan, numpy.float32), numpy.full((2, 4, 37), numpy.nan, numpy.float32)
    assert plan.forward(q, k, v, o, lse) is o
    numpy.testing.assert_allclose(o, tw.attention(q, k, v, tw.zoo.causal()), **FLOAT32)
    assert plan.workspace_bytes >= 0 and plan.instruction_set in plan.explain()
    d_o = random.standard_normal(o.shape).astype(numpy.float32)
    gradients = [numpy.full_like(each, numpy.nan) for each in (q, k, v)]
    plan.backward(q, k, v, o, lse, d_o, d_q=gradients[0], d_k=gradients[1], d_v=gradients[2])
    step = 1e-6

    def loss(*inputs):
        return (standard_attention(*inputs, mask=causal(37, 41))[0] * d_o).sum()

    for index in range(3):
        moved = [each.astype(numpy.float64) for each in (q, k, v)]
        place = tuple(int(random.integers(extent)) for extent in moved[index].shape)
        moved[index][place] += step
        above = loss(*moved)
        moved[index][place] -= 2 * step
        slope = (above - loss(*moved)) / (2 * step)
        numpy.testing.assert_allclose(gradients[index][place], slope, rtol=1e-3, atol=1e-4)


def test_wrong_arguments_are_told_by_fitting_exceptions(random):
    q, k, v = arrays(random)
    refusals = [
        (tw.InvalidArgument, "k", (q, k[:1], v), {}),
        (tw.InvalidArgument, "d_qk", (q, k[..., :8], v), {}),
        (tw.Error, "dtype|int32|float", (q.astype(numpy.int32), k, v), {}),
        (TypeError, "complex|format", (q.astype(numpy.complex64), k, v), {}),
        (TypeError, "no array", (q, "keys", v), {}),
        (TypeError, "no array", (q.tolist(), k, v), {}),
        (tw.InvalidArgument, "layout", (q, k, v), {"layout": "sbhd"}),
        (TypeError, "variant", (q, k, v, 7), {}),
        (tw.ParseError, "unknown name", (q, k, v, "keep(querry > 1)"), {}),
        (tw.InvalidArgument, "bias", (q, k, v, tw.zoo.learned_bias()), {}),
        (tw.InvalidArgument, "table", (q, k, v), {"tables": {"bias": k}}),
        (tw.InvalidArgument, "dropout", (q, k, v), {"dropout": 1.5}),
        (tw.InvalidArgument, "axes", (q[0, 0], k, v), {}),
        (TypeError, "scal", (q, k, v), {"scal": 1.0}),
    ]
    for kind, words, positional, named in refusals:
        with pytest.raises(kind, match=words):
            tw.attention(*positional, **named)
    assert issubclass(tw.InvalidArgument, ValueError) and issubclass(tw.Unsupported, NotImplementedError)


def test_a_read_outside_of_a_table_is_refused(random):
    q, k, v = arrays(random)
    short = numpy.zeros(10, numpy.float32)
    with pytest.raises(tw.InvalidArgument, match="short"):
        tw.attention(q, k, v, tw.score(lambda s, at: s + short[at.key]))


def test_references_and_memory_stay_flat(random):
    q, k, v = arrays(random, b=1, s_q=3, s_kv=5, d=8, d_v=8)
    bias = random.standard_normal(5).astype(numpy.float32)

    def call():
        tw.attention(q, k, v, tw.zoo.causal() & tw.score(lambda s, at: s + bias[at.key]), return_lse=True)

    for _ in range(300):
        call()
    gc.collect()
    counts = [sys.getrefcount(each) for each in (q, k, v, bias)]
    blocks, pages = sys.getallocatedblocks(), resident_pages()
    for _ in range(10_000):
        call()
    gc.collect()
    assert [sys.getrefcount(each) for each in (q, k, v, bias)] == counts
    assert abs(sys.getallocatedblocks() - blocks) < 500
    assert resident_pages() - pages < 1000  # 4 MiB; 10,000 lost outputs of 100 bytes or plans would be more


def resident_pages():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1])


def test_threads_compute_the_same(random):
    q, k, v = arrays(random, s_q=128, s_kv=128)
    expected = tw.attention(q, k, v, tw.zoo.causal())
    results = []

    def work():
        for _ in range(20):
            results.append(tw.attention(q, k, v, tw.zoo.causal()))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 160 and all((each == expected).all() for each in results)


def test_a_forked_child_computes_too(random):
    q, k, v = arrays(random, s_q=128, s_kv=128)
    expected = tw.attention(q, k, v)
    child = os.fork()
    if child == 0:
        os._exit(0 if (tw.attention(q, k, v) == expected).all() else 1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


class Foreign:
    """An array that is known by DLPack alone."""

    def __init__(self, array):
        self._array = array
        self.shape, self.dtype, self.ndim = array.shape, array.dtype, array.ndim

    def __dlpack__(self, **options):
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self._array.__dlpack_device__()

    def __array_namespace__(self):
        return numpy


def test_arrays_known_by_dlpack_alone(random):
    q, k, v = arrays(random)
    o = tw.attention(*(Foreign(each) for each in (q, k, v)))
    numpy.testing.assert_array_equal(o, tw.attention(q, k, v))


def test_every_pair_of_layout_and_lse_agrees(random):
    q, k, v = arrays(random, h_kv=4)
    for layout, return_lse in itertools.product(("bhsd", "bshd"), (False, True)):
        given = [q, k, v] if layout == "bhsd" else [each.swapaxes(1, 2) for each in (q, k, v)]
        result = tw.attention(*given, layout=layout, return_lse=return_lse)
        o = result[0] if return_lse else result
        numpy.testing.assert_array_equal(o if layout == "bhsd" else o.swapaxes(1, 2), tw.attention(q, k, v))
