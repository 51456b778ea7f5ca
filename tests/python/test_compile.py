"""Attention in graphs of torch.compile."""

import contextlib

import pytest

torch = pytest.importorskip("torch")
import tilewise as tw  # noqa: E402
import tilewise.torch  # noqa: E402
from torch_cases import expect_equal, seeded, tensors  # noqa: E402, F401


# aot_eager traces and splits off the backward graph; inductor, the default, also generates and compiles code.
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_compiled_graphs_do_not_break(backend):
    bias = torch.randn(4, 41, requires_grad=True)
    variant = tw.zoo.causal() & tw.score(lambda s, at: s + bias[at.head, at.key])
    mask = torch.rand(2, 1, 37, 41) < 0.8
    mask[..., 0] = True

    def function(q, k, v):
        first = tw.attention(q * 1.5, k, v, variant)
        return tilewise.torch.scaled_dot_product_attention(first + q, k, v, mask) + 1

    compiled = torch.compile(function, fullgraph=True, backend=backend)
    q, k, v = tensors()
    expect_equal(compiled(q, k, v), function(q, k, v), (q, k, v, bias), rtol=1e-5, atol=1e-6)


def test_dropout_in_a_graph_follows_manual_seed():
    q, k, v = tensors()
    compiled = torch.compile(
        lambda q, k, v: tilewise.torch.scaled_dot_product_attention(q, k, v, dropout_p=0.5), fullgraph=True)
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(seed)
        results.append(compiled(q, k, v))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert (results[0] != results[2]).any()


def test_a_graph_draws_nothing_without_dropout():
    q, k, v = tensors()
    compiled = torch.compile(lambda q, k, v: tilewise.torch.scaled_dot_product_attention(q, k, v), backend="aot_eager")
    before = torch.get_rng_state()
    compiled(q, k, v)
    assert (torch.get_rng_state() == before).all()


def test_sinks_parameters_and_lse_in_a_graph():
    logit, cap = torch.randn(4, requires_grad=True), torch.tensor(2.0, requires_grad=True)
    c = tw.Parameter("cap")
    variant = tw.score(lambda s, at: c * tw.tanh(s / c)) & tw.zoo.attention_sink(logit)

    def function(q, k, v):
        o, lse = tw.attention(q, k, v, variant, parameters={"cap": cap}, return_lse=True, layout="bshd")
        return o * lse.transpose(1, 2)[..., None].exp()

    q, k, v = (each.transpose(1, 2).contiguous().requires_grad_() for each in tensors())
    expect_equal(torch.compile(function, fullgraph=True)(q, k, v), function(q, k, v), (q, k, v, logit, cap), rtol=1e-4,
                 atol=1e-4)


def test_drop_ins_in_a_graph():
    q, k, v = tensors(s_q=41)

    def function(q, k, v):
        o = tilewise.torch.scaled_dot_product_attention(q, k, v, is_causal=True)
        return tilewise.torch.flash_attn_func(o, k, v, causal=True, window_size=(3, 0)) + o

    expect_equal(torch.compile(function, fullgraph=True)(q, k, v), function(q, k, v), (q, k, v), rtol=1e-5, atol=1e-6)
    with tilewise.torch.patch():
        layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        x = torch.randn(2, 9, 16, requires_grad=True)
        expect_equal(torch.compile(layer)(x), layer(x), (x, *layer.parameters()))


def test_graphs_with_and_without_patch_are_not_mixed_up(tmp_path, monkeypatch):
    """The layer's attention is a node of one name in both, which PyTorch's cache on disk finds them by."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    layer = torch.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
    x = torch.randn(2, 9, 16, requires_grad=True)
    for is_patched in (False, True, False):
        torch.compiler.reset()  # what is kept on disk stays
        with tilewise.torch.patch() if is_patched else contextlib.nullcontext():
            compiled = torch.compile(layer)
            compiled(x).sum().backward()
            with torch.profiler.profile() as profile:
                compiled(x).sum().backward()
        is_ours = any("tilewise" in each.key for each in profile.key_averages())
        assert is_ours == is_patched


def test_packed_and_shorter_sequences_in_a_graph():
    variant = tw.zoo.causal()
    q, k, v = (torch.randn(2, 12, 8, requires_grad=True) for _ in range(3))

    def packed(q, k, v):
        return tw.attention(q, k, v, variant, sequences=[5, 7]) * 2

    expect_equal(torch.compile(packed, fullgraph=True)(q, k, v), packed(q, k, v), (q, k, v), rtol=1e-5, atol=1e-6)
    by_tensor = torch.compile(lambda lengths: tw.attention(q, k, v, variant, sequences=lengths) * 2, fullgraph=True)
    torch.testing.assert_close(by_tensor(torch.tensor([5, 7])), packed(q, k, v), rtol=1e-5, atol=1e-6)
    q, k, v = tensors()

    def shorter(q, k, v):
        sequences = [tw.Sequence(q.shape[2], k.shape[2], key_start=3), tw.Sequence(5, 9)]
        o, lse = tw.attention(q, k, v, variant, sequences=sequences, query_offset=[7, 4], return_lse=True)
        return o + lse.clamp(min=-9.0)[..., None]

    # dynamic: lengths are symbolic, too
    for dynamic in (False, True):
        compiled = torch.compile(shorter, fullgraph=True, dynamic=dynamic)
        expect_equal(compiled(q, k, v), shorter(q, k, v), (q, k, v), rtol=1e-5, atol=1e-6)


def test_one_graph_serves_varying_lengths():
    """Also lengths that are known in a tensor alone, as flash_attn's functions have them."""
    compiled = torch.compile(
        lambda q, k, v, ends: tilewise.torch.flash_attn_varlen_func(q, k, v, ends, ends, 9, 9, causal=True),
        fullgraph=True, backend="aot_eager")
    q, k, v = (torch.randn(12, h, 8, requires_grad=True) for h in (4, 2, 2))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for ends in ([0, 5, 12], [0, 3, 12]):
            ends = torch.tensor(ends, dtype=torch.int32)
            expected = tilewise.torch.flash_attn_varlen_func(q, k, v, ends, ends, 9, 9, causal=True)
            expect_equal(compiled(q, k, v, ends), expected, (q, k, v), rtol=1e-5, atol=1e-6)


