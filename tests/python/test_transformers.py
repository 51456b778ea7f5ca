"""transformers: models with attn_implementation="tilewise" against "sdpa"."""

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
import tilewise.transformers  # noqa: E402

torch.set_num_threads(2)
tilewise.transformers.register()
SIZES = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 100}
GROUPED = {**SIZES, "num_key_value_heads": 2}
MODELS = {
    "llama": lambda: (transformers.LlamaForCausalLM, transformers.LlamaConfig(**GROUPED)),
    "mistral, sliding window": lambda: (transformers.MistralForCausalLM,
                                        transformers.MistralConfig(**GROUPED, sliding_window=6)),
    "bert": lambda: (transformers.BertModel, transformers.BertConfig(**SIZES)),
}


def padding(side):
    mask = torch.ones(2, 17, dtype=torch.long)
    if side == "left":
        mask[0, :5] = 0
    elif side == "right":
        mask[1, 11:] = 0
    return None if side == "none" else mask


@pytest.mark.parametrize("side", ["none", "left", "right"])
@pytest.mark.parametrize("name", MODELS)
def test_outputs_and_a_training_step(name, side):
    torch.manual_seed(0)
    kind, config = MODELS[name]()
    model = kind._from_config(config, attn_implementation="sdpa").eval()
    ids, mask = torch.randint(1, 90, (2, 17)), padding(side)
    outputs, gradients = [], []
    for implementation in ("sdpa", "tilewise"):
        model.set_attn_implementation(implementation)
        model.zero_grad()
        result = model(input_ids=ids, attention_mask=mask)
        output = result.logits if hasattr(result, "logits") else result.last_hidden_state
        output = output if mask is None else output * mask[..., None]  # what padding computes means nothing
        output.square().mean().backward()
        outputs.append(output)
        gradients.append([each.grad.clone() for each in model.parameters() if each.grad is not None])
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-5)
    for ours, theirs in zip(gradients[1], gradients[0], strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("side", ["none", "left"])
@pytest.mark.parametrize("name", [each for each in MODELS if each != "bert"])
@pytest.mark.parametrize("use_cache", [True, False])
def test_generation(name, side, use_cache):
    torch.manual_seed(0)
    kind, config = MODELS[name]()
    model = kind._from_config(config, attn_implementation="sdpa").eval()
    ids, mask = torch.randint(1, 90, (2, 17)), padding(side)
    results = []
    for implementation in ("sdpa", "tilewise"):
        model.set_attn_implementation(implementation)
        results.append(model.generate(ids, attention_mask=mask, max_new_tokens=8, do_sample=False, pad_token_id=0,
                                      use_cache=use_cache, output_logits=True, return_dict_in_generate=True))
    assert (results[0].sequences == results[1].sequences).all()
    for theirs, ours in zip(results[0].logits, results[1].logits, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_no_mask_is_stored():
    made = tilewise.transformers.mask(batch_size=1, q_length=10**6, kv_length=10**6, q_offset=0, kv_offset=0)
    assert str(made.variant) == "keep(key <= query)" and made.sequences is None


def test_weights_are_refused_by_name():
    kind, config = MODELS["llama"]()
    model = kind._from_config(config, attn_implementation="tilewise")
    layer = model.model.layers[0].self_attn
    q = torch.randn(1, 4, 3, 16)
    with pytest.raises(tilewise.Unsupported, match="output_attentions"):
        tilewise.transformers.attention_forward(layer, q, q, q, None, output_attentions=True)
