"""Structured cuts: standard shapes that reload, units that nothing reads cost nothing, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.base.errors import UserError
from minikin.base.types import Saliency, Student
from minikin.compress import prune
from minikin.students.encoder import probe
from minikin.students.module import TorchRuntime, tokens
from small import TEXTS, bert, encoder

SOURCE = encoder(layers=4, hidden=32, heads=4, feed_forward=96)
PROBED = probe(SOURCE, tokens(SOURCE, TEXTS))


@pytest.mark.parametrize(
    "shape",
    [
        {"layers": 1},
        {"layers": 3, "feed_forward": 40},
        {"hidden": 16},
        {"hidden": 24, "heads": 3},
        {"layers": 2, "hidden": 8, "heads": 1, "feed_forward": 32},
        {},
    ],
)
def test_a_cut_is_a_standard_bert(shape):
    cut = prune.to_shape(SOURCE, PROBED, **shape)
    assert cut.config["num_hidden_layers"] == shape.get("layers", 4)
    assert cut.config["hidden_size"] == shape.get("hidden", 32)
    assert cut.config["hidden_size"] // cut.config["num_attention_heads"] == 8
    bert(cut)  # strict: every tensor is there, and has its shape
    rows = TorchRuntime(cut).probabilities(TEXTS)
    assert np.isfinite(rows).all()
    if not shape:
        np.testing.assert_allclose(rows, TorchRuntime(SOURCE).probabilities(TEXTS), atol=1e-6)


@pytest.mark.parametrize("shape", [{"layers": 1}, {"hidden": 16}, {"feed_forward": 64}, {}])
def test_a_factorised_table_keeps_its_width(shape):
    source = encoder(layers=4, hidden=32, heads=4, feed_forward=96, embedding=24)
    cut = prune.to_shape(source, probe(source, tokens(source, TEXTS)), **shape)
    bert(cut)
    assert cut.tensors[prune.WORDS].shape[1] == cut.config["embedding_size"] == 24
    assert cut.tensors[prune.PROJECTION].shape == (shape.get("hidden", 32), 24)
    if not shape:
        answers = [TorchRuntime(student).probabilities(TEXTS) for student in (cut, source)]
        np.testing.assert_allclose(*answers, atol=1e-6)


def dead_neurons(student: Student, dead: np.ndarray) -> Student:
    tensors = dict(student.tensors)
    for i in range(4):
        weight = tensors[f"bert.encoder.layer.{i}.output.dense.weight"].copy()
        weight[:, dead] = 0
        tensors[f"bert.encoder.layer.{i}.output.dense.weight"] = weight
    return replace(student, tensors=tensors)


def test_cutting_neurons_that_nothing_reads_changes_no_answer():
    dead = np.random.default_rng(0).permutation(96)[:64]
    student = dead_neurons(SOURCE, dead)
    cut = prune.neurons(student, probe(student, tokens(student, TEXTS)), keep=1 / 3)
    assert cut.config["intermediate_size"] == 32
    np.testing.assert_allclose(
        TorchRuntime(cut).probabilities(TEXTS), TorchRuntime(student).probabilities(TEXTS), atol=1e-5
    )


def test_the_units_of_largest_saliency_stay():
    scores = Saliency(np.arange(32.0), np.tile([1.0, 3, 0, 2], (4, 1)), np.tile(np.arange(96.0), (4, 1)), np.ones(4))
    cut = prune.to_shape(SOURCE, scores, hidden=16, feed_forward=32)
    query = SOURCE.tensors["bert.encoder.layer.0.attention.self.query.weight"]
    rows = np.r_[8:16, 24:32]  # heads 1 and 3, in their order
    np.testing.assert_array_equal(cut.tensors["bert.encoder.layer.0.attention.self.query.weight"], query[rows][:, 16:])
    inner = SOURCE.tensors["bert.encoder.layer.3.intermediate.dense.weight"]
    np.testing.assert_array_equal(cut.tensors["bert.encoder.layer.3.intermediate.dense.weight"], inner[64:, 16:])


@given(st.floats(0.01, 1.0))
def test_a_share_of_neurons_is_rounded_up_to_whole_blocks(keep):
    width = prune.neurons(SOURCE, PROBED, keep).config["intermediate_size"]
    assert width % 32 == 0
    assert width >= 96 * keep
    assert width - 32 < 96 * keep


def test_the_layers_that_change_their_input_most_are_kept():
    found = prune.to_shape(SOURCE, replace(PROBED, blocks_L=np.array([0.1, 0.9, 0.2, 0.8])), layers=2)
    for new, old in enumerate((1, 3)):
        np.testing.assert_array_equal(
            found.tensors[f"bert.encoder.layer.{new}.attention.self.query.weight"],
            SOURCE.tensors[f"bert.encoder.layer.{old}.attention.self.query.weight"],
        )


@given(st.lists(st.integers(0, 5), min_size=1, max_size=20), st.data())
def test_top_keeps_the_best_in_their_order(scores, data):
    count = data.draw(st.integers(1, len(scores)))
    kept = prune.top(np.array(scores), count)
    assert list(kept) == sorted(set(kept))
    assert len(kept) == count
    assert sorted(np.array(scores)[kept]) == sorted(scores)[-count:]


@pytest.mark.parametrize(
    ("shape", "words"),
    [
        ({"layers": 5}, "num_hidden_layers 5 > 4"),
        ({"hidden": 64, "feed_forward": 128}, "hidden_size 64 > 32.*intermediate_size 128 > 96"),
        ({"hidden": 20}, "multiple of 8"),
        ({"heads": 2}, "hidden 32 needs 4 heads"),
    ],
)
def test_shapes_that_no_cut_gives_are_refused(shape, words):
    with pytest.raises(UserError, match=words):
        prune.to_shape(SOURCE, PROBED, **shape)


@pytest.mark.parametrize("keep", [0.0, -1.0, 1.5, float("nan")])
def test_no_share_of_neurons_is_refused(keep):
    with pytest.raises(UserError, match="keep"):
        prune.neurons(SOURCE, PROBED, keep)
