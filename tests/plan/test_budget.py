"""What does not fit is told with its numbers, and the budget that is named can be met."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.base.errors import BudgetError
from minikin.plan.budget import Limits, Measured, _up, reasons, refuse_if_impossible
from minikin.plan.candidates import Candidate

A, B = Candidate("static", "grown", 64), Candidate("encoder", "cut", 128, 2, 4, 256)
POSITIVE = st.floats(0.001, 1000)
MEASURED = st.builds(Measured, st.sampled_from([A, B]), st.just("int4"), POSITIVE, POSITIVE, POSITIVE, POSITIVE)
LIMITS = st.builds(Limits, *[st.none() | POSITIVE] * 3)


def test_what_fits_has_no_reasons_and_what_does_not_has_each():
    measured = Measured(A, "int8", 2.0, 1.0, 3.0, 90.0)
    assert reasons(measured, Limits()) == []
    assert reasons(measured, Limits(2.0, 3.0, 90.0)) == []
    found = reasons(measured, Limits(1.0, 2.0, 50.0))
    assert [f.split(" > ")[1] for f in found] == ["1 MiB", "2 ms", "50 MiB"]
    assert reasons(Measured(A, "int8", 9.0, 0, 0, forecast=True), Limits(1.0)) == ["about 9.00 MiB > 1 MiB"]


@given(st.lists(MEASURED, min_size=1, max_size=6), LIMITS)
def test_the_budget_that_is_named_can_be_met(measured, limits):
    fits = any(not reasons(m, limits) for m in measured)
    if fits:
        refuse_if_impossible(measured, limits)
        return
    with pytest.raises(BudgetError) as error:
        refuse_if_impossible(measured, limits)
    named = {k: float(v) for k, v in re.findall(r"(\w+): ([\d.e+-]+)(?:, |\.$)", str(error.value).split("budget:")[1])}
    assert set(named) == {k for k in ("size_mib", "latency_ms_p95", "memory_mib") if getattr(limits, k)}
    refuse_if_impossible(measured, Limits(**named))


def test_a_forecast_is_not_named_while_something_was_measured():
    forecast = Measured(B, "int4", 1.5, 0.0, 0.0, forecast=True)
    slow = Measured(A, "int4", 2.0, 1.0, 4.0)
    with pytest.raises(BudgetError, match=r"static 64 int4.*latency_ms_p95: 4\.2"):
        refuse_if_impossible([forecast, slow], Limits(1.0, 2.0))


@given(POSITIVE)
def test_rounding_up_is_never_below_and_never_far(value):
    assert value <= _up(value) <= value * 1.16
