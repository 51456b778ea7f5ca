"""PyTorch's and CuPy's arrays on a CUDA GPU. Skipped without one, failed where TILEWISE_REQUIRE_GPU is set."""

import itertools
import os
import subprocess
import sys

import numpy
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    assert "TILEWISE_REQUIRE_GPU" not in os.environ, "PyTorch shows no GPU"
    pytest.skip("PyTorch shows no GPU", allow_module_level=True)

import tilewise as tw  # noqa: E402
import tilewise.torch  # noqa: E402
import torch.nn.functional as functional  # noqa: E402
from torch.nn.attention import flex_attention as flex  # noqa: E402

# Inputs of 8 or 11 bits, weights rounded to as many before the second product: norm of the error over the norm.
# Of float32 both sides lose as much over sums of some hundred terms.
ERROR = {torch.bfloat16: 6e-3, torch.float16: 1e-3, torch.float32: 1e-5}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(2)


def tensors(b=2, h_q=4, h_kv=2, s_q=200, s_kv=200, d=64, d_v=64, dtype=torch.bfloat16, requires_grad=True):
    shapes = (b, h_q, s_q, d), (b, h_kv, s_kv, d), (b, h_kv, s_kv, d_v)
    return [torch.randn(shape, device="cuda", dtype=dtype).requires_grad_(requires_grad) for shape in shapes]


