"""The writer in PyTorch and the one in llama.cpp write the same from one folder, by the same settings."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest

import decoders
from minikin.base.errors import KinError, UserError
from minikin.base.writing import Decoding, Generator
from minikin.package import gguf as package
from minikin.steps.rewritten import TorchWriter


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return decoders.stories(tmp_path_factory.mktemp("stories"))


def test_both_writers_agree_on_real_weights(folder):
    pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")
    from minikin.runtimes.llama_cpp import LlamaCpp

    package.write(folder, folder / "model.gguf", "F32")
    reference = TorchWriter(folder)
    assert isinstance(reference, Generator)
    schema = {"type": "object", "properties": {"a": {"enum": ["big", "red"]}}, "required": ["a"]}
    with LlamaCpp(folder / "model.gguf") as writer:
        assert (reference.context, reference.ends, dict(reference.specials)) == (
            writer.context,
            writer.ends,
            {**writer.specials, "<unk>": 0},
        )
        assert [reference.spelled(i) for i in range(1, 512)] == [writer.spelled(i) for i in range(1, 512)]
        for how in (
            Decoding(max_tokens=40),
            Decoding(max_tokens=40, temperature=0.7, top_k=20, seed=2),
            Decoding(max_tokens=40, schema=schema),
            Decoding(max_tokens=40, stop=(".",), logprobs=True),
        ):
            mine, theirs = (each.complete("Tom saw a <s> cat", how)[0] for each in (reference, writer))
            assert (mine.text, mine.tokens, mine.finish) == (theirs.text, theirs.tokens, theirs.finish)
            if how.logprobs:
                assert mine.logprobs == pytest.approx(theirs.logprobs, abs=0.01)
        text = "Once upon a time, there was a cat."
        assert reference.logprobs(text) == pytest.approx(writer.logprobs(text), abs=0.01)


def test_added_pieces_are_written_with_their_spaces(tmp_path):
    """As trained from answers in one form: `{"room": "` is one token, which holds a space and not GPT-2's Ġ."""
    pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")
    from tokenizers import AddedToken, Tokenizer

    from minikin.runtimes.llama_cpp import LlamaCpp

    tokenizer = Tokenizer.from_str(decoders.bytes_tokenizer())
    added = ['{"room": "', '", "on": true}', "café au lait", "naïf"]
    tokenizer.add_tokens([AddedToken(piece, normalized=False) for piece in added])
    folder = decoders.toy_llama(tmp_path, tokenizer.to_str())
    package.write(folder, folder / "model.gguf", "F32")
    reference = TorchWriter(folder)
    schema = {"type": "object", "properties": {"room": {"enum": ["hall", "den"]}, "on": {"const": True}}}
    schema |= {"required": ["room", "on"], "additionalProperties": False}
    with LlamaCpp(folder / "model.gguf") as writer, warnings.catch_warnings():
        warnings.simplefilter("error")
        size = tokenizer.get_vocab_size()
        assert [reference.spelled(i) for i in range(size)] == [writer.spelled(i) for i in range(size)]
        assert reference.spelled(tokenizer.token_to_id(added[0])) == b'{"room": "'
        for how in (Decoding(max_tokens=40, temperature=1, seed=4), Decoding(max_tokens=40, schema=schema)):
            mine, theirs = (each.complete("the lamp", how)[0] for each in (reference, writer))
            assert (mine.text, mine.tokens) == (theirs.text, theirs.tokens)
    assert json.loads(mine.text)["on"] is True


def test_texts_that_do_not_fit_and_folders_that_are_none_are_refused(folder, tmp_path):
    reference = TorchWriter(folder, context=8)
    with pytest.raises(UserError, match="9 tokens, and the model reads 8"):
        reference.logprobs([1] * 9)
    assert np.array_equal(reference.logprobs([1]), np.zeros(0))
    decoders.toy_llama(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, "model_type": "none"}))
    with pytest.raises(KinError, match="transformers can't load"):
        TorchWriter(tmp_path)
