"""Decoders of every family write the same tokens in llama.cpp as in transformers; what can't be is refused first."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import decoders
from minikin.base.errors import UserError
from minikin.base.writing import Decoding
from minikin.package import gguf as package

gguf = pytest.importorskip("gguf", reason="the extra 'gguf' is not installed")
PROMPT = "The lamp in the kitchen is on"
TIE = 0.01
"""Log-probabilities nearer than this are a tie: llama.cpp keeps keys, values and activations in half precision."""

SEEDS = {
    "gemma": 1,
    "gemma2": 0,
    "gemma3": 1,
    "gpt2": 28,
    "gpt_neox": 3,
    "gpt_neox in series": 18,
    "granite": 23,
    "llama": 5,
    "llama biased, linear positions": 17,
    "llama tied, llama3 positions": 33,
    "llama yarn": 9,
    "mistral": 24,
    "phi": 38,
    "phi3": 17,
    "qwen2": 17,
    "qwen3": 26,
}
"""Seeds of random weights under which no two best tokens tie."""


def llama_cpp(path: Path):
    pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")
    from minikin.runtimes.llama_cpp import LlamaCpp

    return LlamaCpp(path)


def greedy(model, ids: list[int], tokens: int) -> tuple[list[int], list[float]]:
    """Transformers' greedy tokens after `ids`, and by how much each is likelier than the next (log-probability)."""
    import torch

    with torch.no_grad():
        prompt = torch.tensor([ids])
        stopless = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        all_T = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=tokens, **stopless)[0]
        two_T2 = model(all_T[None]).logits[0, len(ids) - 1 : -1].topk(2).values
    return all_T[len(ids) :].tolist(), (two_T2[:, 0] - two_T2[:, 1]).tolist()


def logprobs(model, ids: list[int]) -> np.ndarray:
    import torch

    with torch.no_grad():
        logprobs_TV = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1).numpy()
    return np.take_along_axis(logprobs_TV[:-1], np.array(ids)[1:, None], -1)[:, 0]


@pytest.mark.parametrize("mix", ["F32", "F16"])
@pytest.mark.parametrize("name", SEEDS)
def test_64_greedy_tokens_are_those_of_transformers(tmp_path, name, mix):
    torch = pytest.importorskip("torch")
    model = decoders.random_decoder(tmp_path, decoders.families()[name], seed=SEEDS[name])
    if mix == "F16":
        with torch.no_grad():  # the file's weights are rounded: so are these
            for weights in model.parameters():
                weights.copy_(weights.half().float() if weights.ndim > 1 else weights)
    package.write(tmp_path, tmp_path / "model.gguf", mix)
    rng = np.random.default_rng(0)
    with llama_cpp(tmp_path / "model.gguf") as generator:
        ids = generator.tokens(PROMPT)
        expected, margins = greedy(model, ids, 64)
        generator.ends = frozenset()  # write on, as asked of transformers
        written = list(generator.complete(ids, Decoding(max_tokens=64))[0].tokens)
        random = rng.integers(2, 400, 60).tolist()
        scores = generator.logprobs(random)
    until = next((i for i, margin in enumerate(margins) if margin < TIE), 64)
    assert until == 64 or (mix == "F16" and until >= 8)
    assert written[:until] == expected[:until]
    assert np.abs(scores - logprobs(model, random)).max() < 0.02


def test_tied_embeddings_are_stored_once_and_others_twice(tmp_path):
    names = {}
    for tied in (True, False):
        decoders.toy_llama(tmp_path / str(tied), tie_word_embeddings=tied)
        package.write(tmp_path / str(tied), tmp_path / f"{tied}.gguf")
        names[tied] = {tensor.name for tensor in gguf.GGUFReader(tmp_path / f"{tied}.gguf").tensors}
    assert names[False] - names[True] == {"output.weight"}
    assert "token_embd.weight" in names[True]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "gpt_neo"}, "alternates between global and local"),
        ({"model_type": "mamba"}, "no family that becomes GGUF"),
        ({"hidden_act": "relu"}, "computes llama with silu, and this model has relu"),
        ({"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4}}, "scaled by 'dynamic'"),
        ({"model_type": "qwen2", "use_sliding_window": True}, "without sliding windows"),
        ({"num_key_value_heads": 3, "num_attention_heads": 4}, "4 heads can't share 3 keys"),
    ],
)
def test_a_model_that_llama_cpp_would_compute_otherwise_is_refused_before_anything_is_written(
    tmp_path, changes, reason
):
    decoders.toy_llama(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(UserError, match=reason):
        package.write(tmp_path, tmp_path / "out" / "model.gguf")
    assert not (tmp_path / "out").exists()


def test_a_gemma_cut_within_a_group_of_layers_is_refused():
    pytest.importorskip("transformers")
    whole = decoders.families()["gemma3"].to_dict()
    assert package.why_not(decoders.bytes_tokenizer(), whole) is None
    cut = {**whole, "num_hidden_layers": 5, "layer_types": whole["layer_types"][1:]}
    assert "every 6th layer" in str(package.why_not(decoders.bytes_tokenizer(), cut))


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_refused_by_its_name(tmp_path, name):
    decoders.toy_llama(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(UserError, match=name):
        package.write(tmp_path, tmp_path / "model.gguf")


def test_a_weight_that_has_no_place_stops_the_writing_and_leaves_nothing(tmp_path):
    decoders.toy_llama(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file({**weights, "model.layers.0.extra.weight": np.zeros(3, np.float32)}, tmp_path / "model.safetensors")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(UserError, match=r"no place for the weight model\.layers\.0\.extra\.weight"):
        package.write(tmp_path, tmp_path / "model.gguf")
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_an_interrupted_writing_leaves_the_file_that_was_there(tmp_path, monkeypatch):
    decoders.toy_llama(tmp_path)
    (tmp_path / "model.gguf").write_bytes(b"old")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(package, "_add_tensors", interrupted)
    with pytest.raises(KeyboardInterrupt):
        package.write(tmp_path, tmp_path / "model.gguf")
    assert (tmp_path / "model.gguf").read_bytes() == b"old"
    assert not list(tmp_path.glob("*.part"))


def test_the_file_is_the_same_bytes_each_time(tmp_path):
    decoders.toy_llama(tmp_path)
    for name in ("a.gguf", "b.gguf"):
        package.write(tmp_path, tmp_path / name, "Q8_0")
    assert (tmp_path / "a.gguf").read_bytes() == (tmp_path / "b.gguf").read_bytes()


@pytest.mark.parametrize("beside", [True, False])
def test_the_chat_template_goes_along(tmp_path, beside):
    decoders.toy_llama(tmp_path)
    template = "{% for m in messages %}<s>{{ m['content'] }}</s>{% endfor %}"
    if beside:
        (tmp_path / "chat_template.jinja").write_text(template)
    else:
        settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({**settings, "chat_template": template}))
    package.write(tmp_path, tmp_path / "model.gguf")
    field = gguf.GGUFReader(tmp_path / "model.gguf").fields["tokenizer.chat_template"]
    assert bytes(field.parts[field.data[0]]).decode() == template
