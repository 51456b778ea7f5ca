"""Recording from Python: the named variants, operators, captures, errors, pictures, pickles."""

import functools
import math
import pickle
import types

import numpy
import pytest
import tilewise as tw
from conftest import FLOAT32, standard_attention
from transcribe import transcribed

ENTRIES = {entry["name"]: entry for entry in tw._core.zoo_entries()}


@pytest.mark.parametrize("name", ENTRIES)
def test_named_variants_are_their_cpp_twins(name):
    """The function of tilewise.zoo gives what C++ makes of the same call in the textual form."""
    example = ENTRIES[name]["example"]
    values = eval(f"values({example[example.index('(') + 1 : -1]})", {"values": lambda *each: each})
    made = getattr(tw.zoo, name)(**dict(zip(ENTRIES[name]["arguments"], values)))
    twin = tw.parse(example)
    assert (made.key, made.literals, str(made)) == (twin.key, twin.literals, str(twin))
    assert name in tw.zoo.__all__ and getattr(tw.zoo, name).__doc__


@pytest.mark.parametrize("name", ENTRIES)
def test_named_variants_recorded_from_python(name):
    """Their mathematics, written as Python functions and recorded, has the key and the literals of the C++ recording."""
    twin = tw.parse(ENTRIES[name]["example"])
    made = transcribed(str(twin))
    assert (made.key, made.literals) == (twin.key, twin.literals)


def text(function):
    return str(tw.score(function))