def formula(q, k, v, scores=lambda s: s, mask=None):
    """In float32; gradients reach the arguments."""
    q, k, v = (each.float() for each in (q, k, v))
    k, v = (each.repeat_interleave(q.shape[1] // each.shape[1], dim=1) for each in (k, v))
    s = scores(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5)
    return (s if mask is None else s.masked_fill(~mask, -torch.inf)).softmax(-1) @ v


def causal(s_q, s_kv):
    return torch.ones(s_q, s_kv, dtype=torch.bool, device="cuda").tril(s_kv - s_q)


def expect_close(ours, theirs, dtype, factor=1.0):
    error = (ours.float() - theirs.float()).norm() / theirs.float().norm()
    assert error < factor * ERROR[dtype], f"off by {error:.1e}"


def expect_equal(ours, theirs, inputs):
    """Outputs, and the gradients of a random loss in them."""
    dtype = ours.dtype
    expect_close(ours, theirs, dtype)
    d_o = torch.randn_like(ours)
    found = torch.autograd.grad(ours, inputs, d_o, retain_graph=True)
    for mine, other in zip(found, torch.autograd.grad(theirs, inputs, d_o.float(), retain_graph=True)):
        assert mine.device == other.device and mine.dtype == other.dtype
        expect_close(mine, other, dtype, 3)  # o is rounded, and enters with d_o once more


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
@pytest.mark.parametrize(("d", "d_v"), [(64, 64), (128, 128), (192, 128)])
def test_values_and_gradients(dtype, d, d_v):
    q, k, v = tensors(d=d, d_v=d_v, dtype=dtype, s_q=150, s_kv=333)
    o, lse = tw.attention(q, k, v, tw.zoo.causal(), return_lse=True)
    assert (o.device, o.dtype, lse.dtype) == (q.device, dtype, torch.float32)
    expect_equal(o, formula(q, k, v, mask=causal(150, 333)), (q, k, v))
    expect_equal(tw.attention(q, k, v), formula(q, k, v), (q, k, v))


def test_tables_sinks_parameters_and_lse_have_gradients():
    q, k, v = tensors()
    bias = torch.randn(4, 200, device="cuda", requires_grad=True)
    logit = torch.randn(4, device="cuda", requires_grad=True)
    cap = torch.tensor(3.0, device="cuda", requires_grad=True)
    variant = (tw.zoo.causal() & tw.score(lambda s, at: cap * tw.tanh(s / cap) + bias[at.head, at.query - at.key])
               & tw.zoo.attention_sink(logit))
    o, lse = tw.attention(q, k, v, variant, return_lse=True)
    i = torch.arange(200, device="cuda")
    wide = [each.float().repeat_interleave(2, dim=1) for each in (k, v)]
    s = q.float() @ wide[0].transpose(-1, -2) / 8
    s = (cap * torch.tanh(s / cap) + bias[:, (i[:, None] - i).clamp(min=0)]).masked_fill(~causal(200, 200), -torch.inf)
    expected_lse = torch.logaddexp(s.logsumexp(-1), logit[:, None].expand(4, 200))
    expected = (s - expected_lse[..., None]).exp() @ wide[1]
    torch.testing.assert_close(lse, expected_lse, rtol=1e-4, atol=1e-4)
    d_o, d_lse = torch.randn_like(o), torch.randn_like(lse)
    leaves = (q, k, v, bias, logit, cap)
    found = torch.autograd.grad((o, lse), leaves, (d_o, d_lse))
    for mine, other in zip(found, torch.autograd.grad((expected, expected_lse), leaves, (d_o.float(), d_lse))):
        expect_close(mine, other, torch.bfloat16, 3)


def test_strides_and_layouts():
    q, k, v = tensors(requires_grad=False, h_kv=4)
    expected = tw.attention(q, k, v)
    swapped = [each.transpose(1, 2).contiguous() for each in (q, k, v)]
    torch.testing.assert_close(tw.attention(*swapped, layout="bshd").transpose(1, 2), expected, rtol=0, atol=0)
    torch.testing.assert_close(tw.attention(*(each.transpose(1, 2) for each in swapped)), expected, rtol=0, atol=0)
    turned = [each.transpose(2, 3).contiguous().transpose(2, 3) for each in (q, k, v)]
    torch.testing.assert_close(tw.attention(*turned), expected, rtol=0, atol=0)
    odd = [functional.pad(each, (0, 1))[..., :-1] for each in (q, k, v)]  # rows begin at multiples of 2 bytes alone
    expect_close(tw.attention(*odd), expected, torch.bfloat16)


def test_the_current_stream_is_taken():
    """Inputs that are written late on a stream are read behind that, forward and backward."""
    given = tensors(requires_grad=False)
    weights = torch.randn_like(given[0])
    expected = formula(*given, mask=causal(200, 200))
    late = [torch.full_like(each, torch.nan).requires_grad_() for each in given]
    leaves = [each.clone().requires_grad_() for each in given]
    tw.attention(*leaves, tw.zoo.causal()).sum().backward()  # compiles, and makes the plans
    torch.cuda.synchronize()
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(1_000_000_000)  # half a second
        with torch.no_grad():
            for into, each in zip(late, given):
                into.copy_(each)
        o = tw.attention(*late, tw.zoo.causal())
        (o * weights).sum().backward()
        kept = o.detach().clone()
    assert not stream.query()  # nothing has waited
    stream.synchronize()
    expect_close(kept, expected, torch.bfloat16)
    leaves = [each.clone().requires_grad_() for each in given]
    (formula(*leaves, mask=causal(200, 200)) * weights).sum().backward()
    for mine, other in zip(late, leaves):
        expect_close(mine.grad, other.grad, torch.bfloat16, 3)


def test_packed_sequences():
    lengths = [100, 0, 37, 250]
    q, k, v = (torch.randn(4, sum(lengths), 64, device="cuda", dtype=torch.bfloat16).requires_grad_() for _ in range(3))
    ours = tw.attention(q, k, v, tw.zoo.causal(), sequences=lengths)
    ends = [0, *itertools.accumulate(lengths)]
    parts = [formula(*(each[None, :, begin:end] for each in (q, k, v)), mask=causal(end - begin, end - begin))[0]
             for begin, end in itertools.pairwise(ends) if end > begin]
    expect_equal(ours, torch.cat(parts, 1), (q, k, v))


def test_dropout_follows_manual_seed_and_drops_what_the_processor_drops():
    q, k, v = tensors(requires_grad=False, dtype=torch.float16)
    results = []
    for seed in (5, 5, 6):
        torch.manual_seed(seed)
        results.append(tilewise.torch.scaled_dot_product_attention(q, k, v, dropout_p=0.4, enable_gqa=True))
    assert (results[0] == results[1]).all() and (results[0] != results[2]).any()
    on_processor = tw.attention(*(each.cpu() for each in (q, k, v)), dropout=0.4, seed=9)
    expect_close(tw.attention(q, k, v, dropout=0.4, seed=9).cpu(), on_processor, torch.float16, 2)


def test_deterministic_gradients():
    q, k, v = tensors(s_q=700, s_kv=1500)
    bias = torch.zeros(4, device="cuda", requires_grad=True)
    variant = tw.score(lambda s, at: s + bias[at.head] * (at.query - at.key)) & tw.zoo.window(300)
    o = tw.attention(q, k, v, variant, deterministic=True)
    d_o = torch.randn_like(o)
    first, again = (torch.autograd.grad(o, (q, k, v, bias), d_o, retain_graph=True) for _ in range(2))
    assert all((a == b).all() for a, b in zip(first, again))
    torch.use_deterministic_algorithms(True)
    try:
        told = torch.autograd.grad(tw.attention(q, k, v, variant), (q, k, v, bias), d_o)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all((a == b).all() for a, b in zip(first, told))


# Drop-ins


@pytest.mark.parametrize("kind", ["none", "causal", "bool", "float", "empty blocks"])
def test_sdpa(kind):
    q, k, v = tensors(h_kv=4, s_q=300, s_kv=300)
    mask = {"bool": torch.rand(2, 1, 300, 300, device="cuda") < 0.7, "float": torch.randn(4, 300, 300, device="cuda"),
            "empty blocks": causal(300, 300) & (torch.rand(1, 300, device="cuda") < 0.9)}.get(kind)
    if mask is not None and mask.dtype == torch.bool:
        mask[..., 0] = True
    ours = tilewise.torch.scaled_dot_product_attention(q, k, v, mask, is_causal=kind == "causal")
    wide = [each.float() for each in (q, k, v)]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        theirs = functional.scaled_dot_product_attention(*wide, mask, is_causal=kind == "causal")
    expect_equal(ours, theirs, (q, k, v))


def test_flash_attn_functions():
    q, k, v = (torch.randn(2, s, h, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
               for s, h in ((190, 4), (333, 2), (333, 2)))
    slopes = torch.rand(4, device="cuda")
    ours = tilewise.torch.flash_attn_func(q, k, v, causal=True, window_size=(100, 0), softcap=15.0, alibi_slopes=slopes,
                                          deterministic=True)
    distance = torch.arange(190, device="cuda")[:, None] + 333 - 190 - torch.arange(333, device="cuda")
    theirs = formula(*(each.transpose(1, 2) for each in (q, k, v)),
                     lambda s: 15 * torch.tanh(s / 15) - slopes[:, None, None] * distance.abs(),
                     (distance >= 0) & (distance <= 100)).transpose(1, 2)
    expect_equal(ours, theirs, (q, k, v))
    ends = [torch.tensor([0, *itertools.accumulate(each)], device="cuda", dtype=torch.int32)
            for each in ([90, 290], [133, 533])]
    flat = [each.reshape(-1, *each.shape[2:]) for each in (q, k, v)]
    ours = tilewise.torch.flash_attn_varlen_func(*flat, *ends, 290, 533, causal=True)
    parts = []
    for (q0, q1), (k0, k1) in zip(itertools.pairwise(ends[0].tolist()), itertools.pairwise(ends[1].tolist())):
        one = [each[None].transpose(1, 2) for each in (flat[0][q0:q1], flat[1][k0:k1], flat[2][k0:k1])]
        parts.append(formula(*one, mask=causal(q1 - q0, k1 - k0)).transpose(1, 2)[0])
    expect_equal(ours, torch.cat(parts), (q, k, v))


@pytest.mark.parametrize("is_paged", [False, True])
def test_flash_attn_with_kvcache(is_paged):
    q, new_k, new_v = (torch.randn(2, 1, h, 128, device="cuda", dtype=torch.bfloat16) for h in (8, 2, 2))
    full_k, full_v = (torch.randn(2, 512, 2, 128, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    lengths = torch.tensor([70, 511], dtype=torch.int32, device="cuda")
    cache_k, cache_v, options = full_k.clone(), full_v.clone(), {}
    if is_paged:
        order = torch.randperm(16, device="cuda").view(2, 8)
        cache_k, cache_v = (torch.empty(16, 64, 2, 128, device="cuda", dtype=torch.bfloat16) for _ in range(2))
        cache_k[order], cache_v[order] = full_k.view(2, 8, 64, 2, 128), full_v.view(2, 8, 64, 2, 128)
        options["block_table"] = order.to(torch.int32)
    o = tilewise.torch.flash_attn_with_kvcache(q, cache_k, cache_v, new_k, new_v, cache_seqlens=lengths, causal=True,
                                               **options)
    for row, length in enumerate(lengths.tolist()):
        keys, values = (torch.cat([full[row, :length], new[row]])[None].transpose(1, 2)
                        for full, new in ((full_k, new_k), (full_v, new_v)))
        expect_close(o[row : row + 1].transpose(1, 2), formula(q[row : row + 1].transpose(1, 2), keys, values),
                     torch.bfloat16)


def test_flex_attention():
    q, k, v = tensors(h_kv=4, s_q=256, s_kv=256)
    bias = torch.randn(4, 511, device="cuda", requires_grad=True)
    document = torch.arange(256, device="cuda") // 100
    mask = flex.create_block_mask(lambda b, h, i, j: (document[i] == document[j]) & (i >= j), None, None, 256, 256,
                                  device="cuda")
    ours = tilewise.torch.flex_attention(q, k, v, lambda s, b, h, i, j: s + bias[h, i - j + 255], mask)
    i = torch.arange(256, device="cuda")
    kept = (document[:, None] == document) & (i[:, None] >= i)
    theirs = formula(q, k, v, lambda s: s + bias[:, i[:, None] - i + 255], kept)
    expect_equal(ours, theirs, (q, k, v, bias))


# Graphs


@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_torch_compile(backend):
    variant = tw.zoo.window(64)

    def function(q, k, v):
        return tw.attention(q * 1.5, k, v, variant).sin() + q

    compiled = torch.compile(function, fullgraph=True, backend=backend)
    q, k, v = tensors()
    wide = formula(q * 1.5, k, v, mask=causal(200, 200) & ~causal(200, 200).tril(-64))
    expect_equal(compiled(q, k, v), wide.sin() + q.float(), (q, k, v))


def test_sequences_and_pages_in_a_compiled_graph():
    q, k, v = (torch.randn(300, h, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True) for h in (4, 2, 2))
    ends = torch.tensor([0, 100, 300], device="cuda", dtype=torch.int32)

    def packed(q, k, v, ends):
        return tilewise.torch.flash_attn_varlen_func(q, k, v, ends, ends, 200, 200, causal=True)

    parts = []
    for begin, end in ((0, 100), (100, 300)):
        one = [each[None, begin:end].transpose(1, 2) for each in (q, k, v)]
        parts.append(formula(*one, mask=causal(end - begin, end - begin)).transpose(1, 2)[0])
    expect_equal(torch.compile(packed, fullgraph=True, backend="aot_eager")(q, k, v, ends), torch.cat(parts), (q, k, v))
    q, k, v = (torch.randn(2, 1, h, 64, device="cuda", dtype=torch.bfloat16) for h in (4, 2, 2))
    table = torch.randperm(8, device="cuda").to(torch.int32).view(2, 4)
    lengths = torch.tensor([70, 200], device="cuda", dtype=torch.int32)

    def step(q, k, v, cache_k, cache_v):
        return tilewise.torch.flash_attn_with_kvcache(q, cache_k, cache_v, k, v, cache_seqlens=lengths, causal=True,
                                                      block_table=table)

    caches = [torch.randn(8, 64, 2, 64, device="cuda", dtype=torch.bfloat16) for _ in range(2)]
    others = [each.clone() for each in caches]
    ours = torch.compile(step, fullgraph=True, backend="aot_eager")(q, k, v, *caches)
    expect_close(ours, step(q, k, v, *others), torch.bfloat16)
    assert all((mine == other).all() for mine, other in zip(caches, others))


def test_cuda_graphs():
    """A captured step, forward and backward, serves new inputs, also once other calls have needed more memory."""
    static = tensors()
    bias = torch.randn(4, 200, device="cuda", requires_grad=True)
    variant = tw.zoo.causal() & tw.score(lambda s, at: s + bias[at.head, at.query - at.key])
    leaves = [*static, bias]

    def step():
        o = tw.attention(*static, variant)
        return o, *torch.autograd.grad(o.float().square().sum(), leaves)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for repeat in range(2):
        with torch.no_grad():
            for each in static:
                each.copy_(torch.randn_like(each))
        if repeat == 1:
            large = tensors(s_q=3000, s_kv=3000)
            tw.attention(*large, variant=tw.zoo.causal()).sum().backward()
        graph.replay()
        i = torch.arange(200, device="cuda")
        expected = formula(*static, lambda s: s + bias[:, (i[:, None] - i).clamp(min=0)], causal(200, 200))
        expect_close(captured[0], expected, torch.bfloat16)
        wanted = torch.autograd.grad(expected.to(torch.bfloat16).float().square().sum(), leaves)
        for mine, other in zip(captured[1:], wanted):
            expect_close(mine, other, torch.bfloat16, 4)


# Other frameworks


def test_cupys_arrays_on_their_stream():
    cupy = pytest.importorskip("cupy")
    q, k, v = tensors(requires_grad=False, dtype=torch.float16)
    expected = tw.attention(q, k, v, tw.zoo.causal())
    with cupy.cuda.Stream(non_blocking=True) as stream:
        o = tw.attention(*(cupy.from_dlpack(each) for each in (q, k, v)), tw.zoo.causal())
        stream.synchronize()
    assert isinstance(o, cupy.ndarray)
    numpy.testing.assert_array_equal(cupy.asnumpy(o), expected.cpu().numpy())


def test_a_model_of_transformers():
    transformers = pytest.importorskip("transformers")
    import tilewise.transformers

    tilewise.transformers.register()
    config = transformers.LlamaConfig(hidden_size=256, intermediate_size=256, num_hidden_layers=2, num_attention_heads=4,
                                      num_key_value_heads=2, vocab_size=100)
    model = transformers.LlamaForCausalLM._from_config(config, attn_implementation="sdpa").cuda().to(torch.bfloat16)
    ids = torch.randint(1, 90, (2, 40), device="cuda")
    mask = torch.ones_like(ids)
    mask[0, :9] = 0
    outputs = []
    for implementation in ("sdpa", "tilewise"):
        model.set_attn_implementation(implementation)
        logits = model(input_ids=ids, attention_mask=mask).logits * mask[..., None]
        model.generate(ids, attention_mask=mask, max_new_tokens=4, do_sample=False, pad_token_id=0)
        outputs.append((logits, torch.autograd.grad(logits.float().square().mean(), model.model.embed_tokens.weight)[0]))
    for ours, theirs in zip(outputs[1], outputs[0]):
        expect_close(ours, theirs, torch.bfloat16, 5)  # two layers of a model in bfloat16, both rounded


def test_a_process_ends_in_peace():
    """Plans and memory that live until the end are let go when the driver may be gone already."""
    program = """
import torch, tilewise as tw, tilewise.torch
q = torch.randn(1, 2, 64, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
bias = tw.table(torch.zeros(64), frozen=True)
o = tw.attention(q, q, q, tw.score(lambda s, at: s + bias[at.key]))
o.sum().backward()
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_first_call_with_gradients_compiles_both_passes(tmp_path):
    """Side by side, which takes as long as the slower one."""
    program = """
import pathlib, sys, torch, tilewise as tw, tilewise.torch
kernels = lambda: sorted(path.name for path in pathlib.Path(sys.argv[1]).rglob("*.kernel"))
q = torch.randn(1, 2, 64, 64, device="cuda", dtype=torch.bfloat16)
tw.attention(q, q, q, "score(s + 1)")
forward = kernels()
o = tw.attention(q.requires_grad_(), q, q, "score(s + 2)")
both = kernels()
o.sum().backward()
print(len(forward), len(both), kernels() == both)
"""
    done = subprocess.run([sys.executable, "-c", program, tmp_path], capture_output=True, text=True, check=False,
                          timeout=120, env={**os.environ, "TILEWISE_CACHE_DIR": str(tmp_path)})
    assert (done.returncode, done.stderr) == (0, "")
    forward, both, is_all = done.stdout.split()
    assert 0 < int(forward) < int(both) and is_all == "True"


def test_refusals():
    q, k, v = tensors(requires_grad=False)
    with pytest.raises(tw.InvalidArgument, match="k lies on cpu and q on cuda:0"):
        tw.attention(q, k.cpu(), v)
    with pytest.raises(tw.Unsupported, match="float64"):
        tw.attention(*(each.double() for each in (q, k, v)))
    bias = numpy.zeros(200, numpy.float32)
    with pytest.raises(tw.InvalidArgument, match="bias.*host"):
        tw.attention(q, k, v, tw.score(lambda s, at: s + bias[at.key]))
