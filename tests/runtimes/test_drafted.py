"""A draft changes no text: near and far drafts, other vocabularies, every way to choose a token, every end."""

from __future__ import annotations

from pathlib import Path

import pytest

import decoders
from minikin.base.errors import BusyError, UserError
from minikin.base.writing import Decoding
from minikin.package import gguf as package

pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")
pytest.importorskip("gguf", reason="the extra 'gguf' is not installed")

from minikin.runtimes import drafted as module
from minikin.runtimes.drafted import Drafted
from minikin.runtimes.llama_cpp import LlamaCpp

PROMPTS = ("the lamp in the kitchen", "naïve café 東京", "def f(x):")


def toy(folder: Path, mix: str, vocabulary: int = 400, **changes: int) -> Path:
    decoders.toy_llama(folder, decoders.bytes_tokenizer(vocabulary), **changes)
    package.write(folder, folder / "model.gguf", mix)
    return folder / "model.gguf"


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    # llama.cpp rounds Q8_0 alike however many tokens it computes at once, so that ties fall alike
    return toy(tmp_path_factory.mktemp("large"), "Q8_0", num_hidden_layers=4)


DRAFTS = {
    "the same in other bits": ("F16", {"num_hidden_layers": 4}),
    "a stranger": ("F32", {"hidden_size": 64}),
    "fewer tokens": ("F32", {"vocabulary": 320}),
    "a short context": ("F32", {"num_hidden_layers": 4, "max_position_embeddings": 24}),
}


@pytest.mark.parametrize("name", DRAFTS)
def test_the_text_is_the_large_models_own(large, tmp_path, name, monkeypatch):
    monkeypatch.setattr(module, "SURE", 1e-9)  # random weights are sure of nothing
    mix, changes = DRAFTS[name]
    with LlamaCpp(large) as alone, Drafted(large, LlamaCpp(toy(tmp_path, mix, **changes))) as drafted:
        for prompt in PROMPTS:
            for how in (
                Decoding(max_tokens=40),
                Decoding(max_tokens=500, temperature=1, seed=3),
                Decoding(max_tokens=40, temperature=1, top_k=5, stop=("e",), logprobs=True),
                Decoding(max_tokens=60, schema={"enum": ["kitchen lamp", "kitchen fan"]}),
            ):
                one, other = (writer.complete(prompt, how)[0] for writer in (alone, drafted))
                assert (other.tokens, other.text, other.finish) == (one.tokens, one.text, one.finish)
                assert other.logprobs == (one.logprobs and pytest.approx(one.logprobs, abs=1e-3))
        assert drafted.guessed > 20
        assert drafted.taken >= (10 if name in ("the same in other bits", "a short context") else 0)
        assert drafted.logprobs(PROMPTS[0]) == pytest.approx(alone.logprobs(PROMPTS[0]))


def test_a_real_draft_of_fewer_bits_saves_passes(tmp_path):
    folder = decoders.stories(tmp_path)
    for mix in ("F16", "Q4_K_M"):
        package.write(folder, folder / f"{mix}.gguf", mix)
    how = Decoding(max_tokens=100)
    with LlamaCpp(folder / "F16.gguf") as alone:
        expected = alone.complete("Once upon a time", how)[0].tokens
    with Drafted(folder / "F16.gguf", LlamaCpp(folder / "Q4_K_M.gguf")) as drafted:
        assert drafted.complete("Once upon a time", how)[0].tokens == expected
        assert drafted.taken >= 5
        assert drafted.taken >= 0.5 * drafted.guessed


def test_places_are_given_back(large, tmp_path):
    with Drafted(large, LlamaCpp(toy(tmp_path, "F32"))) as drafted:
        stream = iter(drafted.stream("the lamp", Decoding(max_tokens=9)))
        next(stream)
        with pytest.raises(BusyError):
            next(iter(drafted.stream("the lamp")))
        stream.close()
        holder = drafted.draft.session()  # the draft alone is busy: the large model's place must come back
        with pytest.raises(BusyError):
            next(iter(drafted.stream("the lamp")))
        holder.close()
        assert drafted.complete("the lamp", Decoding(max_tokens=3))[0].tokens


def test_a_draft_that_speaks_otherwise_is_refused(large, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SHARED", 0.99)
    with pytest.raises(UserError, match="shares 400 of its 4"):
        Drafted(large, LlamaCpp(toy(tmp_path, "F32", vocabulary=450)))
