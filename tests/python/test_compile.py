"""Attention in graphs of torch.compile."""

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


def test_custom_operators_are_registered_as_pytorch_wants_them():
    q, k, v = tensors(b=1, h_q=2, h_kv=2, s_q=5, s_kv=6)
    identity = tw.zoo.causal()._id
    arguments = (q, k, v, [], [], torch.tensor(0), identity, "", None, None, None, 0, "bhsd", False)
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
        o, lse = torch.ops.tilewise.attention(q, k, v, [bias, logit], [cap], torch.tensor(0), variant._id, "cap", 0.7, None,
                                              None, 0, "bhsd", False)
        return o, lse

    assert torch.autograd.gradcheck(function, (q, k, v, bias, logit, cap))
