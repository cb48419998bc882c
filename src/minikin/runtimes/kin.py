"""A loaded kin: what `minikin.load` returns. Batches are sorted by length inside and answered in order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol, overload

import numpy as np

from minikin.base.manifest import Manifest
from minikin.base.types import Answer, Array, Text
from minikin.runtimes.tokenize import checked

STREAM_CHUNK = 256


class Engine(Protocol):
    """What answers inside a kin; safe to call from several threads."""

    name: str

    def answer(self, texts: Sequence[tuple[str, ...]]) -> tuple[Array, Sequence[bool]]:
        """Return class probabilities (N, C), and whether each text was cut off."""
        ...

    def both(self, texts: Sequence[tuple[str, ...]]) -> tuple[Array, Array, Sequence[bool]]:
        """Return probabilities (N, C), the vectors (N, F) that the classifier reads, and whether texts were cut off."""
        ...


class Guard(Protocol):
    """What a certificate says of single answers (see trust/guard.py)."""

    def one(self, row_C: Array, pooled_F: Array | None, best: int, top: float, text: str) -> str:
        """Why the certificate does not cover an answer; '' when it does."""
        ...

    def candidates(self, row_C: Array) -> tuple[str, ...]:
        """Labels of the conformal set of a row of probabilities, likeliest first; none without sets."""
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
    """A small model that answers to texts; a `Runtime`. Safe to share between threads.

    Where a certificate lies in its folder, `guard` says of each answer whether it is covered.
    """

    def __init__(self, folder: Path, manifest: Manifest, engine: Engine, guard: Guard | None = None) -> None:
        self.folder, self.manifest, self.guard = folder, manifest, guard
        self._engine = engine
        self._places = {label: i for i, label in enumerate(manifest.labels)}

    @property
    def engine(self) -> str:
        """Name of what answers: `kernel (…)`, `onnx`, `numpy` or `torch`."""
        return self._engine.name

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
        given = (checked(texts, self.manifest.pair),)
        if self.guard is not None:
            rows_1C, pooled_1F, cut = self._engine.both(given)
            return self._guarded(self.guard, rows_1C[0], pooled_1F[0], cut[0], given[0])
        rows_1C, cut = self._engine.answer(given)
        return self._answer(rows_1C[0], cut[0])

    def probabilities(self, texts: Sequence[Text]) -> Array:
        """Return class probabilities (N, C), rows in the order of `texts`."""
        given = self._checked(texts)
        return self._engine.answer(given)[0] if given else np.zeros((0, len(self.labels)), np.float32)

    def both(self, texts: Sequence[Text]) -> tuple[Array, Array]:
        """Return `probabilities`, and the pooled vectors (N, F) that the classifier reads, in the order of `texts`."""
        given = self._checked(texts)
        rows_NC, pooled_NF, _ = self._engine.both(given or [("",) * (1 + self.manifest.pair)])
        return rows_NC[: len(given)], pooled_NF[: len(given)]

    def truncated(self, texts: Sequence[Text]) -> list[bool]:
        """Say of each text whether it is longer than the kin reads."""
        given = self._checked(texts)
        return list(self._engine.answer(given)[1]) if given else []

    def stream(self, texts: Iterable[Text], chunk: int = STREAM_CHUNK) -> Iterator[Answer]:
        """Answer texts as they come, in order, `chunk` at a time, whatever their number."""
        rest = iter(texts)
        while some := list(islice(rest, chunk)):
            yield from self._answers(some)

    def __repr__(self) -> str:
        manifest = self.manifest
        return f"<Kin {manifest.family} {manifest.scheme}, {len(self.labels)} labels, {manifest.size_mib:.2f} MiB>"

    def _answers(self, texts: Sequence[Text]) -> list[Answer]:
        given = self._checked(texts)
        if not given:
            return []
        if (guard := self.guard) is not None:
            rows_NC, pooled_NF, cut_N = self._engine.both(given)
            return [self._guarded(guard, *row) for row in zip(rows_NC, pooled_NF, cut_N, given, strict=True)]
        rows_NC, cut_N = self._engine.answer(given)
        return [self._answer(row_C, cut) for row_C, cut in zip(rows_NC, cut_N, strict=True)]

    def _answer(self, row_C: Array, cut: bool) -> Answer:
        best = int(row_C.argmax())
        probabilities = Probabilities(self._places, row_C)
        return Answer(self.manifest.labels[best], float(row_C[best]), probabilities, cut)

    def _guarded(self, guard: Guard, row_C: Array, pooled_F: Array, cut: bool, parts: tuple[str, ...]) -> Answer:
        """Answer, and say whether the certificate covers it, or why not."""
        best = int(row_C.argmax())
        top = float(row_C[best])
        reason = guard.one(row_C, pooled_F, best, top, "\n".join(parts))
        probabilities = Probabilities(self._places, row_C)
        label, some = self.manifest.labels[best], guard.candidates(row_C)
        return Answer(label, top, probabilities, cut, False, not reason, reason, some)

    def _checked(self, texts: Sequence[Text]) -> list[tuple[str, ...]]:
        if isinstance(texts, str):
            texts = [texts]
        pair = self.manifest.pair
        return [checked(text, pair) for text in texts]
