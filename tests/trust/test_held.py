from dataclasses import replace

import numpy as np
import pytest

import small
from minikin.base import manifest, tensors
from minikin.base.types import Data, Split
from minikin.package import kin as package
from minikin.runtimes import open as open_kin
from minikin.trust import held
from minikin.trust.certify import FIT_SHARE, HELD_ENOUGH, HELD_SHARE, Labelled, certify
from minikin.trust.scores import names_of
from minikin.trust.words import shares, table

ALPHA, DELTA, TRAFFIC = 0.1, 0.1, 12_000
TEXTS = [f"{a} {b} {c}" for a in ("card", "pin", "money") for b in ("lost", "the", "my") for c in range(60)]


class Made:
    """A kin of made-up answers: a text is the number of its row."""

    def __init__(self, world):
        self.world, self.labels = world, tuple("abcdef")

    def both(self, texts):
        rows = np.array([int(text) for text in texts], np.int64)
        return self.world.probabilities_NC[rows], self.world.pooled_NF[rows]


def data_of(labels_N, texts, ends):
    """Training, validation and calibration texts, one after another, up to each end; all must have labels."""
    parts = np.split(np.flatnonzero(labels_N >= 0)[: ends[-1]], ends[:-1])
    splits = [Split([texts[i] for i in rows], labels_N[rows], rows) for rows in parts]
    return Data(*splits, splits[0].take(np.zeros(0, int)), splits[0].take(np.zeros(0, int)), tuple("abcdef"))


@pytest.fixture
def kept(answers):
    """What a build keeps of texts that are easier than the traffic, and all of which are in scope."""
    world = answers(np.random.default_rng(3), 2000, outside=0.0, scale=0.8)
    texts = [str(i) for i in range(len(world))]
    return held.gather(Made(world), data_of(world.labels_N, texts, (1400, 1600, 1800)), table(texts, world.labels_N))


def given(world, arrays):
    """Traffic of a kin that keeps these; its words are all strange."""
    return replace(world, familiar_N2=np.zeros((len(world), 2)), held=held.read(arrays, tuple("abcdef"), -1))


def test_it_holds_parts_and_outcomes_and_no_text(kept):
    assert kept["held_NK"].shape == (400, len(names_of(False, True, True)))
    assert kept["held_right_N"].shape == (400,)
    assert 0.9 < kept["held_right_N"].mean() < 1.0
    assert all(np.issubdtype(values.dtype, np.number) or values.dtype == bool for values in kept.values())
    assert len(kept["references_MQ"]) == 6


def test_it_leaves_more_labels_to_certify(kept, answers, rng):
    alone = answers(rng, 1000)
    some = given(alone, kept)
    few = given(
        alone,
        {
            **kept,
            "held_NK": kept["held_NK"][: HELD_ENOUGH - 1],
            "held_right_N": kept["held_right_N"][: HELD_ENOUGH - 1],
        },
    )
    assert [one.fit_share for one in (alone, few, some)] == [FIT_SHARE, FIT_SHARE, HELD_SHARE]
    assert [certify(one, ALPHA, DELTA, labels_checked=True).certified for one in (alone, few, some)] == [700, 700, 900]


def test_the_promise_holds_though_held_texts_were_easier(kept, answers):
    world = given(answers(np.random.default_rng(1), TRAFFIC), kept)
    above = []
    for repeat in range(60):
        found = certify(
            world.take(np.random.default_rng([7, repeat]).permutation(TRAFFIC)[:700]), ALPHA, DELTA, labels_checked=True
        )
        given_N = found.scorer.scores(*world.given) >= found.chosen[""].threshold
        above.append(world.wrong_N[given_N].mean() > ALPHA)
    assert np.mean(above) <= DELTA


def test_it_is_read_only_where_it_fits(kept):
    labels = tuple("abcdef")
    assert held.read({"rows": np.zeros(3)}, labels, -1) is None
    assert held.read(kept, labels, 2) is None
    space = held.read(kept, labels, -1).space
    assert {name: values.dtype for name, values in held.arrays_of(space).items()} == {
        n: kept[n].dtype for n in held.SPACE
    }
    assert all((held.arrays_of(space)[name] == kept[name]).all() for name in held.SPACE)


def test_a_packaged_kin_carries_it_and_its_answers_score_alike(tmp_path):
    folder = tmp_path / "kin"
    folder.mkdir()
    package.write(folder, small.static(seed=1), recipe_yaml="", extra={}, trained_on=np.arange(3, dtype=np.uint64))
    kin = open_kin(folder)
    p, h = kin.both(TEXTS)
    labels_N = p.argmax(1)
    labels_N[::7] = (labels_N[::7] + 1) % p.shape[1]
    bits_B = table(TEXTS, labels_N)
    package.remember(folder, {"bits_B": bits_B, **held.gather(kin, data_of(labels_N, TEXTS, (300, 400, 540)), bits_B)})
    written = manifest.read(folder)
    manifest.verify(folder, written)
    arrays, _ = tensors.read(folder / manifest.TRAINED_ON)
    assert arrays["rows"].tolist() == [0, 1, 2]
    known = held.read(arrays, kin.labels, -1)
    labelled = Labelled(p, h, labels_N, familiar_N2=shares(bits_B, TEXTS, p), held=known).take(np.arange(300, 540))
    scorer = labelled.fitted()
    scores = known.of(scorer.names) @ scorer.weights_K + scorer.intercept
    assert scores == pytest.approx(scorer.scores(*labelled.given), abs=1e-3)
    assert (known.right_N == ~labelled.wrong_N).all()
