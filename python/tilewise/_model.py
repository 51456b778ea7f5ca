"""Model: an opened language model, on the processor."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence as SequenceOf
from typing import Any

import numpy
import numpy.typing

from tilewise import _core
from tilewise._errors import InvalidArgument
from tilewise._options import variant_of
from tilewise._variant import Variant


class Model:
    """A GGUF file, or a safetensors file with its config.json and tokenizer.json beside it.

    `precise`: multiply with float32 activations instead of 16-bit ones. `variant`: attention in place of the model's own.
    Opened models are constant: threads may share one. The interpreter's lock is released while the model computes.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, precise: bool = False, variant: Variant | str | None = None
    ) -> None:
        recipe = None if variant is None else variant_of(variant)._recipe
        self._model = _core.open_model(os.fspath(path), precise, recipe)
        self.info: dict[str, Any] = self._model.info()

    def __repr__(self) -> str:
        return f"<tilewise.Model {self.info['name'] or self.info['path']}: {self.info['architecture']}>"

    def encode(self, text: str, *, add_special: bool = True) -> list[int]:
        """The tokens of a text; what looks like a control token in it is text."""
        return self._model.encode(text, add_special, False)

    def encode_chat(self, messages: SequenceOf[dict[str, str]]) -> list[int]:
        """The tokens of a conversation, up to where the answer begins: messages with "role" and "content"."""
        return self._model.encode_chat([(each["role"], each["content"]) for each in messages])

    def decode(self, tokens: SequenceOf[int]) -> str:
        """The text of tokens."""
        return self._model.decode(list(tokens))

    def generate(
        self,
        prompt: str | SequenceOf[int] | SequenceOf[dict[str, str]],
        *,
        max_tokens: int = 128,
        n: int = 1,
        temperature: float = 0.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        stop: SequenceOf[str] = (),
        ignore_end: bool = False,
    ) -> Generation:
        """Continues a text, tokens or a conversation; iterate over the result for tokens as they come.

        `temperature` 0 takes the most probable token. `n` samples share the prompt; sample i of a seed is always the
        same. Ctrl-C between two tokens stops it.
        """
        tokens = self._tokens_of(prompt)
        generator = self._model.generator()
        generator.submit(tokens, max_tokens, n, temperature, top_k, top_p, min_p, repetition_penalty, seed, list(stop),
                         ignore_end)
        return Generation(generator, n)

    def _tokens_of(self, prompt: Any) -> list[int]:
        if isinstance(prompt, str):
            return self.encode(prompt)
        given = list(prompt)
        if given and isinstance(given[0], dict):
            return self.encode_chat(given)
        return [int(each) for each in given]

    def logits(self, text: str | SequenceOf[int]) -> numpy.typing.NDArray[numpy.float32]:
        """The logits behind each token [tokens, vocabulary]."""
        tokens = self._tokens_of(text)
        out = numpy.empty((len(tokens), self.info["vocabulary"]), numpy.float32)
        self._model.logits(tokens, out)
        return out

    def embed(self, texts: str | SequenceOf[str], *, normalise: bool = True) -> numpy.typing.NDArray[numpy.float32]:
        """A vector of each text [texts, width]; of one text [width]."""
        given = [texts] if isinstance(texts, str) else list(texts)
        if not all(isinstance(each, str) for each in given):
            raise InvalidArgument("texts: expected a text or a list of texts")
        out = numpy.empty((len(given), self.info["width"]), numpy.float32)
        self._model.embed(given, out, normalise)
        return out[0] if isinstance(texts, str) else out


class Generation:
    """Texts as they come. Iterating gives (sample, text) pieces, or pieces of text where there is one sample."""

    def __init__(self, generator: _core.Generator, samples: int) -> None:
        self._generator = generator
        self.texts = [""] * samples
        self.tokens: list[list[int]] = [[] for _ in range(samples)]
        self.finish = ["none"] * samples

    def __iter__(self) -> Iterator[Any]:
        while not self._generator.is_idle():
            for sample, token, text, finish in self._generator.step():
                self.texts[sample] += text
                self.finish[sample] = finish
                if token >= 0:
                    self.tokens[sample].append(token)
                if text:
                    yield text if len(self.texts) == 1 else (sample, text)

    @property
    def text(self) -> str:
        """The whole text of the first sample: waits for the end."""
        for _ in self:
            pass
        return self.texts[0]
