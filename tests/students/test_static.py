"""Static students: the torch module is the numpy runtime, and both are the formula."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from minikin.base.types import Student
from minikin.equations.calibration import softmax
from minikin.students import module
from minikin.students.static import config_of, features_width, grow
from small import TEXTS, static
from toys import LABELS, toy_tokenizer

PAIRS = [(a, b) for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
SHAPES = [(0, "mean", False), (3, "mean-max", False), (5, "mean", False), (0, "mean", True), (3, "mean-max", True)]


def by_hand(student: Student, ids: np.ndarray) -> np.ndarray:
    """One text's pooled vector, straight from the contract."""
    tensors, config = student.tensors, student.config
    hidden = config["hidden"]
    x_TH = tensors["embeddings_VH"][ids].astype(np.float64)
    if len(ids) == 0:
        return np.zeros(hidden * (2 if config["pool"] == "mean-max" else 1))
    if config["window"]:
        half = config["window"] // 2
        around = np.pad(x_TH, ((half, half), (0, 0)))
        windows = np.stack([around[t : t + config["window"]].ravel() for t in range(len(ids))])
        y = windows @ tensors["convolution_weight"].T + tensors["convolution_bias"]
        x_TH = x_TH + y[:, :hidden] / (1 + np.exp(-y[:, hidden:]))
    return x_TH.mean(0) if config["pool"] == "mean" else np.concatenate([x_TH.mean(0), x_TH.max(0)])


@pytest.mark.parametrize(("window", "pool", "pair"), SHAPES)
def test_the_module_is_the_formula(window, pool, pair):
    student = static(window=window, pool=pool, pair=pair, temperature=1.5)
    texts = PAIRS if pair else TEXTS
    encoded = module.tokens(student, texts)
    for i, row in enumerate(module.TorchRuntime(student).probabilities(texts)):
        ids = encoded.ids[i]
        if pair:
            u, v = (by_hand(student, ids[encoded.segments[i] == s]) for s in (0, 1))
            features = np.concatenate([u, v, np.abs(u - v), u * v])
        else:
            features = by_hand(student, ids)
        logits_C = student.tensors["head_weight"] @ features + student.tensors["head_bias"]
        np.testing.assert_allclose(row, softmax(logits_C, 1.5), atol=1e-5)


@pytest.mark.parametrize(("window", "pool", "pair"), SHAPES)
def test_padding_does_not_count(window, pool, pair):
    made = module.to_module(static(window=window, pool=pool, pair=pair))
    ids, mask = torch.tensor([[7, 8, 9]]), torch.tensor([[1, 1, 1]])
    segments = torch.tensor([[0, 0, 1]]) if pair else None
    wider = torch.tensor([[7, 8, 9, 0, 0]]), torch.tensor([[1, 1, 1, 0, 0]])
    more = torch.tensor([[0, 0, 1, 0, 0]]) if pair else None
    with torch.no_grad():
        torch.testing.assert_close(made(ids, mask, segments).logits_BC, made(*wider, more).logits_BC)


@pytest.mark.parametrize(("window", "pool", "pair"), SHAPES)
def test_grown_students_are_whole_and_their_module_gives_them_back(window, pool, pair):
    config = config_of(hidden=8, vocabulary=50, classes=4, window=window, pool=pool, pair=pair)
    embeddings_VH = np.random.default_rng(0).normal(size=(50, 8))
    student, same = (grow(config, embeddings_VH, toy_tokenizer(), LABELS, 16, seed=3) for _ in range(2))
    assert module.widths(student) == {"pooled": features_width(config)}
    again = module.to_module(student).to_student(student)
    for name, value in student.tensors.items():
        np.testing.assert_array_equal(again.tensors[name], value)
        np.testing.assert_array_equal(same.tensors[name], value)
    assert student.tensors["head_weight"].shape == (4, features_width(config))


def test_empty_batches_of_empty_texts_answer():
    rows = module.TorchRuntime(static()).probabilities(["", "", ""])
    assert np.isfinite(rows).all()
    assert np.ptp(rows, axis=0).max() == 0
