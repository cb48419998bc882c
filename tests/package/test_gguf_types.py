"""Block formats: their bytes read back by an independent reader, their mixes, and the importance matrix."""

from __future__ import annotations

import json

import numpy as np
import pytest
from safetensors.numpy import load_file

import decoders
from minikin.base.errors import UserError
from minikin.compress.importance import importance
from minikin.package import gguf as package
from minikin.package import gguf_types

gguf = pytest.importorskip("gguf", reason="the extra 'gguf' is not installed")
pytest.importorskip("xllamacpp", reason="the extra 'gguf' is not installed")
LARGEST = {
    "F16": 1e-6,
    "Q8_0": 5e-5,
    "Q6_K": 5e-4,
    "Q5_K": 2e-3,
    "Q5_1": 2e-3,
    "Q5_0": 3e-3,
    "Q4_K": 8e-3,
    "IQ4_XS": 9e-3,
    "IQ4_NL": 9e-3,
    "IQ3_S": 3e-2,
    "Q3_K": 4e-2,
    "Q2_K": 0.12,
    "IQ2_XS": 0.12,
}
"""Mean squared error of weights of variance 1."""


@pytest.fixture
def weights() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((6, 512)).astype(np.float32)


@pytest.mark.parametrize("kind", LARGEST)
def test_what_llama_cpp_packs_an_independent_reader_unpacks(weights, kind):
    data, number = gguf_types.packed(weights, kind, np.ones(512, np.float32))
    read = gguf.quants.dequantize(data, number)
    assert read.shape == weights.shape
    assert np.square(read - weights).mean() < LARGEST[kind]


@pytest.mark.parametrize("kind", ["Q4_K", "Q2_K", "IQ2_XS"])
def test_columns_that_matter_are_kept_better(weights, kind):
    importance = np.where(np.arange(512) % 4 == 0, 100.0, 1.0).astype(np.float32)
    errors = {}
    for name, given in (("with", importance), ("without", np.ones(512, np.float32))):
        data, number = gguf_types.packed(weights, kind, given)
        errors[name] = np.square(gguf.quants.dequantize(data, number) - weights)[:, ::4].mean()
    assert errors["with"] < 0.8 * errors["without"]


@pytest.mark.parametrize(
    ("wanted", "width", "kind"),
    [
        ("Q4_K", 512, "Q4_K"),
        ("Q4_K", 192, "Q5_0"),
        ("Q5_K", 192, "Q5_1"),
        ("Q6_K", 192, "Q8_0"),
        ("IQ2_XS", 192, "IQ4_NL"),
        ("Q8_0", 192, "Q8_0"),
        ("Q8_0", 172, "F16"),
        ("Q4_K", 172, "F16"),
        ("F32", 172, "F32"),
    ],
)
def test_rows_that_are_no_multiple_of_a_block_fall_back(wanted, width, kind):
    assert gguf_types.fitting(wanted, width) == kind


@pytest.mark.parametrize("mix", gguf_types.MIXES)
def test_every_mix_loads_and_smaller_ones_are_smaller(tmp_path, mix):
    from minikin.runtimes.llama_cpp import LlamaCpp

    decoders.toy_llama(tmp_path, hidden_size=256, intermediate_size=256, num_hidden_layers=4)
    importance = {f"model.layers.{i}.mlp.{part}_proj.weight": np.ones(256) for i in range(4) for part in ("up", "gate")}
    importance |= {
        f"model.layers.{i}.{part}.weight": np.ones(256)
        for i in range(4)
        for part in ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.down_proj")
    }
    importance |= {"model.embed_tokens.weight": np.ones(256), "lm_head.weight": np.ones(256)}
    package.write(tmp_path, tmp_path / "model.gguf", mix, importance=importance)
    reader = gguf.GGUFReader(tmp_path / "model.gguf")
    types = {tensor.name: tensor.tensor_type.name for tensor in reader.tensors}
    kind = gguf_types.MIXES[mix]
    assert types["output.weight"] == (kind.output or kind.most)
    assert types["blk.0.attn_q.weight"] == kind.most
    assert types["blk.3.ffn_down.weight"] == (kind.better or kind.most)
    assert types["blk.0.attn_norm.weight"] == "F32"
    with LlamaCpp(tmp_path / "model.gguf") as generator:
        assert np.isfinite(generator.logprobs("the lamp in the kitchen")).all()


@pytest.mark.parametrize("mix", [mix for mix, kind in gguf_types.MIXES.items() if kind.needs_importance])
def test_embeddings_that_no_product_reads_need_no_importance(tmp_path, mix):
    decoders.toy_llama(tmp_path, hidden_size=256, intermediate_size=256, tie_word_embeddings=False)
    package.write(tmp_path, tmp_path / "model.gguf", mix, importance=mattering(tmp_path))
    types = {t.name: t.tensor_type.name for t in gguf.GGUFReader(tmp_path / "model.gguf").tensors}
    assert types["token_embd.weight"] == gguf_types.MIXES[mix].table


