import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.equations import pareto

points = st.lists(st.tuples(*[st.integers(1, 6)] * 3), min_size=1, max_size=30).map(lambda p: np.array(p, float))


def dominates(a, b):
    return a[0] <= b[0] and a[1] <= b[1] and a[2] >= b[2] and tuple(a) != tuple(b)


@given(points)
def test_front_is_what_nothing_dominates(points):
    expected = [not any(dominates(a, b) for a in points) for b in points]
    assert pareto.front(points).tolist() == expected


@given(points, st.randoms())
def test_knee_lies_on_the_front_whatever_the_order_and_unit(points, random):
    chosen = pareto.knee(points)
    assert pareto.front(points)[chosen]
    order = list(range(len(points)))
    random.shuffle(order)
    assert points[order][pareto.knee(points[order])].tolist() == points[chosen].tolist()
    scaled = points * np.array([1024.0, 0.001, 1.0])
    assert scaled[pareto.knee(scaled)].tolist() == scaled[chosen].tolist()


def test_knee_takes_the_bend():
    points = np.array([[0.5, 0.05, 0.80], [1.0, 0.1, 0.92], [20.0, 5.0, 0.93]])
    assert pareto.knee(points) == 1


def test_knee_of_equal_accuracy_is_the_cheapest():
    assert pareto.knee(np.array([[2.0, 2.0, 0.9], [1.0, 1.0, 0.9]])) == 1
    assert pareto.knee(np.array([[2.0, 2.0, 0.9]])) == 0


@pytest.mark.parametrize("bad", [np.zeros((0, 3)), np.ones((2, 2)), np.array([[1, np.nan, 1]]), np.ones(3)])
def test_bad_points_are_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        pareto.front(bad)


def test_knee_refuses_sizes_of_nothing():
    with pytest.raises(ValueError, match="above 0"):
        pareto.knee(np.array([[0.0, 1.0, 0.5]]))
