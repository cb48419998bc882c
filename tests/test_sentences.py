"""The public sentences of the README, one after another, on toy data; and the public surface."""

from __future__ import annotations

from pathlib import Path

import pytest

import minikin as mk
from minikin.base.errors import UserError
from toys import LABELS, MAX_LENGTH, toy_checkpoint, toy_csv


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sentences")
    toy_csv(folder)
    return mk.read_data(str(folder / "data.csv"), cache=folder / "cache")


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory):
    folder = toy_checkpoint(tmp_path_factory.mktemp("teacher") / "bert")
    spec = {"model": str(folder), "epochs": 2, "learning_rate": 5e-3, "freeze_embeddings": False}
    return mk.teacher(spec, max_length=MAX_LENGTH).fit(data.train, data.validation)


def test_every_public_name_is_there():
    for name in mk.__all__:
        assert getattr(mk, name) is not None
    assert all(callable(getattr(mk, name)) for name in mk.__all__ if name != "__version__")


@pytest.mark.parametrize(("family", "bits"), [("encoder", 8), ("static", 4)])
def test_the_stages_one_by_one(data, teacher, tmp_path: Path, family, bits):
    signals = teacher.signals(data.train, keep=["logits", "pooled"])
    student = mk.distil(signals, into=mk.student(family, size="pico", like=teacher), epochs=2)
    if family == "encoder":
        student = mk.prune(student, keep=0.5, on=data.train)
    folder = mk.package(mk.quantize(student, bits=bits), tmp_path / "kin")
    card = mk.measure(folder, on=data.test)
    assert 0.0 <= card["accuracy"] <= 1.0
    assert card["size_mib"] > 0
    assert mk.load(folder)("my card is late").label in LABELS


def test_what_can_not_be_is_refused(data, teacher):
    signals = teacher.signals(data.train, keep=["logits"])
    student = mk.student("static", size="pico", like=teacher)
    with pytest.raises(UserError, match="which was not stored"):
        mk.distil(signals, into=student, objectives=["pooled"])
    with pytest.raises(UserError, match="no objective"):
        mk.distil(signals, into=student, objectives=["luck"])
    with pytest.raises(UserError, match="no family"):
        mk.student("oracle", like=teacher)
    with pytest.raises(UserError, match="Only encoders"):
        mk.prune(student, keep=0.5, on=data.train)
    with pytest.raises(UserError, match=r"Call .fit"):
        mk.teacher(str(teacher.checkpoint.folder)).signals(data.train)