def mattering(folder, texts=decoders.TEXT):
    """The importance of a folder's weights on texts, by transformers' own model."""
    from tokenizers import Tokenizer
    from transformers import AutoModelForCausalLM

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True)
    return importance(model, [tokenizer.encode(text).ids[:128] for text in texts])


def widened(folder):
    """stories260k in rows of 256: its 64 hidden units and 8 heads four times over, its 172 neurons beside idle ones.

    It computes the same, since a norm of equal copies is that of one, and a quarter of four times a product is it.
    """
    decoders.stories(folder)
    config = json.loads((folder / "config.json").read_text())
    tensors = {}
    for name, weights in load_file(folder / "model.safetensors").items():
        if name.endswith("norm.weight"):
            weights = np.tile(weights, 4)
        elif "embed_tokens" in name:
            weights = np.tile(weights, (1, 4))
        else:
            rows, columns = (4 if n == 64 or "k_proj" in name or "v_proj" in name else 1 for n in weights.shape)
            columns = 4 if weights.shape[1] == 64 else 1
            weights = np.tile(weights, (rows, columns)) / columns
        idle = [(0, 256 - n if n == 172 else 0) for n in weights.shape]
        tensors[name] = np.ascontiguousarray(np.pad(weights, idle), np.float32)
    # the output is the embeddings, and reads all four copies
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] / 4
    heads = {key: 4 * config[key] for key in ("num_attention_heads", "num_key_value_heads")}
    more = {"hidden_size": 256, "intermediate_size": 256, "head_dim": 8, "tie_word_embeddings": False}
    return decoders.save(folder, {**config, **heads, **more}, tensors, (folder / "tokenizer.json").read_text())


def test_fewer_bits_cost_perplexity_and_importance_gives_some_back(tmp_path):
    from minikin.runtimes.llama_cpp import LlamaCpp

    raw = (decoders.data() / "tinystories" / "tinystories_b_2MB.txt").read_text(encoding="utf-8")
    texts = [raw[start : start + 900] for start in range(0, 4_500, 900)]
    folder = widened(tmp_path)
    matters = mattering(folder, [raw[start : start + 400] for start in range(40_000, 48_000, 400)])

    def perplexity(mix, **given):
        package.write(folder, folder / "model.gguf", mix, **given)
        with LlamaCpp(folder / "model.gguf") as generator:
            return float(np.exp(-np.concatenate([generator.logprobs(text) for text in texts]).mean()))

    decoders.stories(tmp_path / "narrow")
    package.write(tmp_path / "narrow", tmp_path / "narrow" / "model.gguf", "F16")
    with LlamaCpp(tmp_path / "narrow" / "model.gguf") as generator:
        narrow = float(np.exp(-np.concatenate([generator.logprobs(text) for text in texts]).mean()))
    found = {mix: perplexity(mix) for mix in ("F16", "Q8_0", "Q4_K_M", "Q3_K_M", "Q2_K")}
    assert found["F16"] == pytest.approx(narrow, rel=2e-3)
    assert found["Q8_0"] == pytest.approx(found["F16"], rel=5e-3)
    assert found["F16"] < found["Q4_K_M"] < found["Q3_K_M"] < found["Q2_K"]
    helped = {mix: perplexity(mix, importance=matters) for mix in ("Q3_K_M", "IQ3_S", "Q2_K", "IQ2_XS")}
    assert helped["Q3_K_M"] < found["Q3_K_M"]
    assert helped["Q2_K"] < found["Q2_K"]
    assert found["Q4_K_M"] < helped["IQ3_S"] < helped["IQ2_XS"]


def test_a_mix_that_is_none_or_needs_a_matrix_is_refused(tmp_path):
    decoders.toy_llama(tmp_path)
    for mix, reason in (("Q9", "is no GGUF type"), ("IQ2_XS", "needs an importance matrix")):
        with pytest.raises(UserError, match=reason):
            package.write(tmp_path, tmp_path / "model.gguf", mix)
    wrong = {"model.layers.0.self_attn.q_proj.weight": np.ones(5)}
    with pytest.raises(UserError, match="needs the importance of every weight"):
        gguf_types.packed(np.ones((2, 256), np.float32), "IQ2_XS")
    with pytest.raises(UserError, match=r"importance of a weight with 32 columns has the shape \(5,\)"):
        package.write(tmp_path, tmp_path / "model.gguf", "Q4_K_M", importance=wrong)
    assert not (tmp_path / "model.gguf").exists()
