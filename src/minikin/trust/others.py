"""Those behind the small model, asked in turn: people's earlier answers, then each large model. Used by `handover`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from minikin.base.types import Text
from minikin.trust.egress import Egress
from minikin.trust.large import Large, Reply
from minikin.trust.queue import GOLD, NONE, Queue

PEOPLE: Final = "people"


@dataclass(frozen=True)
class Given:
    """What came back about one text: a label and by whom, or why nobody gave one. `waits`: a person still has to."""

    label: str | None = None
    by: str = ""
    why: str = ""
    confidence: float = float("nan")

    @property
    def waits(self) -> bool:
        """Whether the text is open: nobody gave a label, and no person said that none fits."""
        return self.label is None and self.by != PEOPLE


@dataclass(frozen=True)
class Others:
    """Who can be asked. `critical` labels are people's alone; `egress` guards the models that are elsewhere."""

    large: Sequence[Large]
    queue: Queue | None
    egress: Egress
    critical: frozenset[str]

    def ask(self, texts: Sequence[Text], guesses: Sequence[str]) -> list[Given]:
        """Answer texts, in order; `guesses` are the small model's labels, which decide what is critical."""
        given = [self._before(text) for text in texts]
        for one in self.large:
            open_ = [i for i, so_far in enumerate(given) if so_far.waits and guesses[i] not in self.critical]
            for i, reply in zip(open_, self._asked(one, [texts[i] for i in open_]), strict=True):
                given[i] = self._taken(given[i], reply, one.name)
        return given

    def _before(self, text: Text) -> Given:
        """What a person said of this very text, if one did."""
        known = self.queue.known(text) if self.queue is not None else None
        if known is None or known[0] != GOLD:
            return Given()
        if known[1] == NONE:
            return Given(None, PEOPLE, "a person said of this very text that no label fits")
        return Given(known[1], PEOPLE, "a person answered this very text before", 1.0)

    def _asked(self, one: Large, texts: list[Text]) -> list[Reply]:
        """Ask one large model; what may not leave gets no further than here."""
        if not texts:
            return []
        if not one.leaves:
            return one.ask(texts)
        verdicts = [self.egress.verdict(text) for text in texts]
        allowed = [verdict.text for verdict in verdicts if verdict.text is not None]
        said = iter(one.ask(allowed) if allowed else ())
        return [Reply(None, verdict.reason) if verdict.text is None else next(said) for verdict in verdicts]

    def _taken(self, before: Given, reply: Reply, name: str) -> Given:
        label, why = reply.label, reply.why
        if label in self.critical:
            label, why = None, f"{name} says '{label}', which is left to people"
        whys = "; ".join(filter(None, (before.why, why)))
        return Given(label, name if label is not None else "", whys, reply.confidence)
