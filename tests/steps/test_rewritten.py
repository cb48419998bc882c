"""The writer in PyTorch and the one in llama.cpp write the same from one folder, by the same settings."""

from __future__ import annotations

import json

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
