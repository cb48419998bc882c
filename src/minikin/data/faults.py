"""The bag in which one pass over the data collects every fault, so that all are told at once.

`load` and `formats` fill it; what is fatal becomes a `DataError`, the rest goes into `Data.faults`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from minikin.base.errors import DataError
from minikin.base.types import Fault

ROWS_KEPT = 1000
ROWS_SHOWN = 8
DETAILS_SHOWN = 3

ROW_FAULTS = {
    "broken-row": "broken, left out",
    "stray-quote": "with an unbalanced quotation mark, read without quoting",
    "empty-text": "without text, left out",
    "missing-label": "without a label, left out",
    "undecodable": "with bytes that can't be decoded, replaced by U+FFFD",
    "nul": "with NUL characters, removed",
    "surrogate": "with lone surrogates, replaced by U+FFFD",
    "long-text": "of 100,000 characters or more, kept; only the first tokens will be read",
    "unseen-label": "with a label that is not in the training set, left out",
    "empty-prompt": "with an empty prompt, left out",
    "empty-completion": "with an empty completion, left out",
    "unanswered": "whose answer by the teacher can't be used, left out",
    "bad-messages": "whose messages are no list of roles and texts that ends with an answer, left out",
    "answers": "whose prompt also stands with another completion, all kept",
    "special-token": "with the name of a special token in their text, read as plain text",
    "template": "that the chat template refuses or changes, left out",
    "over-long": "longer than the context, left out",
    "duplicate": "repeating an earlier text, left out",
    "conflict": "whose text also stands with another label, of which one of the majority is kept, if there is one",
    "conflict-kept": "whose text also stands with another label, kept",
    "leak": "equal to a text of {other}, left out",
    "near-leak": "nearly equal to a text of {other}, left out",
}
"""What is said of rows, by kind of fault: '3 rows without text, left out: rows 4, 17, 90'."""


@dataclass
class _Rows:
    count: int = 0
    rows: list[int] = field(default_factory=list)
    details: list[str] = field(default_factory=list)


class Bag:
    """Collects faults by kind and split, in bounded memory."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, str, str], _Rows] = {}
        self._faults: list[Fault] = []

    @property
    def fatals(self) -> int:
        """Number of fatal faults so far."""
        return sum(fault.fatal for fault in self._faults)

    def row(self, kind: str, role: str, row: int, detail: str = "", other: str = "") -> None:
        """Note a fault of one row (1-based) of the split `role`; `other` is the split it collides with."""
        held = self._rows.setdefault((kind, role, other), _Rows())
        held.count += 1
        if len(held.rows) < ROWS_KEPT:
            held.rows.append(int(row))
        if detail and len(held.details) < DETAILS_SHOWN:
            held.details.append(detail)

    def rows(self, kind: str, role: str, rows: Iterable[int], other: str = "") -> None:
        """Note the same fault for many rows."""
        for row in rows:
            self.row(kind, role, row, other=other)

    def note(self, kind: str, message: str, rows: Sequence[int] = ()) -> None:
        """Note something that people should know and that stops nothing."""
        self._faults.append(Fault(kind, message, tuple(int(row) for row in rows[:ROWS_KEPT])))

    def fatal(self, kind: str, message: str, rows: Sequence[int] = ()) -> None:
        """Note a fault that makes the data unusable."""
        self._faults.append(Fault(kind, message, tuple(int(row) for row in rows[:ROWS_KEPT]), fatal=True))

    def faults(self) -> tuple[Fault, ...]:
        """Return every fault, the fatal ones first."""
        found = [*self._faults, *(self._sentence(*key, held) for key, held in self._rows.items())]
        return tuple(sorted(found, key=lambda fault: not fault.fatal))

    def raise_if_fatal(self) -> None:
        """Raise `DataError` with all faults if one of them is fatal."""
        found = self.faults()
        if found and found[0].fatal:
            raise DataError("The data can't be used as it is:", [fault.message for fault in found])

    @staticmethod
    def _sentence(kind: str, role: str, other: str, held: _Rows) -> Fault:
        words = ROW_FAULTS[kind].format(other=other)
        noun = "row" if held.count == 1 else "rows"
        message = f"{role}: {held.count:,} {noun} {words}: {numbers(held.rows, held.count)}"
        if held.details:
            more = "; …" if held.count > len(held.details) else ""
            message += f" ({'; '.join(held.details)}{more})"
        return Fault(kind, message, tuple(held.rows))


def numbers(rows: Sequence[int], count: int) -> str:
    """Write row numbers for a sentence: 'row 4', 'rows 4, 17, …'."""
    shown = ", ".join(str(row) for row in rows[:ROWS_SHOWN])
    return f"{'row' if count == 1 else 'rows'} {shown}{', …' if count > ROWS_SHOWN else ''}"
