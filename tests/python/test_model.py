"""tilewise.Model on real, small models: TILEWISE_MODELS names the folder that the other tests read them from."""

import os
import pathlib
import signal
import threading

import numpy
import pytest
import tilewise as tw

if "TILEWISE_MODELS" not in os.environ:
    assert os.environ.get("TILEWISE_REQUIRE_MODELS") != "1", "TILEWISE_MODELS is not set"
    pytest.skip("TILEWISE_MODELS is not set", allow_module_level=True)
FOLDER = pathlib.Path(os.environ["TILEWISE_MODELS"])


@pytest.fixture(scope="module")
def model():
    return tw.Model(next(FOLDER.glob("**/*.gguf")))


@pytest.fixture(scope="module")
def embedder():
    return tw.Model(next(FOLDER.glob("**/*.safetensors")))


def test_greedy_generation_is_the_argmax_of_the_logits(model):
    prompt = model.encode("The capital of France is")
    generation = model.generate(prompt, max_tokens=4)
    pieces = list(generation)
    assert "".join(pieces) == generation.texts[0] == model.decode(generation.tokens[0])
    assert generation.finish == ["most_tokens"] and len(generation.tokens[0]) == 4
    assert "Paris" in generation.texts[0]
    logits = model.logits(prompt)
    assert logits.shape == (len(prompt), model.info["vocabulary"])
    assert int(logits[-1].argmax()) == generation.tokens[0][0]


def test_samples_follow_their_seed(model):
    options = {"max_tokens": 6, "n": 3, "temperature": 1.0, "seed": 7}
    first, second = model.generate("Once upon a time", **options), model.generate("Once upon a time", **options)
    assert {sample for sample, _ in first} == {0, 1, 2}
    assert second.text == first.texts[0] and second.tokens == first.tokens
    other = model.generate("Once upon a time", **{**options, "seed": 8})
    assert other.text is not None and other.tokens != first.tokens
    assert len({tuple(each) for each in first.tokens}) == 3


def test_stopping_and_conversations(model):
    generation = model.generate("1, 2, 3, 4, 5, 6,", max_tokens=40, stop=["10"])
    assert "10" not in generation.text and generation.finish == ["stop_string"]
    answer = model.generate([{"role": "user", "content": "Say hello."}], max_tokens=20)
    assert answer.text.strip()


def test_tokens_come_one_by_one(model):
    """Each piece is there before the next step is computed."""
    generation = model.generate("Once upon a time", max_tokens=5)
    seen = []
    for piece in generation:
        seen.append(piece)
        assert generation.texts[0] == "".join(seen)
        assert len(generation.tokens[0]) <= len(seen) + 1 and generation.finish[0] in ("none", "most_tokens")
    assert len(generation.tokens[0]) == 5 and len(seen) > 1


def test_a_real_interrupt_ends_a_generation(model):
    """SIGINT, as Ctrl-C sends it, while the model computes."""
    generation = model.generate("A long story:", max_tokens=400, ignore_end=True)
    with pytest.raises(KeyboardInterrupt):
        for index, _ in enumerate(generation):
            if index == 2:
                threading.Thread(target=signal.raise_signal, args=[signal.SIGINT]).start()
    assert 2 < len(generation.tokens[0]) < 400
    assert model.generate("1, 2,", max_tokens=2).text  # the model serves on


def test_the_lock_is_released(model):
    ticks = []
    stop = threading.Event()

    def tick():
        while not stop.wait(0.001):
            ticks.append(1)

    thread = threading.Thread(target=tick)
    thread.start()
    model.logits(list(range(1, 120)))
    stop.set()
    thread.join()
    assert ticks  # another thread ran meanwhile


def test_embeddings(embedder):
    texts = ["a cat sits on the mat", "a kitten rests on the rug", "the stock market fell"]
    vectors = embedder.embed(texts)
    assert vectors.shape == (3, embedder.info["width"]) and vectors.dtype == numpy.float32
    numpy.testing.assert_allclose(numpy.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    numpy.testing.assert_allclose(embedder.embed(texts[0]), vectors[0], atol=1e-5)


def test_refusals(model, embedder, tmp_path):
    with pytest.raises(OSError, match="missing.gguf"):
        tw.Model(tmp_path / "missing.gguf")
    (tmp_path / "bad.gguf").write_bytes(b"GGUF\3\0\0\0, but no more")
    with pytest.raises(tw.ParseError):
        tw.Model(tmp_path / "bad.gguf")
    with pytest.raises(tw.InvalidArgument):
        model.generate([10**6])
    with pytest.raises(tw.Unsupported):
        model.embed("text")
    with pytest.raises(tw.Error):
        embedder.generate("text")
