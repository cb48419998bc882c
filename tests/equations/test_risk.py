import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from minikin.equations import intervals, risk

ALPHA, DELTA = 0.05, 0.05
REPEATS = 1000


def traffic(rng, n):
    """Scores and errors with a known risk: an answer of score s is wrong with chance (1 − s)² / 2."""
    scores = rng.random(n)
    return scores, rng.random(n) < 0.5 * (1 - scores) ** 2


def true_risk(threshold):
    """Risk among all answers that score at least `threshold`, in closed form."""
    return (1 - threshold) ** 2 / 6


def certified(rng, scores, wrong):
    found = risk.learn_then_test(scores, wrong, risk.grid(rng.random(500), 60), ALPHA, DELTA)
    return found and (found.threshold, found.bound)


def broken(_rng, scores, wrong):
    """The calibration scores as the grid, and the share of errors itself in place of its exact tail."""
    grid = np.sort(scores)[::-1]
    errors, answered = risk.counts(scores, wrong, grid)
    place = np.flatnonzero(errors / answered <= ALPHA)[-1]
    return grid[place], errors[place] / answered[place]


def violations(certifier, repeats=REPEATS):
    rng = np.random.default_rng(11)
    above_alpha = above_bound = some = 0
    for _ in range(repeats):
        found = certifier(rng, *traffic(rng, 1500))
        if found is not None:
            some += 1
            above_alpha += true_risk(found[0]) > ALPHA
            above_bound += true_risk(found[0]) > found[1]
    return above_alpha / repeats, above_bound / repeats, some / repeats


def test_the_risk_is_kept_as_often_as_promised():
    above_alpha, _, some = violations(certified)
    assert above_alpha <= DELTA
    assert some > 0.8


def test_the_same_test_catches_a_broken_certifier():
    above_alpha, above_bound, _ = violations(broken, 200)
    assert min(above_alpha, above_bound) > DELTA


def test_the_bound_holds_at_a_threshold_fixed_in_advance():
    rng = np.random.default_rng(12)
    above = 0
    for _ in range(REPEATS):
        scores, wrong = traffic(rng, 400)
        errors, answered = risk.counts(scores, wrong, np.array([0.5]))
        above += risk.upper_bound(int(errors[0]), int(answered[0]), DELTA) < true_risk(0.5)
    assert above / REPEATS <= DELTA


def test_conformal_risk_control_keeps_the_expected_loss():
    rng = np.random.default_rng(13)
    grid = np.linspace(0, 1, 50)
    losses = []
    for _ in range(REPEATS):
        u = rng.random(61)
        missed = np.maximum(0.0, u[:, None] - grid[None, :])
        place = risk.conformal_risk(missed[:-1], 0.1)
        losses.append(missed[-1, place])
    assert np.mean(losses) <= 0.1
    assert np.mean(losses) > 0.05


def test_conformal_sets_cover():
    rng = np.random.default_rng(14)
    hits, class_hits = [], []
    for _ in range(REPEATS):
        labels = rng.integers(0, 3, 121)
        logits = rng.normal(size=(121, 3)) + 1.5 * np.eye(3)[labels] * (1 + labels[:, None] / 2)
        p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
        scores = 1 - p[np.arange(121), labels]
        q = risk.conformal_quantile(scores[:-1], 0.1)
        q_C = risk.class_quantiles(scores[:-1], labels[:-1], 3, 0.1)
        hits.append(risk.prediction_sets(p[-1:], q)[0, labels[-1]])
        class_hits.append((labels[-1], risk.prediction_sets(p[-1:], q_C)[0, labels[-1]]))
    assert 0.88 < np.mean(hits) < 0.94
    for c in range(3):
        assert np.mean([hit for label, hit in class_hits if label == c]) > 0.87


def test_conformal_quantiles_of_few_examples_are_infinite():
    assert risk.conformal_quantile(np.arange(18.0), 0.05) == math.inf
    assert risk.conformal_quantile(np.arange(19.0), 0.05) == 18.0
    assert risk.class_quantiles(np.arange(19.0), np.zeros(19), 2, 0.05).tolist() == [18.0, math.inf]


def test_conformal_quantiles_equal_mapie():
    mapie = pytest.importorskip("mapie.classification", reason="MAPIE is an oracle, not a dependency")
    from sklearn.dummy import DummyClassifier

    rng = np.random.default_rng(15)
    p = rng.dirichlet([1, 1, 1], 300)
    labels = np.array([rng.choice(3, p=row) for row in p])
    given_p = DummyClassifier().fit(p, labels)
    given_p.predict_proba = lambda x: np.asarray(x)
    theirs = mapie.SplitConformalClassifier(given_p, confidence_level=0.9, prefit=True).conformalize(
        p[:200], labels[:200]
    )
    sets = theirs.predict_set(p[200:])[1][:, :, 0]
    q = risk.conformal_quantile(1 - p[np.arange(200), labels[:200]], 0.1)
    ours = risk.prediction_sets(p[200:], q)
    assert (ours == sets).all()


