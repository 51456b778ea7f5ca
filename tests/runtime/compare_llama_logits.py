"""Compares models that `tilewise quantize` wrote, one for each kind of rotary scaling, with llama.cpp's logits of the same
files: whether GGUF's settings mean there what they mean here.

Usage: compare_llama_logits.py <tilewise> <tilewise_runtime_logits>

Needs numpy, gguf and llama-cpp-python, in an environment of its own. Ends with status 1 where a logit differs by more
than 1e-4 of the largest.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile

import gguf
import llama_cpp
import numpy

DATA = pathlib.Path(__file__).parent / "data"
YARN = ('"rope_type": "llama3"', '"rope_type": "yarn"')
# Not yarn's beta_fast and beta_slow, which llama.cpp leaves unread in files of these architectures.
MODELS = {
    "llama3": ("llama", ("", "")),
    "yarn": ("llama", YARN),
    "yarn with a magnitude": ("llama", (YARN[0], YARN[1] + ', "attention_factor": 0.6')),
    "linear": ("llama_linear", ("", "")),
    "longrope": ("llama_longrope", ("", "")),
}
VOCABULARY = 64
TOKENS = numpy.array([(i * i * 7 + 3) % VOCABULARY for i in range(20)], "<i4")


def written(tilewise, model, change, folder):
    """What quantize writes of a model with a change to its settings."""
    source = folder / "source"
    shutil.copytree(DATA / model, source, dirs_exist_ok=True)
    config = source / "config.json"
    text = config.read_text()
    assert change[0] in text
    config.write_text(text.replace(*change) if change[0] else text)
    subprocess.run([tilewise, "quantize", source, folder / "written.gguf"], check=True, stdout=subprocess.DEVNULL)
    return folder / "written.gguf"


def without_tokenizer(path):
    """The same in float32, and told to have no tokenizer, without which llama.cpp opens nothing."""
    reader, result = gguf.GGUFReader(path), path.with_name("plain.gguf")
    writer = gguf.GGUFWriter(result, "llama")
    for key, field in reader.fields.items():
        if not key.startswith("GGUF.") and key != "general.architecture":
            writer.add_key_value(key, field.contents(), field.types[0])
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(VOCABULARY)
    for tensor in reader.tensors:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype("<f4")
        writer.add_tensor(tensor.name, values.reshape([int(extent) for extent in reversed(tensor.shape)]))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return result


def theirs(path):
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = options.n_batch = VOCABULARY
    options.type_k = options.type_v = llama_cpp.GGML_TYPE_F32
    options.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED  # which would round to 16 bits
    context = llama_cpp.llama_init_from_model(model, options)
    batch = llama_cpp.llama_batch_init(len(TOKENS), 0, 1)
    batch.n_tokens = len(TOKENS)
    for i, token in enumerate(TOKENS):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.seq_id[i][0], batch.logits[i] = token, i, 1, 0, 1
    assert llama_cpp.llama_decode(context, batch) == 0
    rows = [numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), shape=(VOCABULARY,)).copy()
            for i in range(len(TOKENS))]
    return numpy.stack(rows)


def ours(program, path):
    tokens, logits = path.with_name("tokens"), path.with_name("logits")
    tokens.write_bytes(TOKENS.tobytes())
    subprocess.run([program, path, tokens, logits, "precise", "float32", "64"], check=True, stdout=subprocess.DEVNULL)
    return numpy.fromfile(logits, "<f4").reshape(len(TOKENS), VOCABULARY)


def main():
    tilewise, program = sys.argv[1:]
    llama_cpp.llama_backend_init()
    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, None)
    worst = 0
    for name, (model, change) in MODELS.items():
        with tempfile.TemporaryDirectory() as folder:
            path = without_tokenizer(written(tilewise, model, change, pathlib.Path(folder)))
            expected, got = theirs(path), ours(program, path)
        difference, largest = abs(got - expected).max(), abs(expected).max()
        print(f"{name}: logits of up to {largest:.2f} differ by at most {difference:.1e}")
        worst = max(worst, difference / largest)
    sys.exit(int(worst > 1e-4))


if __name__ == "__main__":
    main()
