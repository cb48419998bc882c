"""Who is asked when the small model may not answer: `endpoint.Endpoint`, or another kin. Used by `handover`.

An answer is one of the labels or a failure; whatever else a model says is never taken for a label.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minikin.base.types import Array, Runtime, Text
from minikin.base.writing import Completion
from minikin.trust.asked import completed


@dataclass(frozen=True)
class Reply:
    """What one said about one text: a label with a confidence (NaN where it gives none), or why there is none."""

    label: str | None
    why: str = ""
    confidence: float = float("nan")


class Large(Protocol):
    """One who can be asked. `leaves` says whether texts leave this device on the way."""

    name: str
    leaves: bool

    def ask(self, texts: Sequence[Text]) -> list[Reply]:
        """Answer texts, in order; never raises for what an endpoint does."""
        ...


class KinLarge:
    """Another kin (or any runtime) on this device; with `guard`, it answers only what its own certificate allows."""

    leaves = False

    def __init__(self, runtime: Runtime, labels: Sequence[str], guard: Any = None, name: str = "kin") -> None:
        self.runtime, self.guard, self.name = runtime, guard, name
        self._labels = set(labels)

    def ask(self, texts: Sequence[Text]) -> list[Reply]:
        """Answer texts, in order."""
        at_once = getattr(self.runtime, "both", None)
        probabilities_NC, pooled_NH = at_once(texts) if at_once else (self.runtime.probabilities(texts), None)
        accept_N, why = np.ones(len(texts), bool), ""
        if self.guard is not None:
            accept_N, why = self._accepted(np.asarray(probabilities_NC), pooled_NH, texts)
        return [self._reply(row_C, bool(ok), why) for row_C, ok in zip(probabilities_NC, accept_N, strict=True)]

    def _accepted(self, probabilities_NC: Array, pooled_NH: Array | None, texts: Sequence[Text]) -> tuple[Array, str]:
        if self.guard.state != "certified":
            return np.zeros(len(probabilities_NC), bool), f"{self.name} has no valid certificate: {self.guard.reason}"
        return self.guard.decide(probabilities_NC, pooled_NH, texts)[1], f"{self.name} is not sure enough"

    def _reply(self, row_C: Array, accepted: bool, why: str) -> Reply:
        best = int(row_C.argmax())
        label = self.runtime.labels[best]
        if not accepted:
            return Reply(None, why)
        if label not in self._labels:
            return Reply(None, f"{self.name} answered '{label}', which is none of the labels")
        return Reply(label, "", float(row_C[best]))


class WritingLarge:
    """Another kin that writes, on this device; with `certified` it answers only what its own certificate allows."""

    leaves = False

    def __init__(self, author: Any, certified: bool = False, name: str = "kin") -> None:
        self.author, self.certified, self.name = author, certified, name

    def ask(self, texts: Sequence[Text]) -> list[Reply]:
        """Write an answer to each prompt, in order; one that was cut off is none."""
        return [self._reply(completed(self.author, text)) for text in texts]

    def _reply(self, found: Completion) -> Reply:
        if found.finish != "end":
            return Reply(None, f"{self.name} came to no end")
        if self.certified and not found.certified:
            return Reply(None, f"{self.name} is not sure enough: {found.reason or 'it has no certificate'}")
        return Reply(found.text)