def test_pages_in_a_graph():
    q = torch.randn(2, 4, 1, 8)
    pages_k, pages_v = (torch.randn(6, 2, 4, 8) for _ in range(2))
    table = torch.tensor([[5, 0, 2], [1, 3, -1]], dtype=torch.int32)

    def function(q, pages_k, pages_v, table):
        return tw.attention(q, pages_k, pages_v, block_table=table, sequences=[tw.Sequence(1, 10), tw.Sequence(1, 7)]) + 1

    torch.testing.assert_close(torch.compile(function, fullgraph=True)(q, pages_k, pages_v, table),
                               function(q, pages_k, pages_v, table))


def test_int8_in_a_graph():
    q = torch.randn(1, 2, 3, 8)
    k, v = (torch.randint(-127, 128, (1, 2, 20, 8), dtype=torch.int8) for _ in range(2))
    scales = [torch.rand(1, 2, 20) / 50 for _ in range(2)]

    def function(q, k, v, k_scales, v_scales):
        return tw.attention(q, k, v, k_scales=k_scales, v_scales=v_scales) + 1

    compiled = torch.compile(function, fullgraph=True)
    torch.testing.assert_close(compiled(q, k, v, *scales), function(q, k, v, *scales))
    q.requires_grad_()
    with pytest.raises(Exception, match="int8.* gradients"):
        compiled(q, k, v, *scales).sum().backward()


@pytest.mark.parametrize("is_paged", [False, True])
def test_a_step_over_a_cache_in_a_graph(is_paged):
    """flash_attn_with_kvcache writes its cache; lengths lie in a tensor, and one graph serves all of them."""
    def step(q, k, v, cache_k, cache_v, lengths, table):
        return tilewise.torch.flash_attn_with_kvcache(q, cache_k, cache_v, k, v, cache_seqlens=lengths, causal=True,
                                                      block_table=table)

    torch.compiler.reset()  # whether there are pages is a reason for another graph
    compiled = torch.compile(step, fullgraph=True, backend="aot_eager")
    q, k, v = (torch.randn(2, 1, h, 8) for h in (4, 2, 2))
    shape = (6, 4, 2, 8) if is_paged else (2, 12, 2, 8)
    table = torch.tensor([[5, 0, 2], [1, 3, 4]], dtype=torch.int32) if is_paged else None
    ours, theirs = ([torch.ones(shape), torch.ones(shape)] for _ in range(2))
    with torch._dynamo.config.patch(error_on_recompile=True):
        for lengths in ([5, 11], [6, 2]):
            lengths = torch.tensor(lengths, dtype=torch.int32)
            torch.testing.assert_close(compiled(q, k, v, *ours, lengths, table), step(q, k, v, *theirs, lengths, table))
            torch.testing.assert_close(ours, theirs)


def test_custom_operators_are_registered_as_pytorch_wants_them():
    q, k, v = tensors(b=1, h_q=2, h_kv=2, s_q=5, s_kv=6)
    identity = tw.zoo.causal()._id
    for rows in (None, torch.tensor([[3, 5, 2, 0, 0, 0, 0]])):
        arguments = (q, k, v, [], [], None, rows, None, None, None, identity, "", [0], None, None, None, 0, "bhsd", False)
        torch.library.opcheck(torch.ops.tilewise.attention.default, arguments)


def test_gradcheck_through_the_operators():
    q, k, v = tensors(b=1, h_q=2, h_kv=1, s_q=4, s_kv=5, d=3, d_v=2, dtype=torch.float64)
    bias, logit = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in ((2, 9), (2,)))
    cap = torch.tensor(2.0, dtype=torch.float64, requires_grad=True)
    c = tw.Parameter("cap")
    b, s = tw.Table("bias", "float64", 2), tw.Table("logit", "float64", 1)
    variant = (tw.score(lambda score, at: c * tw.tanh(score / c) + b.clamped[at.head, at.query - at.key + 4])
               & tw.sink(lambda at: s[at.head]))

    def function(q, k, v, bias, logit, cap):
        o, lse = torch.ops.tilewise.attention(q, k, v, [bias, logit], [cap], None, None, None, None, None, variant._id,
                                              "cap", [0], 0.7, None, None, 0, "bhsd", False)
        return o, lse

    assert torch.autograd.gradcheck(function, (q, k, v, bias, logit, cap))
