"""transformers: models with attn_implementation="tilewise" against "sdpa", and "eager" where that is all there is."""

import functools
import os
import pathlib

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import tilewise.transformers  # noqa: E402

torch.set_num_threads(2)
tilewise.transformers.register()
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
GROUPED = {**SIZES, "num_key_value_heads": 2}
MODELS = {
    "llama": lambda: (transformers.LlamaForCausalLM, transformers.LlamaConfig(**GROUPED), "sdpa"),
    "mistral, sliding window": lambda: (transformers.MistralForCausalLM,
                                        transformers.MistralConfig(**GROUPED, sliding_window=6), "sdpa"),
    "gemma 2, capped scores": lambda: (transformers.Gemma2ForCausalLM,
                                       transformers.Gemma2Config(**GROUPED, head_dim=16, sliding_window=6,
                                                                 attn_logit_softcapping=2.0), "eager"),
    "gpt-oss, sinks": lambda: (transformers.GptOssForCausalLM,
                               transformers.GptOssConfig(**GROUPED, head_dim=16, sliding_window=6, num_local_experts=2,
                                                         num_experts_per_tok=1), "eager"),
    "bert": lambda: (transformers.BertModel, transformers.BertConfig(**SIZES), "sdpa"),
}


def padding(side):
    mask = torch.ones(2, 17, dtype=torch.long)
    if side == "left":
        mask[0, :5] = 0
    elif side == "right":
        mask[1, 11:] = 0
    return None if side == "none" else mask


def outputs_and_gradients(model, implementation, mask, **inputs):
    """What the model computes where its mask keeps, and the gradients of a loss in that."""
    model.set_attn_implementation(implementation)
    model.zero_grad()
    result = model(attention_mask=mask, **inputs)
    output = result.logits if hasattr(result, "logits") else result.last_hidden_state
    output = output if mask is None else output * mask[..., None]  # what padding computes means nothing
    output.square().mean().backward()
    return output.detach(), [each.grad.clone() for each in model.parameters() if each.grad is not None]


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_a_training_step(name, side):
    torch.manual_seed(0)
    kind, config, peer = MODELS[name]()
    model = kind._from_config(config, attn_implementation=peer).eval()
    ids, mask = torch.randint(1, 90, (2, 17)), padding(side)
    theirs, ours = (outputs_and_gradients(model, each, mask, input_ids=ids) for each in (peer, "tilewise"))
    torch.testing.assert_close(ours[0], theirs[0], rtol=1e-4, atol=1e-5)
    for mine, other in zip(ours[1], theirs[1], strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("side", ["none", "left"])
@pytest.mark.parametrize("name", [each for each in MODELS if each != "bert"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_generation(name, side, use_cache):
    torch.manual_seed(0)
    kind, config, peer = MODELS[name]()
    model = kind._from_config(config, attn_implementation=peer).eval()
    expect_equal_generations(model, peer, torch.randint(1, 90, (2, 17)), padding(side), use_cache)


def expect_equal_generations(model, peer, ids, mask, use_cache):
    results = []
    for implementation in (peer, "tilewise"):
        model.set_attn_implementation(implementation)
        results.append(model.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0,
                                      use_cache=use_cache, output_logits=True, return_dict_in_generate=True))
    assert (results[0].sequences == results[1].sequences).all()
    for theirs, ours in zip(results[0].logits, results[1].logits, strict=True):
        assert (ours - theirs).norm() <= 1e-4 * theirs.norm()


# Real models: TILEWISE_MODELS names the folder that the other tests read them from.


def real(pattern):
    if "TILEWISE_MODELS" not in os.environ:
        assert os.environ.get("TILEWISE_REQUIRE_MODELS") != "1", "TILEWISE_MODELS is not set"
        pytest.skip("TILEWISE_MODELS is not set")
    return next(pathlib.Path(os.environ["TILEWISE_MODELS"]).glob(pattern))


@pytest.fixture(scope="module")
def smollm2():
    gguf = pytest.importorskip("gguf")
    file = real("**/*.gguf")
    with pytest.MonkeyPatch.context() as patch:  # transformers makes the same map for each of some hundred modules
        patch.setattr(gguf, "get_tensor_name_map", functools.lru_cache(gguf.get_tensor_name_map))
        return transformers.LlamaForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()


def expect_close(ours, theirs):
    """Of outputs_and_gradients(). Each of up to 30 layers rounds anew, in another order."""
    assert (ours[0] - theirs[0]).norm() <= 1e-4 * theirs[0].norm()
    # A bias of all keys shifts all scores of a row alike: its gradient is 0 but for rounding.
    negligible = 1e-6 * sum(each.norm() ** 2 for each in theirs[1]) ** 0.5
    for mine, other in zip(ours[1], theirs[1], strict=True):
        assert (mine - other).norm() <= 1e-3 * other.norm() + negligible


@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_a_pretrained_language_model(smollm2, side):
    torch.manual_seed(0)
    ids, mask = torch.randint(1, 40000, (2, 17)), padding(side)
    theirs, ours = (outputs_and_gradients(smollm2, each, mask, input_ids=ids) for each in ("sdpa", "tilewise"))
    expect_close(ours, theirs)


@pytest.mark.parametrize("use_cache", [True, False])
def test_a_pretrained_language_model_generates(smollm2, use_cache):
    ids = torch.randint(1, 40000, (2, 17), generator=torch.Generator().manual_seed(1))
    expect_equal_generations(smollm2, "sdpa", ids, padding("left"), use_cache)


def test_a_pretrained_encoder():
    model = transformers.BertModel.from_pretrained(real("**/model.safetensors").parent).eval()
    torch.manual_seed(0)
    ids, mask = torch.randint(1000, 20000, (2, 17)), padding("right")
    theirs, ours = (outputs_and_gradients(model, each, mask, input_ids=ids) for each in ("sdpa", "tilewise"))
    expect_close(ours, theirs)


def test_no_mask_is_stored():
    made = tilewise.transformers.mask(batch_size=1, q_length=10**6, kv_length=10**6, q_offset=0, kv_offset=0)
    assert str(made.variant) == "keep(key <= query)" and made.sequences is None


def test_weights_are_refused_by_name():
    kind, config, _ = MODELS["llama"]()
    model = kind._from_config(config, attn_implementation="tilewise")
    layer = model.model.layers[0].self_attn
    q = torch.randn(1, 4, 3, 16)
    with pytest.raises(tilewise.Unsupported, match="output_attentions"):
        tilewise.transformers.attention_forward(layer, q, q, q, None, output_attentions=True)
