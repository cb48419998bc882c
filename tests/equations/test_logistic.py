import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from minikin.equations.logistic import auroc, fit_logistic, isotonic


@pytest.mark.parametrize("ridge", [0.1, 1.0, 10.0])
def test_logistic_regression_equals_scikit_learn(ridge):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(400, 3)) * [1, 10, 0.1] + [0, 5, 1]
    y = rng.random(400) < 1 / (1 + np.exp(-x[:, 0] - 0.1 * (x[:, 1] - 5)))
    weights, intercept = fit_logistic(x, y, ridge)
    scale = x.std(0)
    theirs = LogisticRegression(C=1 / ridge, tol=1e-10, max_iter=5000).fit((x - x.mean(0)) / scale, y)
    assert weights * scale == pytest.approx(theirs.coef_[0], abs=1e-4)
    assert x @ weights + intercept == pytest.approx(theirs.decision_function((x - x.mean(0)) / scale), abs=1e-3)


def test_separable_rows_and_constant_columns_stay_finite():
    x = np.column_stack([np.arange(20.0), np.ones(20)])
    weights, intercept = fit_logistic(x, np.arange(20) > 9)
    assert np.isfinite([*weights, intercept]).all()
    assert weights[1] == 0


@pytest.mark.parametrize(("x", "y"), [([[np.nan], [1.0]], [0, 1]), ([[1.0], [2.0]], [1, 1]), ([[1.0]], [0, 1])])
def test_refuses_what_can_not_be_fitted(x, y):
    with pytest.raises(ValueError, match="must be"):
        fit_logistic(np.array(x), np.array(y))


@given(st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=2, max_size=60))
def test_isotonic_and_auroc_equal_scikit_learn(rows):
    x, y = np.array([r[0] for r in rows], float), np.array([r[1] for r in rows])
    places, heights = isotonic(x, y)
    assert np.interp(x, places, heights) == pytest.approx(IsotonicRegression().fit(x, y).predict(x), abs=1e-9)
    both = 0 < y.sum() < len(y)
    assert auroc(x, y) == (pytest.approx(roc_auc_score(y, x)) if both else None)