def test_the_exact_tail_is_never_weaker_than_mapie():
    methods = pytest.importorskip("mapie.risk_control.methods", reason="MAPIE is an oracle, not a dependency")
    for errors, n in [(0, 149), (3, 200), (30, 2000), (60, 2000)]:
        theirs = methods.compute_hoeffding_bentkus_p_value(np.array([errors / n]), n, 0.02)
        exact = risk.cdf(errors, n, 0.02)
        assert exact <= float(np.ravel(theirs)[0]) + 1e-12
        assert exact == pytest.approx(stats.binom.cdf(errors, n, 0.02))


def test_non_inferiority_keeps_its_margin():
    rng = np.random.default_rng(16)
    margin, above, some = 0.02, 0, 0
    for _ in range(REPEATS):
        scores, small = traffic(rng, 1500)
        large = rng.random(1500) < 0.03
        found = risk.non_inferior(scores, small, large, risk.grid(rng.random(300), 50), margin, DELTA)
        if found is not None:
            some += 1
            t = found.threshold
            truth = (1 - t) * (true_risk(t) - 0.03)
            above += truth > margin or truth > found.bound
    assert above / REPEATS <= DELTA
    assert some > 0.9 * REPEATS


def test_the_betting_bound_holds_and_is_not_idle():
    rng = np.random.default_rng(17)
    p = np.array([0.03, 0.92, 0.05])
    bounds = [risk.betting_bound(*map(int, rng.multinomial(1000, p)), DELTA) for _ in range(REPEATS)]
    assert np.mean(np.array(bounds) < p[0] - p[2]) <= DELTA
    assert np.mean(bounds) < 0.01
    assert risk.betting_bound(0, 0, 0, 0.05) == 1.0


@given(st.integers(0, 40), st.integers(0, 400), st.integers(0, 40), st.sampled_from([0.01, 0.05, 0.2]))
@settings(max_examples=60, deadline=None)
def test_the_betting_bound_lies_above_the_mean_and_falls_with_wealth(worse, same, better, delta):
    bound = risk.betting_bound(worse, same, better, delta)
    n = worse + same + better
    assert bound >= (worse - better) / n - 1e-9 if n else bound == 1.0
    wealth = [risk.log_wealth(worse, same, better, mean) for mean in np.linspace(-0.99, 0.99, 20)]
    assert (np.diff(wealth) >= -1e-9).all()


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
@settings(max_examples=60, deadline=None)
def test_counts_equal_counting(rows):
    scores, wrong = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    grid = risk.grid(scores, 7)
    assert (np.diff(grid) < 0).all()
    assert grid[-1] == scores.min()
    errors, answered = risk.counts(scores, wrong, grid)
    assert answered.tolist() == [(scores >= t).sum() for t in grid]
    assert errors.tolist() == [wrong[scores >= t].sum() for t in grid]


def test_the_walk_stops_at_the_first_failure_and_starts_where_it_may_pass():
    scores = np.arange(1000.0)[::-1]
    wrong = np.zeros(1000, bool)
    wrong[300:330] = True
    grid = np.array([951.0, 851.0, 651.0, 451.0, 0.0])
    found = risk.learn_then_test(scores, wrong, grid, 0.05, 0.05)
    assert (found.place, found.answered, found.errors) == (1, 149, 0) or found.answered == 349
    _, answered = risk.counts(scores, wrong, grid)
    assert answered[found.place] >= 59
    tails = [stats.binom.cdf(wrong[:n].sum(), n, 0.05) for n in answered]
    assert all(t <= 0.05 for t in tails[1 : found.place + 1])
    assert tails[found.place + 1] > 0.05
    assert found.bound <= 0.05


def test_nothing_is_certified_without_enough_answers_or_with_errors_first():
    grid = np.array([0.5])
    assert risk.learn_then_test(np.ones(58), np.zeros(58), grid, 0.05, 0.05) is None
    assert risk.learn_then_test(np.ones(59), np.zeros(59), grid, 0.05, 0.05) is not None
    assert risk.learn_then_test(np.ones(59), np.ones(59), grid, 0.05, 0.05) is None
    assert risk.learn_then_test(np.ones(500), np.zeros(500), np.array([0.9, 0.5]), 0.05, 0.05, start=2) is None


def test_mcnemar_goes_with_non_inferiority():
    assert intervals.mcnemar(3, 12) == pytest.approx(stats.binomtest(3, 15).pvalue)


@pytest.mark.parametrize(
    "call",
    [
        lambda: risk.grid(np.array([])),
        lambda: risk.grid(np.array([1.0, math.nan])),
        lambda: risk.counts(np.array([math.nan]), np.array([True]), np.array([0.5])),
        lambda: risk.counts(np.array([0.5]), np.array([True, False]), np.array([0.5])),
        lambda: risk.conformal_risk(np.array([[0.1, 0.2]]), 0.1),
        lambda: risk.conformal_risk(np.array([[2.0, 0.2]]), 0.1),
        lambda: risk.conformal_risk(np.zeros((0, 3)), 0.1),
        lambda: risk.betting_bound(-1, 0, 0, 0.05),
    ],
)
def test_refuses_what_can_not_be_counted(call):
    with pytest.raises(ValueError, match=r"finite|losses|counts"):
        call()
