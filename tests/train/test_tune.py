"""Tuning a teacher: it learns the labels, and frozen embeddings stay."""

from __future__ import annotations

import numpy as np
import torch

from minikin.teachers.local import LocalTeacher
from minikin.teachers.resolve import resolve
from minikin.train.loop import Settings
from minikin.train.tune import tune
from toys import LABELS, MAX_LENGTH, sentences, toy_checkpoint


def test_a_toy_teacher_learns_the_toy_task(tmp_path):
    rows = list(sentences(160))
    texts, labels_N = [t for t, _ in rows], np.array([LABELS.index(label) for _, label in rows])
    teacher = LocalTeacher(resolve(str(toy_checkpoint(tmp_path / "bert"))), LABELS, MAX_LENGTH)
    encoded = teacher.encode(texts)
    settings = Settings(epochs=3, batch=16, learning_rate=5e-3, head_ratio=10.0)
    history = tune(teacher.module, encoded, labels_N, settings, validation=(encoded, labels_N))
    assert max(history.scores) > 0.9
    assert (teacher.probabilities(texts).argmax(1) == labels_N).mean() > 0.9


def test_frozen_embeddings_stay(tmp_path):
    teacher = LocalTeacher(resolve(str(toy_checkpoint(tmp_path / "bert"))), LABELS, MAX_LENGTH)
    teacher.freeze_embeddings()
    before = {k: v.clone() for k, v in teacher.module.state_dict().items()}
    tune(teacher.module, teacher.encode(["my card", "late box"]), np.array([0, 1]), Settings(epochs=2))
    after = teacher.module.state_dict()
    moved = {k for k in before if not torch.equal(before[k], after[k])}
    assert not [k for k in moved if ".embeddings." in k]
    assert "head.weight" in moved
