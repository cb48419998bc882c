"""A loaded kin: what `minikin.load` returns. Batches are sorted by length inside and answered in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np

from minikin.base.manifest import Manifest
from minikin.base.types import Answer, Array, Text
from minikin.runtimes.tokenize import checked

BATCH = 16
"""Texts of similar length that are computed together: about twice the throughput of single ones.

Integer kins quantize a batch's activations with one scale, so a probability can move a little with the neighbours
in a batch; with `batch=1` an answer depends on its text alone.
"""

STREAM_CHUNK = 256


class Prepared(Protocol):
    """One text as an engine wants it."""

    @property
    def length(self) -> int:
        """Number of tokens."""
        ...

    @property
    def truncated(self) -> bool:
        """Whether tokens were cut off."""
        ...


class Engine(Protocol):
    """What answers inside a kin; safe to call from several threads."""

    def prepare(self, parts: tuple[str, ...]) -> Any:
        """Turn one text, or two, into ids."""
        ...

    def probabilities(self, batch: Sequence[Any]) -> Array:
        """Return class probabilities (B, C)."""
        ...

    def features(self, batch: Sequence[Any]) -> Array:
        """Return the vectors (B, F) that the classifier reads."""
        ...


class Probabilities(Mapping[str, float]):
    """Label to probability; looks into the row only when asked."""

    __slots__ = ("_labels", "_row_C")

    def __init__(self, labels: Mapping[str, int], row_C: Array) -> None:
        self._labels, self._row_C = labels, row_C

    def __getitem__(self, label: str) -> float:
        return float(self._row_C[self._labels[label]])

    def __iter__(self) -> Iterator[str]:
        return iter(self._labels)

    def __len__(self) -> int:
        return len(self._labels)

    def __repr__(self) -> str:
        return repr(dict(self))


class Kin:
    """A small model that answers to texts; a `Runtime`. Safe to share between threads."""

    def __init__(self, folder: Path, manifest: Manifest, engine: Engine, batch: int = BATCH) -> None:
        self.folder, self.manifest, self.batch = folder, manifest, batch
        self._engine = engine
        self._places = {label: i for i, label in enumerate(manifest.labels)}

    @property
    def labels(self) -> tuple[str, ...]:
        """Label names, in the order of the columns of `probabilities`."""
        return self.manifest.labels

    @overload
    def __call__(self, texts: Text) -> Answer: ...

    @overload
    def __call__(self, texts: list[Text] | list[str] | list[tuple[str, str]]) -> list[Answer]: ...

    def __call__(self, texts: Any) -> Answer | list[Answer]:
        """Answer one text (or pair), or each of a list, in order. Raises UserError for what is no text."""
        if isinstance(texts, list):
            return self._answers(texts)
        one = self._engine.prepare(checked(texts, self.manifest.pair))
        return self._answer(one, self._engine.probabilities((one,))[0])

    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Return class probabilities (N, C), rows in the order of `texts`."""
        return self._computed(self._prepared(texts), self._engine.probabilities, len(self.labels))

    def features(self, texts: Sequence[Text]) -> Array:
        """Return the pooled vectors (N, F) that the classifier reads, in the order of `texts`."""
        return self._computed(self._prepared(texts), self._engine.features, None)

    def truncated(self, texts: Sequence[Text]) -> list[bool]:
        """Say of each text whether it is longer than the kin reads."""
        return [one.truncated for one in self._prepared(texts)]

    def stream(self, texts: Iterable[Text], chunk: int = STREAM_CHUNK) -> Iterator[Answer]:
        """Answer texts as they come, in order, `chunk` at a time, whatever their number."""
        rest = iter(texts)
        while some := list(islice(rest, chunk)):
            yield from self._answers(some)

    def __repr__(self) -> str:
        manifest = self.manifest
        return f"<Kin {manifest.family} {manifest.scheme}, {len(self.labels)} labels, {manifest.size_mib:.2f} MiB>"

    def _answers(self, texts: Sequence[Text]) -> list[Answer]:
        prepared = self._prepared(texts)
        rows_NC = self._computed(prepared, self._engine.probabilities, len(self.labels))
        return [self._answer(one, row_C) for one, row_C in zip(prepared, rows_NC, strict=True)]

    def _answer(self, one: Prepared, row_C: Array) -> Answer:
        best = int(row_C.argmax())
        probabilities = Probabilities(self._places, row_C)
        return Answer(self.manifest.labels[best], float(row_C[best]), probabilities, one.truncated)

    def _prepared(self, texts: Sequence[Text]) -> list[Prepared]:
        if isinstance(texts, str):
            texts = [texts]
        pair, prepare = self.manifest.pair, self._engine.prepare
        return [prepare(checked(text, pair)) for text in texts]

    def _computed(
        self, prepared: Sequence[Prepared], compute: Callable[[Sequence[Any]], Array], width: int | None
    ) -> Array:
        """Compute batches of similar length; return their rows in the order of `prepared`."""
        if len(prepared) == 1:
            return compute(prepared)
        if not prepared:
            return np.zeros((0, width or compute([self._engine.prepare(("",) * (1 + self.manifest.pair))]).shape[1]))
        order = sorted(range(len(prepared)), key=lambda i: prepared[i].length)
        starts = range(0, len(order), self.batch)
        parts = [compute([prepared[i] for i in order[start : start + self.batch]]) for start in starts]
        rows = np.concatenate(parts)
        result = np.empty_like(rows)
        result[order] = rows
        return result
