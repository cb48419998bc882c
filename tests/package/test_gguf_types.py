"""Block formats: their bytes read back by an independent reader, their mixes, and the importance matrix."""

from __future__ import annotations

import numpy as np
import pytest

import decoders
from minikin.base.errors import UserError
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


def test_a_mix_that_is_none_or_needs_a_matrix_is_refused(tmp_path):
    decoders.toy_llama(tmp_path)
    for mix, reason in (("Q9", "is no GGUF type"), ("IQ2_XS", "needs an importance matrix")):
        with pytest.raises(UserError, match=reason):
            package.write(tmp_path, tmp_path / "model.gguf", mix)
    wrong = {"model.layers.0.self_attn.q_proj.weight": np.ones(5)}
    with pytest.raises(UserError, match=r"importance of a weight with 32 columns has the shape \(5,\)"):
        package.write(tmp_path, tmp_path / "model.gguf", "Q4_K_M", importance=wrong)
    assert not (tmp_path / "model.gguf").exists()
