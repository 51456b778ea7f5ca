"""Compares the logits of a GGUF model with those that transformers computes from the same file, dequantised, in float64.

Usage: compare_logits.py <logits program> <GGUF file> <text> [tokens] [cache dtype] [tokens of a chunk]

Needs numpy, torch, transformers and gguf. The tokens are transformers' own, so that only logits are compared.
"""

import pathlib
import subprocess
import sys
import tempfile

import numpy
import torch
import transformers


def reference(file, text, count):
    """Tokens, and their logits in float64. Rotary angles stay float32, as they are in transformers."""
    folder, name = str(file.parent), file.name
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, gguf_file=name)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, dtype=torch.float32)
    tokens = tokenizer(text)["input_ids"][:count]
    with torch.no_grad():
        logits = model.double().eval()(torch.tensor([tokens])).logits[0].numpy()
    return tokens, logits


def compare(ours, theirs):
    ours = ours.astype(numpy.float64)
    difference = numpy.abs(ours - theirs).max(axis=1)
    ordered = numpy.sort(theirs, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    same = ours.argmax(axis=1) == theirs.argmax(axis=1)
    log_p = theirs - numpy.logaddexp.reduce(theirs, axis=1, keepdims=True)
    log_q = ours - numpy.logaddexp.reduce(ours, axis=1, keepdims=True)
    divergence = (numpy.exp(log_p) * (log_p - log_q)).sum(axis=1)
    return difference, margin, same, divergence


def main():
    program, file, text = sys.argv[1], pathlib.Path(sys.argv[2]), pathlib.Path(sys.argv[3]).read_text()
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 2048
    dtype = sys.argv[5] if len(sys.argv) > 5 else "float32"
    chunk = sys.argv[6] if len(sys.argv) > 6 else "256"
    tokens, theirs = reference(file, text, count)
    print(f"{len(tokens)} tokens, logits up to {numpy.abs(theirs).max():.1f}")
    with tempfile.TemporaryDirectory() as folder:
        ids, logits = pathlib.Path(folder, "tokens"), pathlib.Path(folder, "logits")
        ids.write_bytes(numpy.array(tokens, numpy.int32).tobytes())
        for precision in ("precise", "rounded"):
            subprocess.run([program, file, ids, logits, precision, dtype, chunk], check=True)
            ours = numpy.memmap(logits, numpy.float32).reshape(theirs.shape)
            parts = [compare(ours[i:i + 256], theirs[i:i + 256]) for i in range(0, len(tokens), 256)]
            difference, margin, same, divergence = (numpy.concatenate(values) for values in zip(*parts))
            clear = margin > difference.max()
            print(f"{precision}: largest difference {difference.max():.2e}; same top token {same.mean():.4%}, "
                  f"{same[clear].mean():.4%} of the {clear.sum()} with a margin above that; "
                  f"KL divergence mean {divergence.mean():.2e}, largest {divergence.max():.2e}", flush=True)


if __name__ == "__main__":
    main()
