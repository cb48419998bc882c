import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from minikin.equations import metrics

pairs = st.integers(2, 6).flatmap(
    lambda c: st.tuples(
        st.just(c), st.lists(st.tuples(st.integers(0, c - 1), st.integers(0, c - 1)), min_size=1, max_size=60)
    )
)


@given(pairs)
def test_scores_equal_scikit_learn(case):
    classes, rows = case
    labels, answers = np.array(rows).T
    counts = metrics.confusion(labels, answers, classes)
    assert np.array_equal(counts[:classes], oracle.confusion_matrix(labels, answers, labels=range(classes)))
    assert metrics.accuracy(labels, answers) == pytest.approx(oracle.accuracy_score(labels, answers))
    assert float(metrics.macro_f1(counts)) == pytest.approx(
        oracle.f1_score(labels, answers, average="macro", zero_division=0)
    )
    _, r, f, n = oracle.precision_recall_fscore_support(labels, answers, labels=range(classes), zero_division=0)
    scores = metrics.per_class(counts)
    for ours, theirs in (
        (scores.recall_C, r),
        (scores.f1_C, f),
        (scores.support_C, n),
    ):
        assert ours == pytest.approx(theirs)


def test_macro_f1_keeps_leading_axes():
    rng = np.random.default_rng(0)
    counts_RTC = rng.integers(0, 5, (7, 4, 3))
    assert metrics.macro_f1(counts_RTC) == pytest.approx([float(metrics.macro_f1(c)) for c in counts_RTC])


def test_label_outside_the_set_is_wrong_and_costs_precision():
    labels, answers = np.array([0, 1, -1]), np.array([0, 1, 1])
    assert metrics.accuracy(labels, answers) == pytest.approx(2 / 3)
    scores = metrics.per_class(metrics.confusion(labels, answers, 2))
    assert scores.f1_C.tolist() == pytest.approx([1.0, 2 / 3])
    assert scores.recall_C.tolist() == [1.0, 1.0]


def test_ece_of_a_case_computed_by_hand():
    # two in the bin (0.9, 0.95...], one right: |0.5 - 0.93|; two at 0.6, both right: |1 - 0.6|
    assert metrics.ece(np.array([0.92, 0.93, 0.6, 0.6]), np.array([1, 0, 1, 1]), bins=10) == pytest.approx(
        0.5 * abs(0.5 - 0.925) + 0.5 * 0.4
    )


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=80))
def test_reliability_loses_nothing(rows):
    confidence, correct = np.array([c for c, _ in rows]), np.array([k for _, k in rows])
    bins = metrics.reliability(confidence, correct)
    assert bins.n_B.sum() == len(rows)
    assert bins.n_B @ bins.confidence_B == pytest.approx(confidence.sum())
    assert bins.n_B @ bins.accuracy_B == pytest.approx(correct.sum())
    assert 0 <= bins.ece <= 1


def test_edges_of_bins_belong_to_the_bin_on_their_left():
    bins = metrics.reliability(np.array([0.0, 0.5, 1.0]), np.ones(3), bins=2)
    assert bins.n_B.tolist() == [2, 1]


@pytest.mark.parametrize(
    ("labels", "answers"), [([], []), ([0], [0, 1]), ([0, 3], [0, 1]), ([0, 1], [0, -1]), ([0, 1], [0, 2])]
)
def test_bad_input_is_refused(labels, answers):
    with pytest.raises(ValueError, match=r"."):
        metrics.confusion(np.array(labels, int), np.array(answers, int), 2)


@pytest.mark.parametrize("confidence", [[np.nan], [-0.1], [1.2], []])
def test_bad_confidence_is_refused(confidence):
    with pytest.raises(ValueError, match=r"."):
        metrics.ece(np.array(confidence), np.ones(len(confidence)))
