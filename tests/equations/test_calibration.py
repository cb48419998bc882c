import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax

from minikin.equations import calibration


def drawn(temperature: float, n: int = 4000, classes: int = 5, seed: int = 0):
    """Logits whose labels were drawn at `temperature`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, classes))
    p = calibration.softmax(logits, temperature)
    labels = (p.cumsum(1) < rng.random((n, 1))).sum(1).clip(0, classes - 1)
    return logits, labels


@pytest.mark.parametrize("true", [0.5, 1.0, 2.5])
def test_finds_the_temperature_that_drew_the_labels(true):
    assert calibration.fit_temperature(*drawn(true)) == pytest.approx(true, rel=0.08)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000))
def test_equals_scipy(seed):
    logits, labels = drawn(1.7, n=200, seed=seed)
    best = minimize_scalar(
        lambda t: -log_softmax(logits / np.exp(t), axis=1)[np.arange(200), labels].mean(),
        bounds=(np.log(0.05), np.log(20)),
        method="bounded",
        options={"xatol": 1e-7},
    )
    assert calibration.fit_temperature(logits, labels) == pytest.approx(np.exp(best.x), rel=1e-3)


def test_never_changes_the_answer_and_lowers_the_loss():
    logits, labels = drawn(3.0)
    fitted = calibration.fit_temperature(logits, labels)
    assert (calibration.softmax(logits, fitted).argmax(1) == logits.argmax(1)).all()
    assert calibration.nll(logits, labels, fitted) < calibration.nll(logits, labels)


def test_unknown_labels_do_not_count():
    logits, labels = drawn(2.0, n=300)
    more = np.concatenate([logits, logits * 50])
    assert calibration.fit_temperature(more, np.concatenate([labels, np.full(300, -1)])) == pytest.approx(
        calibration.fit_temperature(logits, labels)
    )
    assert calibration.fit_temperature(logits, np.full(300, -1)) == 1.0


def test_stays_in_bounds_when_all_are_right_or_all_are_wrong():
    logits = np.eye(4) * 5
    assert calibration.fit_temperature(logits, np.arange(4)) == pytest.approx(calibration.LOWEST, rel=1e-3)
    assert calibration.fit_temperature(logits, (np.arange(4) + 1) % 4) == pytest.approx(20.0, rel=1e-3)


def test_huge_logits_do_not_overflow():
    p = calibration.softmax(np.array([[1e5, 0.0], [-1e5, 1e5]]))
    assert np.isfinite(p).all()
    assert p.sum(1) == pytest.approx([1, 1])


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(ValueError, match="finite"):
        calibration.fit_temperature(np.array([[np.nan, 0.0]]), np.array([0]))
