"""Bets against "nothing has changed": wealth that grows large only by luck, or because it has. Called by trust/.

Both states are plain values: an update returns a new one, `json()` and `of()` carry them through a file. Each spreads
its wealth over several bets and keeps some of it asleep, so that a change after a long quiet time is still paid for.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

ODDS = (1.5, 2.0, 3.5, 6.0, 12.0)
"""Risks bet on, as multiples of α (at most halfway from α to 1)."""

ASLEEP = 0.5
GENTLE = 0.25
"""Share of the density in a gentle bet, the rest being 1: a bold bet loses on a small shift, a gentle one gains."""

BETS = 12
WAKING = 200.0
"""Of the sleeping wealth, 1 / (200 + t) wakes after observation t: a power law, so some is left at any time."""


class _Bets:
    """What is still asleep and the wealth of each bet, as logarithms; together they are the evidence."""

    log_asleep: float
    log_wealth: tuple[float, ...]

    @property
    def log_e(self) -> float:
        """Logarithm of the e-value, which under its hypothesis ever reaches 1/δ with a chance of at most δ (Ville)."""
        return _log_sum((self.log_asleep, *self.log_wealth))

    def json(self) -> dict[str, Any]:
        """Plain values."""
        values = asdict(self)  # type: ignore[call-overload]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in values.items()}


@dataclass(frozen=True)
class EProcess(_Bets):
    """Evidence against "the risk is at most α" after `n` audited answers of which `errors` were wrong.

    `log_wealth` is one number for each bet, and `log_asleep` what is not at stake yet.
    """

    alpha: float
    n: int = 0
    errors: int = 0
    log_asleep: float = math.log(ASLEEP)
    log_wealth: tuple[float, ...] = (math.log((1.0 - ASLEEP) / len(ODDS)),) * len(ODDS)

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> EProcess:
        """The state that `json` gave. Raises ValueError for anything else."""
        state: EProcess = _state(cls, value)
        if len(state.log_wealth) != len(ODDS):
            raise ValueError("the state of the audit has another number of bets")
        return state


def e_start(alpha: float) -> EProcess:
    """The state before the first audited answer. Raises ValueError unless 0 < α < 1."""
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"α must lie between 0 and 1: got {alpha}")
    return EProcess(alpha)


def e_process(state: EProcess, wrong: bool) -> EProcess:
    """The state after one more audited answer: Eₙ = Σⱼ wⱼ Πᵢ (1 + bⱼ(Xᵢ − α)), a supermartingale if P(X = 1) ≤ α.

    The bet bⱼ = (pⱼ − α) / (α(1 − α)) is the best one if the risk is pⱼ.
    Source: Waudby-Smith & Ramdas 2024, §4 (betting); Herbster & Warmuth 1998 (sleeping wealth).
    """
    alpha = state.alpha
    risks = _risks(alpha)
    gains = [math.log(p / alpha) if wrong else math.log1p(-p) - math.log1p(-alpha) for p in risks]
    log_asleep, log_wealth = _bet(state.log_asleep, state.log_wealth, gains, state.n)
    return replace(
        state, n=state.n + 1, errors=state.errors + bool(wrong), log_asleep=log_asleep, log_wealth=log_wealth
    )


def expected_delay(alpha: float, risk: float, delta: float) -> float:
    """Audited answers until e ≥ 1/δ with the best bet, if the risk is `risk`: ln(1/δ) / KL(risk ‖ α).

    Infinite for a risk of at most α. `e_process`, which doesn't know the risk, takes 1.3 times as long for 2α and 1.6
    times for 5α (simulated at α = 2 %).
    Source: Wald 1945 (the sample number of the sequential probability ratio test, without overshoot).
    """
    if risk <= alpha:
        return math.inf
    information = risk * math.log(risk / alpha)
    if risk < 1.0:
        information += (1.0 - risk) * math.log((1.0 - risk) / (1.0 - alpha))
    return math.log(1.0 / delta) / information


@dataclass(frozen=True)
class Martingale(_Bets):
    """Evidence against "today's scores come as the calibration scores did"; scores are counted in bins.

    `counts` are those of the calibration scores and of all since; bin b holds edges[b − 1] ≤ score < edges[b].
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    n: int = 0
    log_asleep: float = math.log(ASLEEP)
    log_wealth: tuple[float, ...] = (math.log((1.0 - ASLEEP) / BETS),) * BETS

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Martingale:
        """The state that `json` gave. Raises ValueError for anything else."""
        state: Martingale = _state(cls, value)
        if len(state.counts) != len(state.edges) + 1 or len(state.log_wealth) != BETS or min(state.counts) < 0:
            raise ValueError("the bins of the martingale don't fit its counts")
        return state


