import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from minikin.equations import binomial


@settings(max_examples=300, deadline=None)
@given(st.integers(1, 1_000_000), st.floats(0, 1), st.floats(1e-6, 1 - 1e-6))
def test_tails_equal_scipy(n, share, p):
    k = int(share * n)
    assert binomial.cdf(k, n, p) == pytest.approx(stats.binom.cdf(k, n, p), rel=1e-6, abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 1_000_000), st.floats(0, 1), st.sampled_from([0.001, 0.05, 0.2]))
def test_tails_near_the_mean_and_bounds_equal_scipy(n, share, delta):
    k = int(share * n)
    assert binomial.cdf(k, n, share) == pytest.approx(stats.binom.cdf(k, n, share), rel=1e-6, abs=1e-12)
    theirs = stats.beta.ppf(1 - delta, k + 1, n - k) if k < n else 1.0
    bound = binomial.upper_bound(k, n, delta)
    assert bound == pytest.approx(theirs, rel=1e-8)
    assert bound >= k / n


@pytest.mark.parametrize(
    ("alpha", "needed"), [(0.05, (59, 124, 336)), (0.02, (149, 313, 845)), (0.01, (299, 628, 1693))]
)
def test_answers_needed(alpha, needed):
    assert tuple(binomial.trials_needed(alpha, 0.05, errors) for errors in (0, 2, 10)) == needed
    for errors, n in zip((0, 2, 10), needed, strict=True):
        assert binomial.upper_bound(errors, n, 0.05) <= alpha < binomial.upper_bound(errors, n - 1, 0.05)


@pytest.mark.parametrize(
    "call",
    [
        lambda: binomial.cdf(1, -1, 0.5),
        lambda: binomial.cdf(1, 2, float("nan")),
        lambda: binomial.upper_bound(3, 2, 0.05),
        lambda: binomial.upper_bound(1, 2, 0.0),
        lambda: binomial.trials_needed(0.0, 0.05),
        lambda: binomial.incomplete_beta(0, 1, 0.5),
        lambda: binomial.beta_quantile(2, 1, 1),
    ],
)
def test_refuses_what_is_no_probability(call):
    with pytest.raises(ValueError, match="need"):
        call()
