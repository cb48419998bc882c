"""A Runtime made of several: the small model answers what its certificate covers, others the rest, or it waits.

Order: the small model, people's earlier answer to this very text, the large models one after another, the queue.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Protocol, overload

import numpy as np

from minikin.base.errors import UserError
from minikin.base.types import Answer, Array, Text
from minikin.trust.asked import said, writes
from minikin.trust.drift import CERTIFIED, Watch
from minikin.trust.egress import Egress
from minikin.trust.guard import MISSING, not_standing
from minikin.trust.large import KinLarge, Large, WritingLarge
from minikin.trust.others import PEOPLE, Given, Others
from minikin.trust.queue import AUDIT, HANDED_OVER, Entry, Queue

NOBODY: Final = "(handed over)"
"""The last column of `HandOver.probabilities`: nobody has answered yet, so no label is right."""


class Guard(Protocol):
    """The rule of a certificate, and whether it holds."""

    @property
    def state(self) -> str:
        """`certified` or `void`."""
        ...

    @property
    def reason(self) -> str:
        """Why it is void."""
        ...

    def decide(
        self,
        probabilities_NC: Array,
        pooled_NH: Array | None,
        texts: Sequence[Text],
        groups: Sequence[str] | None = None,
    ) -> tuple[Array, Array]:
        """Return scores (N,), higher being surer, and which answers (N,) the certificate covers."""
        ...

    def why(self, score: float, group: str | None = None) -> str:
        """Why an answer of this score is not covered, in words."""
        ...


class NoGuard:
    """What stands in for a certificate where there is none: nothing may be answered."""

    state = "void"
    reason = MISSING

    def decide(
        self,
        probabilities_NC: Array,
        pooled_NH: Array | None,
        texts: Sequence[Text],
        groups: Sequence[str] | None = None,
    ) -> tuple[Array, Array]:
        """Accept nothing."""
        return probabilities_NC.max(-1), np.zeros(len(probabilities_NC), bool)

    def why(self, score: float, group: str | None = None) -> str:
        """It is the same for every answer."""
        return self.reason


@dataclass(frozen=True)
class Policy:
    """What never depends on a score: labels that only people give, and the share of requests for the blind audit."""

    critical: frozenset[str] = frozenset()
    audit_share: float = 0.0


class HandOver:
    """A small model and all that stand behind it, as one `Runtime`. Safe to share between threads."""

    def __init__(
        self,
        small: Any,
        *,
        large: Any = (),
        queue: Queue | str | Path | None = None,
        guard: Guard | None = None,
        watch: Watch | None = None,
        egress: Egress | None = None,
        policy: Policy | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """`small` is a runtime, or a kin that writes: then the `label` of an answer is the text that was written.

        `guard` defaults to the certificate in the small kin's folder; without one, nothing is answered locally.
        `large`, one or several, are asked in turn; a plain runtime (another kin) answers everything it is asked.
        `egress` lets nothing leave by default. `watch` turns drift and failed audits into a stop.
        """
        self.small = small
        self.large: list[Large] = _givers(large, small)
        self.queue = Queue(queue) if isinstance(queue, str | Path) else queue
        self.guard: Guard = guard or getattr(small, "guard", None) or NoGuard()
        self.watch, self.policy = watch, policy or Policy()
        self._others = Others(self.large, self.queue, egress or Egress(), self.policy.critical)
        self._chance = chance
        self._candidates = getattr(self.guard, "candidates", None) if not writes(small) else None
        self._places = {label: i for i, label in enumerate(self.labels)}
        self._lock = threading.Lock()
        self.tally: Counter[str] = Counter()
        self.look()

    @property
    def labels(self) -> tuple[str, ...]:
        """The small model's labels, then `NOBODY`; a kin that writes has none of its own."""
        return (*getattr(self.small, "labels", ()), NOBODY)

    @property
    def state(self) -> tuple[str, str]:
        """Whether the small model may answer: `certified`, `suspect` or `void`, and why not."""
        if self.guard.state != CERTIFIED:
            return self.guard.state, self.guard.reason
        if self.watch is not None and self.watch.state != CERTIFIED:
            return self.watch.state, self.watch.reason
        return CERTIFIED, ""

    @overload
    def __call__(self, texts: Text, groups: str | None = None) -> Answer: ...

    @overload
    def __call__(self, texts: list[Text] | list[str], groups: list[str] | None = None) -> list[Answer]: ...

    def __call__(self, texts: Any, groups: Any = None) -> Answer | list[Answer]:
        """Answer one text (or pair), or each of a list, in order; an answer says who may stand for it, and why.

        A label that is empty waits for a person in the queue. Confidence is NaN where a large model gives none.
        Raises QueueError when what was handed over can't be kept.
        """
        if isinstance(texts, list):
            return self._answers(texts, groups)
        return self._answers([texts], None if groups is None else [groups])[0]

    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Class probabilities (N, C + 1): the small model's own, or 1 at what others answered, or at `NOBODY`.

        Raises UserError for a kin that writes: it has no classes.
        """
        if writes(self.small):
            raise UserError("This kin writes: there are no probabilities of labels. Call it with the prompts.")
        answers = self._answers(list(texts), None)
        rows_NC = np.zeros((len(answers), len(self.labels)))
        for row_C, answer in zip(rows_NC, answers, strict=True):
            if answer.handed_over:
                row_C[self._places.get(answer.label, -1)] = 1.0
            else:
                row_C[:-1] = list(answer.probabilities.values())
        return rows_NC

    def look(self) -> None:
        """Weigh what people said of the audit since the last look."""
        if self.watch is not None and self.queue is not None:
            self.watch.audited(self.queue.audited(self.watch.certificate))

    def close(self) -> None:
        """Hand what was seen to the watch, and let the queue go."""
        if self.watch is not None:
            self.watch.flush()
        if self.queue is not None:
            self.queue.close()

    def _answers(self, texts: list[Text], groups: list[str] | None) -> list[Answer]:
        if not texts:
            return []
        own, accept_N, why = self._local(texts, groups)
        answers: list[Answer] = []
        rest: list[int] = []
        for i, answer in enumerate(own):
            if accept_N[i] and answer.label not in self.policy.critical:
                answers.append(replace(answer, certified=True, reason=""))
                continue
            critical = f"'{answer.label}' is left to people" if accept_N[i] else why[i]
            answers.append(replace(answer, certified=False, reason=critical, handed_over=True))
            rest.append(i)
        replies = self._others.ask([texts[i] for i in rest], [own[i].label for i in rest])
        given = dict(zip(rest, replies, strict=True))
        for i, reply in given.items():
            answers[i] = _answered(answers[i], reply, self.queue is not None)
        self._keep(texts, own, answers, given)
        return answers

    def _local(self, texts: list[Text], groups: list[str] | None) -> tuple[list[Answer], Array, list[str]]:
        """What the small model says, which of it may be answered, and why not the rest."""
        found = said(self.small, texts)
        scores_N, accept_N = self.guard.decide(*found.given, texts, groups)
        state, reason = self.state
        if self.watch is not None and self.guard.state == CERTIFIED:
            self.watch.seen(scores=scores_N)
        own = found.answers
        if self._candidates is not None:
            some = map(self._candidates, found.given[0])
            own = [replace(answer, candidates=labels) for answer, labels in zip(own, some, strict=True)]
        if state != CERTIFIED:
            return own, np.zeros(len(texts), bool), [not_standing(state, reason)] * len(texts)
        of: Sequence[str | None] = groups if groups is not None else [None] * len(texts)
        why = [self.guard.why(float(score), group) for score, group in zip(scores_N, of, strict=True)]
        return own, np.asarray(accept_N, bool), why

    def _keep(self, texts: list[Text], own: list[Answer], answers: list[Answer], given: dict[int, Given]) -> None:
        """Put what was handed over into the queue, draw the audit, and count."""
        entries: list[Entry] = []
        for i, answer in enumerate(answers):
            drawn = self._chance() < self.policy.audit_share
            if answer.handed_over or drawn:
                reply = given.get(i, Given())
                silver = reply.label is not None and reply.by != PEOPLE
                entries.append(
                    Entry(
                        texts[i],
                        answer.reason,
                        kind=AUDIT if drawn else HANDED_OVER,
                        guess=own[i].label,
                        local=not answer.handed_over,
                        waits=i in given and reply.waits,
                        silver=reply.label if silver else None,
                        silver_by=reply.by if silver else None,
                        certificate=self.watch.certificate if self.watch is not None else "",
                    )
                )
        if self.queue is not None and entries:
            self.queue.put(entries)
            self.look()
        with self._lock:
            for i in range(len(answers)):
                self.tally[(given[i].by or "waiting") if i in given else "local"] += 1


def _givers(large: Any, small: Any) -> list[Large]:
    """One or several to ask; a plain runtime (or kin that writes) is made one that can be asked."""
    several = large if isinstance(large, Sequence) else [large]
    writing = writes(small)
    return [one if hasattr(one, "ask") else WritingLarge(one) if writing else KinLarge(one, small.labels)
            for one in several]  # fmt: skip


def _answered(answer: Answer, given: Given, kept: bool) -> Answer:
    """The answer that another gave, or that nobody has given yet."""
    end = f"answered by {given.by}" if given.label is not None else ""
    if given.waits:
        end = "it waits for a person" if kept else "nobody else could answer"
    reason = "; ".join(filter(None, (answer.reason, given.why, end)))
    return replace(answer, label=given.label or "", confidence=given.confidence, probabilities={}, reason=reason)