def martingale_start(scores: Sequence[float], bins: int = 100) -> Martingale:
    """The state before the first new score: calibration scores counted in at most `bins` bins of equal share.

    Raises ValueError for no scores, or scores that are not finite.
    """
    ordered = sorted(float(score) for score in scores)
    if not ordered or not all(map(math.isfinite, ordered)):
        raise ValueError("a martingale needs finite calibration scores")
    edges = sorted({ordered[len(ordered) * b // bins] for b in range(1, bins)} - {ordered[0]})
    counts = [0] * (len(edges) + 1)
    for score in ordered:
        counts[bisect_right(edges, score)] += 1
    return Martingale(tuple(edges), tuple(counts))


def p_value(state: Martingale, score: float, chance: float) -> float:
    """Smoothed conformal p-value of a score among all before it: small for low scores, near 1 for high ones.

    All before it are the n calibration scores and every new one since, so that a long stream is not held against a
    fixed sample. `chance` is a fresh uniform number from [0, 1), which breaks the ties within a bin: if the scores are
    exchangeable, the p-values are independent and uniform (within 1/(n + 1): edges are calibration scores themselves).
    Source: Vovk, Gammerman & Shafer 2005, "Algorithmic Learning in a Random World", §2.2 and §7.1.
    """
    place = bisect_right(state.edges, score)
    below, level = sum(state.counts[:place]), state.counts[place] + 1
    return (below + chance * level) / (sum(state.counts) + 1)


def martingale(state: Martingale, score: float, chance: float) -> Martingale:
    """The state after one more score; NaN counts as the lowest.

    It bets on p-values by densities that integrate to 1: towards low, high, very low and very high ones, and away
    from and towards the middle; each boldly and gently. Source: Vovk 2021, "Testing randomness online", §3–4.
    """
    score = -math.inf if math.isnan(score) else float(score)
    p = min(max(p_value(state, score, chance), 1e-12), 1.0 - 1e-12)
    middle = 1.5 - 6.0 * (p - 0.5) ** 2
    bold = (0.5 / math.sqrt(p), 0.5 / math.sqrt(1.0 - p), 2.0 - 2.0 * p, 2.0 * p, middle, 2.0 - middle)
    gains = [math.log(d + 1e-300) for d in (*bold, *(1.0 + GENTLE * (d - 1.0) for d in bold))]
    log_asleep, log_wealth = _bet(state.log_asleep, state.log_wealth, gains, state.n)
    place = bisect_right(state.edges, score)
    counts = (*state.counts[:place], state.counts[place] + 1, *state.counts[place + 1 :])
    return replace(state, counts=counts, n=state.n + 1, log_asleep=log_asleep, log_wealth=log_wealth)


def _risks(alpha: float) -> tuple[float, ...]:
    return tuple(min(times * alpha, 0.5 * (1.0 + alpha)) for times in ODDS)


def _bet(
    log_asleep: float, log_wealth: Sequence[float], gains: Sequence[float], t: int
) -> tuple[float, tuple[float, ...]]:
    """Wake a share of the sleeping wealth, spread it over the bets, and let each bet win or lose."""
    waking = 1.0 / (WAKING + t)
    log_woken = log_asleep + math.log(waking / len(log_wealth))
    after = tuple(_log_sum((wealth, log_woken)) + gain for wealth, gain in zip(log_wealth, gains, strict=True))
    return log_asleep + math.log1p(-waking), after


def _log_sum(logs: Sequence[float]) -> float:
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs))


def _state(kind: Any, value: Mapping[str, Any]) -> Any:
    """Build a state from plain values, checked key by key."""
    names = {field.name for field in fields(kind)}
    if not isinstance(value, Mapping) or set(value) != names:
        raise ValueError(f"the state needs exactly the keys {', '.join(sorted(names))}")
    given: dict[str, Any] = {}
    for name, item in value.items():
        whole = name in ("n", "errors", "counts")
        items = list(item) if isinstance(item, (list, tuple)) else [item]
        if not all(isinstance(i, int if whole else (int, float)) and math.isfinite(i) for i in items):
            raise ValueError(f"{name} in the state is not a finite number")
        given[name] = tuple(items) if isinstance(item, (list, tuple)) else item
    return kind(**given)
