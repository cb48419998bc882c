from dataclasses import replace

import numpy as np
import pytest

from minikin.base.errors import CertificateError
from minikin.equations import risk
from minikin.trust import labels as labelling
from minikin.trust.certify import Labelled, certify, labels_missing, reject_place, split, unseen
from minikin.trust.scores import REJECTED

ALPHA, DELTA = 0.1, 0.1
TRAFFIC = 12_000


def violations(certifier, answers, repeats, n=700):
    """How often the risk on plenty of fresh traffic lies above α."""
    world = answers(np.random.default_rng(1), TRAFFIC)
    above = some = 0
    for repeat in range(repeats):
        found = certifier(world.take(np.random.default_rng([7, repeat]).permutation(TRAFFIC)[:n]))
        if found is None:
            continue
        scorer, threshold = found
        given = scorer.scores(*world.given) >= threshold
        some += 1
        above += world.wrong_N[given].mean() > ALPHA
    return above / repeats, some / repeats


def honest(labelled):
    try:
        found = certify(labelled, ALPHA, DELTA, labels_checked=True)
    except CertificateError:
        return None
    return found.scorer, found.chosen[""].threshold


def broken(labelled):
    """Fits, thresholds and counts on the same labels, and takes the share of errors for the risk."""
    found = certify(labelled, ALPHA, DELTA, labels_checked=True).scorer
    scores = found.scores(*labelled.given)
    grid = np.sort(scores[scores > REJECTED])[::-1]
    errors, answered = risk.counts(scores, labelled.wrong_N, grid)
    return found, grid[np.flatnonzero(errors / answered <= ALPHA)[-1]]


def test_what_is_certified_holds_as_often_as_promised(answers):
    above, some = violations(honest, answers, 60)
    assert above <= DELTA
    assert some > 0.9


def test_the_same_test_catches_a_certifier_without_a_tail(answers):
    above, _ = violations(broken, answers, 30)
    assert above > DELTA


def test_counts_and_coverage_belong_to_the_certifying_part(answers, rng):
    labelled = answers(rng, 2000)
    found = certify(labelled, ALPHA, DELTA)
    fit, rest = split(labelled.labels_N, 0)
    chosen = found.chosen[""]
    given = found.scorer.scores(labelled.probabilities_NC[rest], labelled.pooled_NF[rest]) >= chosen.threshold
    assert given.sum() == chosen.answered
    assert labelled.wrong_N[rest][given].sum() == chosen.errors
    assert found.coverage == pytest.approx(given.mean())
    assert (found.fitted, found.certified) == (len(fit), len(rest))
    assert chosen.bound <= ALPHA


def test_the_split_is_disjoint_stratified_and_the_same_again():
    labels = np.repeat([-1, 0, 1, 2], [10, 100, 33, 7])
    fit, rest = split(labels, 4)
    assert sorted([*fit, *rest]) == list(range(150))
    assert np.abs(np.bincount(labels[fit] + 1) - 0.3 * np.bincount(labels + 1)).max() <= 1
    assert fit.tolist() == split(labels, 4)[0].tolist() != split(labels, 5)[0].tolist()


def test_a_group_that_fails_is_handed_over_whole(answers, rng):
    good, bad = answers(rng, 2000, outside=0.02), answers(rng, 800, outside=0.9)
    both = Labelled(
        *(np.concatenate([getattr(good, k), getattr(bad, k)]) for k in ("probabilities_NC", "pooled_NF", "labels_N")),
        groups_N=np.repeat(["shop", "forum"], [2000, 800]),
    )
    found = certify(both, ALPHA, DELTA, labels_checked=True)
    assert found.chosen["forum"] is None
    assert found.chosen["shop"].answered > 0
    assert risk.upper_bound(found.chosen["shop"].errors, found.chosen["shop"].answered, DELTA / 2) <= ALPHA


@pytest.mark.parametrize(("alpha", "needed"), [(0.05, 59), (0.02, 149), (0.01, 299)])
def test_too_few_labels_are_told_how_many_are_missing(answers, rng, alpha, needed):
    have = 50
    missing = labels_missing(have, alpha, 0.05)
    assert missing == int(np.ceil(needed / 0.7)) + 1 - have
    with pytest.raises(CertificateError, match=f"at least {missing} more"):
        certify(answers(rng, have), alpha, 0.05)


def spoilt(labelled, **changes):
    return replace(labelled, **changes)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda a: spoilt(a, labels_N=np.zeros_like(a.labels_N)), "same label"),
        (lambda a: spoilt(a, probabilities_NC=a.probabilities_NC * np.nan), "NaN"),
        (lambda a: spoilt(a, pooled_NF=a.pooled_NF * np.inf), "NaN"),
        (lambda a: spoilt(a, labels_N=(a.labels_N + 1) % 6), "look wrong"),
        (lambda a: spoilt(a, labels_N=np.where(np.arange(len(a)) % 2, -1, -2)), "kin knows"),
    ],
)
def test_bad_labels_are_refused(answers, rng, spoil, words):
    with pytest.raises(CertificateError, match=words):
        certify(spoil(answers(rng, 600)), ALPHA, DELTA)


def test_nothing_is_certified_where_nothing_holds(answers, rng):
    with pytest.raises(CertificateError, match="surest answers hold"):
        certify(answers(rng, 600, outside=0.9), 0.02, 0.05, labels_checked=True)


def test_training_rows_are_refused_or_left_out():
    rows = np.arange(100, dtype=np.uint64)
    assert unseen(rows, None).tolist() == list(range(100))
    assert unseen(rows, np.array([3, 500], np.uint64)).tolist() == [i for i in range(100) if i != 3]
    with pytest.raises(CertificateError, match="6 of 100 labelled texts"):
        unseen(rows, np.arange(6, dtype=np.uint64))


def test_reject_class():
    assert reject_place(["a", "OOS"]) == 1
    assert reject_place(["a", "b"]) == -1
    assert reject_place(["a", "b"], "b") == 1
    with pytest.raises(CertificateError, match="no label 'c'"):
        reject_place(["a", "b"], "c")


def test_wrong_labels_are_estimated(answers, rng):
    for noise in (0.0, 0.05, 0.1):
        labelled = answers(rng, 6000, outside=0.0, scale=0.6, noise=noise)
        found = labelling.label_errors(labelled.probabilities_NC, labelled.labels_N)
        assert found.share == pytest.approx(noise, abs=0.025)
    true = labelled.probabilities_NC.argmax(1)
    assert np.mean([true[i] != labelled.labels_N[i] for i in found.suspects[:100]]) == 1.0


def test_the_confident_joint_equals_cleanlab(answers, rng):
    count = pytest.importorskip("cleanlab.count", reason="cleanlab is an oracle, not a dependency")
    labelled = answers(rng, 2000, outside=0.0, noise=0.05)
    p = labelled.probabilities_NC.astype(np.float64)
    p /= p.sum(1, keepdims=True)
    theirs = count.compute_confident_joint(labelled.labels_N, p, calibrate=False)
    ours, _ = labelling.confident_joint(p, labelled.labels_N)
    assert (ours == theirs).all()
