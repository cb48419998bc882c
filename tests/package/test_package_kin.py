import json
from dataclasses import replace

import numpy as np
import pytest

import small
from minikin import runtimes
from minikin.base import digest, manifest
from minikin.base.errors import KinError
from minikin.base.types import QuantizedTensor
from minikin.compress.quantize import quantize
from minikin.package import kin

SEAL = {
    "measurements": {"student": {"accuracy": 0.9}},
    "gate": {"passed": True, "reasons": []},
    "teacher": {"name": "t", "licence": "apache-2.0"},
    "machine": {"cores": 2},
    "recipe_sha256": "a" * 64,
    "data_sha256": "b" * 64,
    "seeds": {"train": 0},
    "story": {"verdict": "It passed."},
}


def write(folder, student, **extra):
    folder.mkdir()
    kin.write(folder, student, recipe_yaml="task: classify\n", extra=extra)
    return folder


@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4"])
@pytest.mark.parametrize("make", [small.encoder, small.static])
def test_a_kin_has_its_files_and_they_repeat(tmp_path, make, scheme):
    folder = write(tmp_path / "one", quantize(make(), scheme), name="k")
    again = write(tmp_path / "two", quantize(make(), scheme), name="k")
    read = manifest.read(folder)
    manifest.verify(folder, read)
    expected = {"config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors", "recipe.yaml"}
    if make is small.encoder:
        expected |= {"onnx/model.onnx" if scheme == "fp32" else "onnx/model_quantized.onnx"}
    if scheme != "fp32":
        expected |= {"model.kernel"}
    assert set(read.files) == expected
    assert read.kernel == (None if scheme == "fp32" else "model.kernel")
    assert (folder / manifest.NAME).read_bytes() == (again / manifest.NAME).read_bytes()
    assert read.raw["name"] == "k"
    assert read.scheme == scheme


def test_sealing_adds_what_was_measured(tmp_path):
    folder = write(tmp_path / "kin", small.static())
    before = manifest.read(folder).files
    kin.seal(folder, **SEAL)
    sealed = manifest.read(folder)
    assert sealed.files == before
    assert sealed.raw["gate"]["passed"] is True
    assert sealed.raw["measurements"]["student"]["accuracy"] == 0.9
    assert json.loads((folder / "report.json").read_text()) == SEAL["story"]
    manifest.verify(folder, sealed)


def test_sealing_refuses_a_changed_folder(tmp_path):
    folder = write(tmp_path / "kin", small.static())
    (folder / "config.json").write_text("{}")
    with pytest.raises(KinError, match=r"config\.json"):
        kin.seal(folder, **SEAL)


def test_sealing_refuses_numbers_that_are_none(tmp_path):
    folder = write(tmp_path / "kin", small.static())
    with pytest.raises(KinError, match="JSON"):
        kin.seal(folder, **SEAL | {"measurements": {"student": {"accuracy": float("nan")}}})
    assert not (folder / "report.json").exists()


@pytest.mark.parametrize("make", [small.encoder, small.static])
@pytest.mark.parametrize("scheme", ["fp32", "int8", "int4"])
def test_the_temperature_is_folded_into_the_classifier(tmp_path, make, scheme):
    hot = quantize(make(temperature=2.0), scheme)
    plain = runtimes.open(write(tmp_path / "plain", replace(hot, temperature=1.0)))
    cooled = runtimes.open(write(tmp_path / "cooled", hot))
    assert cooled.manifest.temperature == 2.0
    softened = plain.probabilities(small.TEXTS) ** 0.5
    softened /= softened.sum(1, keepdims=True)
    assert np.abs(cooled.probabilities(small.TEXTS) - softened).max() < (1e-5 if scheme == "fp32" else 0.03)


def test_folding_leaves_everything_else(tmp_path):
    student = quantize(small.encoder(temperature=1.7), "int4")
    folded = kin.fold_temperature(student)
    assert folded.temperature == 1.0
    changed = {
        name
        for name, value in student.tensors.items()
        if not np.allclose(*(_floats(s.tensors[name]) for s in (student, folded)))
    }
    assert changed == {"classifier.weight", "classifier.bias"}
    assert kin.fold_temperature(folded) is folded


def _floats(value):
    return value.dequantize() if isinstance(value, QuantizedTensor) else value


def test_a_single_text_needs_one_token_type(tmp_path):
    single = write(tmp_path / "single", small.encoder())
    pair = write(tmp_path / "pair", small.encoder(pair=True))
    assert json.loads((single / "config.json").read_text())["type_vocab_size"] == 1
    assert json.loads((pair / "config.json").read_text())["type_vocab_size"] == 2
    assert digest.of_file(single / "onnx/model.onnx") != digest.of_file(pair / "onnx/model.onnx")
