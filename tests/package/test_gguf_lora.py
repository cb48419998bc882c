"""Adapters of peft as GGUF: added at run time by llama.cpp, they change a model as they do in peft."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import decoders
from minikin.base.errors import BusyError, UserError
from minikin.base.writing import Decoding
from minikin.commands.export import export
from minikin.package import gguf as package

peft = pytest.importorskip("peft", reason="adapters need the package peft")
torch = pytest.importorskip("torch")
pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")

from minikin.runtimes.llama_cpp import LlamaCpp  # noqa: E402  (after the skips)

PROMPT = "the lamp in the kitchen"


def adapter(model, folder, spread=0.2, **settings):
    """A random adapter on all linear layers of a model, saved by peft; returns the model with it."""
    settings = {"r": 2, "lora_alpha": 3, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings}
    torch.manual_seed(1)
    with_it = peft.get_peft_model(model, peft.LoraConfig(**settings)).eval()
    for name, weights in with_it.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(weights, std=spread)
    with_it.save_pretrained(folder)
    return with_it


def logits(writer, ids):
    session = writer.session()
    try:
        return np.array(session.feed(ids))
    finally:
        session.close()


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("llama", {}),
        ("granite", {"use_rslora": True}),
        ("qwen3", {"rank_pattern": {"q_proj": 4}, "alpha_pattern": {"q_proj": 9}}),
        ("phi3", {}),
        ("gpt2", {"fan_in_fan_out": True}),
        ("gpt_neox", {}),
        ("gemma", {}),
        ("phi", {}),
        ("qwen2", {}),
        ("mistral", {}),
        ("gemma3", {}),
        ("gemma2", {}),
    ],
)
def test_llama_cpp_adds_what_peft_adds(tmp_path, family, settings):
    base = tmp_path / "base"
    model = decoders.random_decoder(base, decoders.families()[family])
    package.write(base, base / "model.gguf", "F32")
    with_it = adapter(model, tmp_path / "adapter", **settings)
    export(tmp_path / "adapter", "gguf-lora", tmp_path / "adapter.gguf", base)
    with LlamaCpp(base / "model.gguf") as writer, torch.inference_mode():
        ids = writer.tokens(PROMPT)
        asked = torch.tensor([ids])
        theirs_V = with_it(asked).logits[0, -1].numpy()
        with with_it.disable_adapter():
            plain_V = with_it(asked).logits[0, -1].numpy()
        ours_V = logits(writer, ids)
        assert ours_V == pytest.approx(plain_V, abs=0.1)
        writer.adapt(tmp_path / "adapter.gguf")
        added_V = logits(writer, ids)
        assert added_V == pytest.approx(theirs_V, abs=0.1)
        assert np.abs(added_V - plain_V).max() > 0.5
        writer.adapt(tmp_path / "adapter.gguf", 0.5)
        assert 0.05 < np.abs(logits(writer, ids) - plain_V).max() < np.abs(added_V - plain_V).max()
        writer.adapt(None)
        assert np.array_equal(logits(writer, ids), ours_V)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A toy and an adapter of it."""
    folder = tmp_path_factory.mktemp("trained")
    model = decoders.random_decoder(folder / "base", decoders.families()["llama"])
    package.write(folder / "base", folder / "base" / "model.gguf", "F32")
    adapter(model, folder / "adapter")
    return folder


def test_what_is_remembered_of_a_prompt_is_forgotten_with_the_adapter(trained, tmp_path):
    export(trained / "adapter", "gguf-lora", tmp_path / "a.gguf", trained / "base")
    prompt, how = "the lamp in the kitchen is on " * 9, Decoding(max_tokens=4)
    with LlamaCpp(trained / "base" / "model.gguf") as writer:
        first = writer.complete(prompt, how)[0]
        assert writer.complete(prompt, how)[0].timing.reused
        writer.adapt(tmp_path / "a.gguf")
        other = writer.complete(prompt, how)[0]
        assert (other.timing.reused, other.tokens == first.tokens) == (0, False)
        stream = iter(writer.stream(prompt, how))
        next(stream)
        with pytest.raises(BusyError):
            writer.adapt(None)
        stream.close()
        writer.adapt(None)
        assert writer.complete(prompt, how)[0].tokens == first.tokens


def test_what_is_no_adapter_of_the_base_is_refused(trained, tmp_path):
    def refused(words, source=trained / "adapter", base=trained / "base", out=tmp_path / "out.gguf"):
        with pytest.raises(UserError, match=words):
            export(source, "gguf-lora", out, base)
        assert not out.exists() or out.read_bytes() == b"mine"

    decoders.toy_llama(tmp_path / "other")
    refused("is no adapter of .*other: its model.layers.0", base=tmp_path / "other")
    refused("holds no adapter: it has no adapter_config.json", source=trained / "base")
    refused("--for names the kin", base=None)
    refused("writes one file", out=tmp_path / "out")
    (tmp_path / "own.gguf").write_bytes(b"mine")
    refused("something else than an adapter", out=tmp_path / "own.gguf")
    for name, change, words in (
        ("dora", {"use_dora": True}, "of the kind DoRA"),
        ("ia3", {"peft_type": "IA3"}, "of the kind IA3"),
        ("none", {"lora_alpha": []}, "settings of a LoRA"),
    ):
        shutil.copytree(trained / "adapter", tmp_path / name)
        path = tmp_path / name / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
        refused(words, source=tmp_path / name)


def test_a_file_of_another_model_is_refused_when_it_is_added(trained, tmp_path):
    export(trained / "adapter", "gguf-lora", tmp_path / "a.gguf", trained / "base")
    other = decoders.toy_llama(tmp_path / "other")
    package.write(other, other / "model.gguf")
    with LlamaCpp(other / "model.gguf") as writer:
        before = writer.complete(PROMPT, Decoding(max_tokens=4))[0].tokens
        for path, words in (
            (tmp_path / "a.gguf", "wrong base model"),
            (tmp_path / "none.gguf", "There is no adapter"),
            (other / "model.gguf", "can't use .*model.gguf as an adapter"),
        ):
            with pytest.raises(UserError, match=words):
                writer.adapt(path)
        with pytest.raises(UserError, match="scale of an adapter is nan"):
            writer.adapt(tmp_path / "a.gguf", float("nan"))
        assert writer.complete(PROMPT, Decoding(max_tokens=4))[0].tokens == before