def test_operators_and_functions():
    mixed = tw.score(lambda s, at: (s + at.query) * 2.5 - s / 3 + (at.key // 4) % 5 + (-s) ** 2 + abs(s) + 2**s)
    twin = tw.parse("score((s + query) * 2.5 - s / 3 + key // 4 % 5 + (-s) ** 2 + abs(s) + exp2(s))")
    assert (mixed.key, mixed.literals) == (twin.key, twin.literals)
    for name in ("exp", "exp2", "log", "log2", "sqrt", "rsqrt", "tanh", "sigmoid", "erf", "sin", "cos", "floor"):
        assert text(lambda s, at, f=getattr(tw, name): f(s)) == f"score({name}(s))"
    assert text(lambda s, at: tw.where((at.query > 1) & ~(at.key < 2) | (at.head == 0), s, tw.minimum(s, 1.5))) == (
        "score(select(query > 1 and not key < 2 or head == 0, s, min(s, 1.5)))")
    assert text(lambda s, at: tw.clip(s, -3.0, 3.0) + tw.to_real(tw.to_int(s)) + tw.constant(7.5)) == (
        "score(min(max(s, -3), 3) + int(s) + constant(7.5))")
    assert str(tw.keep(lambda at: (at.query & 3) ^ 1 == at.key << 2)) == "keep(query & 3 ^ 1 == key << 2)"


def test_numpys_functions_apply():
    written = text(lambda s, at: np_mix(s, at))
    assert written == "score(select(query > 3, tanh(s), s * 2 + max(s, 0)))"


def np_mix(s, at):
    return numpy.where(at.query > numpy.int64(3), numpy.tanh(s), numpy.multiply(s, 2.0) + numpy.maximum(s, 0.0))


REFUSED = {
    "if": lambda at: True if at.query > at.key else False,
    "and": lambda at: at.query > 1 and at.key > 2,
    "or": lambda at: at.query > 1 or at.key > 2,
    "not": lambda at: not at.query > 1,
    "chain": lambda at: 0 <= at.query < 5,
    "min": lambda at: min(at.query, at.key) > 3,
}


@pytest.mark.parametrize("name", REFUSED)
def test_pythons_own_control_flow_is_refused_with_what_to_write(name):
    with pytest.raises(TypeError, match=r"no truth value.*tilewise\.where.*&, \|, ~"):
        tw.keep(REFUSED[name])


def test_other_refusals():
    with pytest.raises(TypeError, match="tilewise.exp"):
        tw.score(lambda s, at: math.exp(s))
    with pytest.raises(TypeError, match="result of keep"):
        tw.keep(lambda at: None)
    with pytest.raises(tw.Error, match="bool"):
        tw.keep(lambda at: at.query + 1)
    with pytest.raises(ZeroDivisionError):  # an error of the function itself comes through
        tw.keep(lambda at: at.query > 1 // 0)
    with pytest.raises(TypeError, match="cumsum"):
        tw.score(lambda s, at: numpy.cumsum(s))
    stale = []
    tw.score(lambda s, at: stale.append(s) or s)
    with pytest.raises(tw.Error):
        tw.score(lambda s, at: s + stale[0])
    with pytest.raises(ValueError, match="int32"):
        tw.keep(lambda at: at.query > 2**40)


def attention_of(variant, random, heads=3, **options):
    q, k, v = (random.standard_normal((2, heads, 12, 8)).astype(numpy.float32) for _ in range(3))
    return (q, k, v), tw.attention(q, k, v, variant, **options)


slopes = numpy.array([0.5, 0.25, 0.125], numpy.float32)
DISTANCE = numpy.arange(12)[:, None] - numpy.arange(12)


def test_captured_arrays_are_tables_of_every_kind(random):
    bias = random.standard_normal((3, 23)).astype(numpy.float32)
    holder = types.SimpleNamespace(bias=bias)

    def helper(at):
        return bias[at.head, at.query - at.key + 11]

    recorded = {
        "global": (lambda s, at: s - slopes[at.head] * abs(at.query - at.key), -slopes[:, None, None] * abs(DISTANCE)),
        "closure": (lambda s, at: s + bias[at.head, at.query - at.key + 11], bias[:, DISTANCE + 11]),
        "helper": (lambda s, at: s + helper(at), bias[:, DISTANCE + 11]),
        "attribute": (lambda s, at: s + holder.bias[at.head, at.query - at.key + 11], bias[:, DISTANCE + 11]),
        "default": (lambda s, at, b=bias: s + b[at.head, at.query - at.key + 11], bias[:, DISTANCE + 11]),
        "in turn": (lambda s, at: s + bias[at.head][at.query - at.key + 11], bias[:, DISTANCE + 11]),
        "partial": (functools.partial(lambda b, s, at: s + b[at.head, at.key - at.query + 11], bias),
                    bias[:, 11 - DISTANCE]),
        "list": (lambda s, at, many=(bias, slopes): s + many[1][at.head], slopes[:, None, None]),
        "explicit": (lambda s, at, b=tw.table(bias).clamped: s + b[at.head, at.query - at.key],
                     bias[:, numpy.clip(DISTANCE, 0, 22)]),
        "explicit inside": (lambda s, at: s + tw.table(bias).clamped[at.head, at.query - at.key],
                            bias[:, numpy.clip(DISTANCE, 0, 22)]),
    }
    for name, (function, addend) in recorded.items():
        (q, k, v), o = attention_of(tw.score(function), random)
        numpy.testing.assert_allclose(o, standard_attention(q, k, v, bias=addend)[0], **FLOAT32, err_msg=name)


def test_captured_arrays_are_frozen_outside():
    with pytest.raises(TypeError, match="freeze an array outside"):
        tw.score(lambda s, at: s + tw.table(slopes, frozen=True)[at.head])


def test_changes_of_an_array_are_seen_by_the_next_call(random):
    bias = numpy.zeros(12, numpy.float32)
    variant = tw.score(lambda s, at: s + bias[at.key])
    q = random.standard_normal((1, 1, 12, 8)).astype(numpy.float32)
    before = tw.attention(q, q, q, variant)
    bias[3] = 5.0
    assert (tw.attention(q, q, q, variant) != before).any()
    frozen = tw.table(bias, frozen=True)
    kept = tw.score(lambda s, at: s + frozen[at.key])
    before = tw.attention(q, q, q, kept)
    bias[3] = 0.0
    numpy.testing.assert_array_equal(tw.attention(q, q, q, kept), before)


def make_window(size):
    return tw.keep(lambda at: at.query - at.key < size)


def make_biased(bias):
    return tw.score(lambda s, at: s + bias[at.key])


def test_recordings_are_kept_by_code_and_captures():
    assert make_window(5) is make_window(5)
    assert make_window(5).literals == [5] and make_window(6).literals == [6]
    a, b = (numpy.zeros(4, numpy.float32) for _ in range(2))
    assert make_biased(a)._recipe is make_biased(b)._recipe  # one recording, two arrays
    assert make_biased(a)._recipe is not make_biased(a.astype(numpy.float64))._recipe
    global limit
    limit = 3
    first = tw.keep(global_limit)
    limit = 4
    assert (first.literals, tw.keep(global_limit).literals) == ([3], [4])
    assert (tw.zoo.causal() & make_window(5)) is (tw.zoo.causal() & make_window(5))


def global_limit(at):
    return at.key < limit


def test_parameters(random):
    cap = tw.Parameter("cap", 0.1, 100.0)
    count = tw.Parameter("count", integer=True, value=4)
    variant = tw.score(lambda s, at: cap * tw.tanh(s / cap)) & tw.keep(lambda at: at.key < count)
    assert variant.parameters == ["cap", "count"]
    (q, k, v), o = attention_of(variant, random, parameters={"cap": 2.0})
    expected, _ = standard_attention(q, k, v, scores=lambda s: 2 * numpy.tanh(s / 2), mask=numpy.arange(12) < 4)
    numpy.testing.assert_allclose(o, expected, **FLOAT32)
    with pytest.raises(tw.InvalidArgument, match="cap"):
        attention_of(variant, random)
    with pytest.raises(tw.InvalidArgument, match="cap"):
        attention_of(variant, random, parameters={"cap": 1000.0})
    with pytest.raises(tw.InvalidArgument, match="cup.*'cap', 'count'"):
        attention_of(variant, random, parameters={"cup": 2.0})
    fixed = variant.bind(parameters={"cap": 2.0, "count": 12})
    numpy.testing.assert_allclose(tw.attention(q, k, v, fixed), standard_attention(
        q, k, v, scores=lambda s: 2 * numpy.tanh(s / 2))[0], **FLOAT32)


def test_tables_of_the_zoo(random):
    mask = random.random((12, 12)) < 0.5
    (q, k, v), o = attention_of(tw.zoo.dense_mask(mask), random)
    numpy.testing.assert_allclose(o, standard_attention(q, k, v, mask=mask)[0], **FLOAT32)
    logit = random.standard_normal(3).astype(numpy.float32)
    (q, k, v), (o, lse) = attention_of(tw.zoo.attention_sink(logit), random, return_lse=True)
    plain, plain_lse = standard_attention(q, k, v)
    with_sink = numpy.logaddexp(plain_lse, logit[:, None])
    numpy.testing.assert_allclose(lse, with_sink, **FLOAT32)
    numpy.testing.assert_allclose(o, plain * numpy.exp(plain_lse - with_sink)[..., None], **FLOAT32)
    bias = random.standard_normal((3, 12, 12)).astype(numpy.float32)
    (q, k, v), o = attention_of(tw.zoo.dense_bias(rank=3), random, tables={"addend": bias})
    numpy.testing.assert_allclose(o, standard_attention(q, k, v, bias=bias)[0], **FLOAT32)
    blocks = numpy.array([[True, False], [True, True]])
    (q, k, v), o = attention_of(tw.zoo.block_sparse(6, blocks), random)
    numpy.testing.assert_allclose(o, standard_attention(q, k, v, mask=blocks.repeat(6, 0).repeat(6, 1))[0], **FLOAT32)


def test_pickles(random):
    bias = random.standard_normal((3, 12)).astype(numpy.float32)
    large = tw.table(random.standard_normal(100).astype(numpy.float32), frozen=True)
    cap = tw.Parameter("cap", value=3.0)
    variants = [
        tw.zoo.causal(),
        tw.zoo.documents([5, 7]) & tw.zoo.alibi(3) & tw.dropout(0.0),
        tw.score(lambda s, at: s + bias[at.head, at.key]) & tw.score(lambda s, at: tw.minimum(s, cap)),
        tw.score(lambda s, at: s + large[at.key]) & tw.score(lambda s, at: s + bias[at.head, at.query]),
    ]
    for variant in variants:
        again = pickle.loads(pickle.dumps(variant))
        assert (again.key, again.literals) == (variant.key, variant.literals)
        (q, k, v), o = attention_of(variant, random)
        numpy.testing.assert_array_equal(tw.attention(q, k, v, again), o)
        numpy.testing.assert_array_equal(tw.attention(q, k, v, pickle.loads(pickle.dumps(again))), o)


def test_pictures(tmp_path):
    tiles = tw.zoo.window(256).classify(1024, 1024)
    kept = numpy.tril(numpy.ones((8, 8), int)) * numpy.triu(numpy.ones((8, 8), int), -2)
    numpy.testing.assert_array_equal(tiles.classes != 0, kept == 1)
    assert (tiles.empty, tiles.partial, tiles.full) == (64 - 21, 8 + 6, 7)
    assert tiles.kept_share == 21 / 64 and str(tiles).splitlines()[0] == "▒·······"
    shown = tw.zoo.causal().show(512, file=str(tmp_path / "causal.png"), tile=(64, 64))
    data = (tmp_path / "causal.png").read_bytes()
    assert data == shown._repr_png_() and data.startswith(b"\x89PNG")
    document = numpy.array([0] * 100 + [1] * 28)
    tables = tw.keep(lambda at: document[at.query] == document[at.key]).classify(128, 128, tile=(4, 4))
    assert tables.classes[0, 0] == 2 and tables.classes[0, 31] == 0 and tables.classes[31, 31] == 2


def test_text_reads_back():
    variant = tw.zoo.causal() & tw.score(lambda s, at: 30 * tw.tanh(s / 30))
    assert tw.parse(str(variant)).key == variant.key and str(variant) in repr(variant)
    assert variant.literals == [30, 30] and not variant.has_sink and not variant.has_dropout
