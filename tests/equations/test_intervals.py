import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from minikin.equations import intervals, metrics


@given(st.integers(0, 300), st.integers(0, 300))
def test_mcnemar_equals_scipy(a, b):
    theirs = stats.binomtest(a, a + b).pvalue if a + b else 1.0
    assert intervals.mcnemar(a, b) == pytest.approx(theirs, abs=1e-9)
    assert intervals.mcnemar(a, b) == intervals.mcnemar(b, a)


def test_mcnemar_of_many_examples():
    assert intervals.mcnemar(50_000, 50_200) == pytest.approx(stats.binomtest(50_000, 100_200).pvalue, rel=1e-6)


def test_bootstrap_of_an_accuracy_agrees_with_the_normal_approximation():
    values = np.repeat([1.0, 0.0], [900, 100])
    low, high = intervals.mean_interval(values, resamples=20_000)
    half = 1.96 * np.sqrt(0.9 * 0.1 / 1000)
    assert (low, high) == pytest.approx((0.9 - half, 0.9 + half), abs=0.0015)


def test_counts_of_kinds_equal_resampling_of_rows():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 4, 300)
    answers = np.where(rng.random(300) < 0.8, labels, rng.integers(0, 4, 300))
    ours = intervals.macro_f1_interval(metrics.confusion(labels, answers, 4), resamples=4000)
    rows_RN = rng.integers(0, 300, (1500, 300))
    scores = [float(metrics.macro_f1(metrics.confusion(labels[r], answers[r], 4))) for r in rows_RN]
    assert ours == pytest.approx(tuple(np.quantile(scores, [0.025, 0.975])), abs=0.008)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=10, max_size=60))
def test_paired_interval_holds_the_difference_and_flips_its_sign(rows):
    a, b = np.array(rows, float).T
    low, high = intervals.paired_interval(a, b, resamples=4000)
    assert low - 1e-9 <= a.mean() - b.mean() <= high + 1e-9
    back_low, back_high = intervals.paired_interval(b, a, resamples=4000)
    # a draw may fall on either side of a step of 1 / n
    assert (-back_high, -back_low) == pytest.approx((low, high), abs=2 / len(rows) + 1e-9)


def test_pairing_makes_the_interval_narrower():
    rng = np.random.default_rng(0)
    a = rng.random(2000) < 0.9
    b = a.copy()
    b[:20] = ~b[:20]
    low, high = intervals.paired_interval(a, b)
    alone = intervals.mean_interval(a.astype(float))
    assert high - low < (alone[1] - alone[0]) / 2


def test_all_right_or_all_wrong_is_bounded_by_the_exact_binomial():
    for right in (0, 60):
        expected = stats.binomtest(right, 60).proportion_ci(0.95, "exact")
        found = intervals.mean_interval(np.full(60, float(right > 0)))
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_same_seed_same_interval():
    values = np.random.default_rng(1).integers(0, 2, 200)
    assert intervals.mean_interval(values, seed=5) == intervals.mean_interval(values, seed=5)
    assert intervals.mean_interval(values, seed=5) != intervals.mean_interval(values, seed=6)


@pytest.mark.parametrize(
    "call",
    [
        lambda: intervals.mean_interval(np.array([])),
        lambda: intervals.mean_interval(np.ones(3), resamples=0),
        lambda: intervals.paired_interval(np.ones(3), np.ones(2)),
        lambda: intervals.macro_f1_interval(np.zeros((3, 2), int)),
        lambda: intervals.mcnemar(-1, 2),
    ],
)
def test_bad_input_is_refused(call):
    with pytest.raises(ValueError, match=r"."):
        call()


def test_the_interval_of_a_ratio_agrees_with_the_normal_approximation_and_pairs_examples():
    rng = np.random.default_rng(5)
    below = rng.uniform(5, 50, 400)
    above = below * rng.normal(2.0, 0.5, 400)
    ratio, (low, high) = intervals.ratio_interval(above, below, resamples=4000)
    assert ratio == pytest.approx(above.sum() / below.sum())
    half = 1.96 * np.std(above - ratio * below) / below.mean() / np.sqrt(400)
    assert (low, high) == pytest.approx((ratio - half, ratio + half), abs=0.1 * half)
    # what is common to both examples by example falls out of the difference; an example of no length does not count
    above, below = np.append(above, 9.0), np.append(below, 0.0)
    gap, (low, high) = intervals.ratio_interval(above + 0.25 * below, below, minus=(above, below))
    assert (gap, low, high) == pytest.approx((0.25, 0.25, 0.25))
    with pytest.raises(ValueError, match="at least one"):
        intervals.ratio_interval(above[-1:], below[-1:])
