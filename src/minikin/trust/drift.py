"""The watch over one certificate: CERTIFIED until scores drift (SUSPECT) or audited answers are wrong too often (VOID).

Every transition is logged with its evidence. Nothing here leads back: a new certificate starts a new watch.
"""

from __future__ import annotations

import math
import operator
import random
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from minikin.base.types import Array
from minikin.equations.drift import (
    EProcess,
    Martingale,
    e_process,
    e_start,
    expected_delay,
    martingale,
    martingale_start,
)
from minikin.trust.book import Facts, Memory

CERTIFIED: Final = "certified"
SUSPECT: Final = "suspect"
VOID: Final = "void"
TOGETHER = 64
"""New scores are handed to the shared state when so many are there, so that an answer rarely waits for a disk."""
WORSE = (2.0, 5.0)
"""Risks, as multiples of α, of which people are told how soon they would be noticed."""


@dataclass(frozen=True)
class Standing:
    """Where a certificate stands, why, and the evidence: wealth of the watch on scores, and of the audit."""

    state: str
    reason: str
    seen: int
    drift_e: float
    audited: int
    errors: int
    audit_e: float


class Watch:
    """Follows one certificate through what comes in and what people say. Workers that share a book share the watch.

    `alarm` is the chance δ′ that the watch on scores, and that the audit, ever raise a false alarm (each). `reference`
    holds what the calibration examples had: name → scores; new ones of that name are compared with them.
    """

    def __init__(
        self,
        certificate: str,
        alpha: float,
        reference: Mapping[str, Sequence[float] | Array],
        *,
        alarm: float = 0.05,
        book: Facts | None = None,
        together: int = TOGETHER,
        chance: Callable[[], float] = random.random,
        same: Callable[[str, str], bool] = operator.eq,
    ) -> None:
        """`same` says whether an answer and a person's are one; see the class for the rest."""
        self.certificate, self.alpha, self.alarm = certificate, alpha, alarm
        self.book: Facts = Memory() if book is None else book
        self._name, self._together, self._chance = f"watch {certificate}", together, chance
        self._same = same
        self._lock = threading.Lock()
        self._waiting: dict[str, list[float]] = {name: [] for name in reference}
        self._reference = reference
        self._now: dict[str, Any] = self._change(lambda _: None)

    @property
    def state(self) -> str:
        """`certified`, `suspect` or `void`, as last read from the book."""
        return str(self._now["state"])

    @property
    def reason(self) -> str:
        """Why it is not certified any more; empty while it is."""
        return str(self._now["reason"])

    @property
    def standing(self) -> Standing:
        """Everything that is known, for people."""
        now = self._now
        logs = [Martingale.of(value).log_e for value in now["martingales"].values()]
        return Standing(
            now["state"],
            now["reason"],
            max((value["n"] for value in now["martingales"].values()), default=0),
            _e(_mean(logs)),
            now["audited"],
            now["errors"],
            _e(now["audit_log_e"]),
        )

    def seen(self, **values_N: Array) -> None:
        """Take note of new scores by name; those of names without a reference are passed over."""
        with self._lock:
            for name, waiting in self._waiting.items():
                waiting.extend(map(float, values_N.get(name, ())))
            if max(map(len, self._waiting.values()), default=0) < self._together:
                return
        self.flush()

    def flush(self) -> None:
        """Hand the scores that wait to the shared state; beyond the alarm's odds it becomes SUSPECT.

        The mean of the martingales (over names) is one too, so it ever reaches 1/δ′ by chance with at most δ′.
        """
        with self._lock:
            waiting, self._waiting = self._waiting, {name: [] for name in self._waiting}

        def bet(now: dict[str, Any]) -> None:
            states = {name: Martingale.of(value) for name, value in now["martingales"].items()}
            for name, values in waiting.items():
                for value in values:
                    states[name] = martingale(states[name], value, self._chance())
            now["martingales"] = {name: state.json() for name, state in states.items()}
            log_e = _mean([state.log_e for state in states.values()])
            if now["state"] == CERTIFIED and log_e >= -math.log(self.alarm):
                n = max(state.n for state in states.values())
                now["state"] = SUSPECT
                now["reason"] = f"what comes in has changed: after {n:,} texts the odds are {_e(log_e):,.0f} to 1"

        self._now = self._change(bet)

    def audited(self, answers: Sequence[tuple[str, str]]) -> None:
        """Weigh all audited local answers, (the kin's, a person's), from the first; beyond the odds it becomes VOID.

        Counting anew makes an answer that was corrected count once, and as corrected.
        """
        if len(answers) == self._now["audited"] and self._errors(answers) == self._now["errors"]:
            return
        state: EProcess = e_start(self.alpha)
        highest = state.log_e
        for answer, truth in answers:
            state = e_process(state, not self._same(answer, truth))
            highest = max(highest, state.log_e)

        def weigh(now: dict[str, Any]) -> None:
            now["audited"], now["errors"], now["audit_log_e"] = state.n, state.errors, state.log_e
            if now["state"] != VOID and highest >= -math.log(self.alarm):
                now["state"] = VOID
                now["reason"] = (
                    f"the audit found {state.errors:,} wrong of {state.n:,} answers, where at most "
                    f"{self.alpha:.1%} were promised: the odds were {_e(highest):,.0f} to 1"
                )

        self._now = self._change(weigh)

    def delays(self) -> dict[float, float]:
        """Risk → audited answers until the audit is expected to notice it (with the best bet), for a few risks."""
        risks = [min(times * self.alpha, 1.0) for times in WORSE]
        return {risk: expected_delay(self.alpha, risk, self.alarm) for risk in risks}

    def _errors(self, answers: Sequence[tuple[str, str]]) -> int:
        return sum(not self._same(answer, truth) for answer, truth in answers)

    def _fresh(self) -> dict[str, Any]:
        starts = {name: martingale_start(list(map(float, values))).json() for name, values in self._reference.items()}
        nothing = {"audited": 0, "errors": 0, "audit_log_e": 0.0}
        return {"state": CERTIFIED, "reason": "", "martingales": starts, **nothing}

    def _change(self, how: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
        """Change the shared state as one, and log a transition by the worker that made it."""
        before = after = CERTIFIED

        def changed(now: Any) -> dict[str, Any]:
            nonlocal before, after
            now = now or self._fresh()
            before = now["state"]
            how(now)
            after = now["state"]
            return dict(now)

        now: dict[str, Any] = self.book.change(self._name, changed)
        if before != after:
            evidence = {key: now[key] for key in ("reason", "audited", "errors", "audit_log_e")}
            logs = {name: Martingale.of(value).log_e for name, value in now["martingales"].items()}
            self.book.note(
                "transition",
                {"certificate": self.certificate, "from": before, "to": after, **evidence, "log_e": logs},
            )
        return now


def _mean(logs: Sequence[float]) -> float:
    """Logarithm of the mean of e-values; 0 for none."""
    if not logs:
        return 0.0
    top = max(logs)
    return top + math.log(sum(math.exp(log - top) for log in logs) / len(logs))


def _e(log: float) -> float:
    return math.exp(min(log, 700.0))
