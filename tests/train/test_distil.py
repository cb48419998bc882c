"""Distilling from stored signals: students of both families learn what the teacher said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from minikin.base.errors import UserError
from minikin.base.types import Signals, Student
from minikin.students import module
from minikin.students.encoder import config_of, grow
from minikin.students.static import config_of as static_config
from minikin.students.static import grow as grow_static
from minikin.train.distil import distil, logits, score
from minikin.train.loop import Settings
from minikin.train.objectives import Objective
from small import encoder, static
from toys import LABELS, MAX_LENGTH, sentences, toy_tokenizer

ROWS = list(sentences(96))
TEXTS, GOLD_N = [t for t, _ in ROWS], np.array([LABELS.index(label) for _, label in ROWS])
RNG = np.random.default_rng(0)
SIGNALS = Signals(
    TEXTS, GOLD_N, (8.0 * np.eye(4)[GOLD_N]).astype(np.float16), RNG.normal(size=(96, 12)).astype(np.float16)
)
VOCABULARY = 331


def student(family: str) -> Student:
    if family == "static":
        config = static_config(hidden=16, vocabulary=VOCABULARY, classes=4)
        return grow_static(config, RNG.normal(0, 0.3, (VOCABULARY, 16)), toy_tokenizer(), LABELS, MAX_LENGTH, 0)
    config = config_of(
        layers=1, hidden=32, heads=2, feed_forward=64, vocabulary=VOCABULARY, max_length=MAX_LENGTH, classes=4
    )
    return grow(config, toy_tokenizer(), LABELS, 0)


@pytest.mark.parametrize(("family", "rate"), [("static", 0.05), ("encoder", 0.005)])
def test_it_learns_what_the_teacher_said(family, rate):
    source = student(family)
    made, encoded = module.to_module(source), module.tokens(source, TEXTS)
    blind = replace(SIGNALS, labels_N=np.full(96, -1))
    history = distil(
        made,
        family,
        encoded,
        blind,
        [Objective("kl"), Objective("pooled", 0.1)],
        Settings(epochs=12, batch=16, learning_rate=rate),
        widths=module.widths(source),
        validation=(encoded, GOLD_N),
    )
    assert history.losses[-1] < history.losses[0]
    assert max(history.scores) > 0.9
    trained = made.to_student(source)
    answers_N = module.TorchRuntime(trained).probabilities(TEXTS).argmax(1)
    assert (answers_N == GOLD_N).mean() > 0.9
    assert score(module.to_module(trained), encoded, GOLD_N) == pytest.approx(max(history.scores))
    assert sorted(trained.tensors) == sorted(source.tensors)


def test_a_killed_distillation_goes_on_to_the_same_student(tmp_path):
    source, settings = student("static"), Settings(epochs=3, batch=16, learning_rate=0.05)
    encoded, objectives = module.tokens(source, TEXTS), [Objective("kl"), Objective("pooled")]

    def train(**more: object) -> dict[str, np.ndarray]:
        made = module.to_module(source)
        distil(made, "static", encoded, SIGNALS, objectives, settings, widths=module.widths(source), **more)
        return dict(made.to_student(source).tensors)

    def kill(share: float, _words: str) -> None:
        if share > 0.5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(scratch=tmp_path, progress=kill)
    expected, found = train(), train(scratch=tmp_path)
    assert all(np.array_equal(expected[k], found[k]) for k in expected)


def test_an_impossible_pairing_is_refused_before_any_step():
    source = student("static")
    with pytest.raises(UserError, match="hidden"):
        distil(module.to_module(source), "static", None, SIGNALS, [Objective("hidden")], Settings(epochs=1))  # type: ignore[arg-type]


@pytest.mark.parametrize("source", [static(), encoder()], ids=["static", "encoder"])
def test_logits_are_in_the_order_of_the_texts(source):
    texts = ["my card " * n for n in (9, 1, 5, 0, 3)]
    made = module.to_module(source)
    together = logits(made, module.tokens(source, texts))
    for i, text in enumerate(texts):
        np.testing.assert_allclose(together[i], logits(made, module.tokens(source, [text]))[0], atol=1e-5)


def test_scores_of_equal_accuracy_prefer_the_surer():
    source = student("static")
    made, encoded = module.to_module(source), module.tokens(source, TEXTS)
    with torch.no_grad():
        before = score(made, encoded, logits(made, encoded).argmax(1))
        for name in ("head_weight", "head_bias"):
            made.weights[name] *= 4.0
        after = score(made, encoded, logits(made, encoded).argmax(1))
    assert before < after <= 1.0
