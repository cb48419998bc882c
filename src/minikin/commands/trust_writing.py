"""A kin that writes, for `minikin certify` and `advise`: compared with people's answers, or judged by verdicts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.markup import escape

from minikin.base.console import console as progress
from minikin.base.errors import DataError, UserError
from minikin.base.types import Array
from minikin.commands.run import usual_columns
from minikin.equations.metrics import same
from minikin.report import words
from minikin.runtimes.author import Author

VERDICTS = {**dict.fromkeys(("true", "yes", "1"), True), **dict.fromkeys(("false", "no", "0"), False)}


@dataclass(frozen=True)
class Asked:
    """A file as it was read: prompts, answers, verdicts on them if any, groups and 1-based rows."""

    texts: list[str]
    answers: list[str]
    right_N: Array | None
    groups_N: Array | None
    rows_N: Array

    @property
    def known(self) -> Any:
        """What the digest of the certificate's labels is made of, beside the prompts."""
        return [self.answers, None if self.right_N is None else self.right_N.tolist()]

    def take(self, rows: Array) -> Asked:
        """The examples at `rows`."""
        right_N, groups_N = (None if part is None else part[rows] for part in (self.right_N, self.groups_N))
        texts, answers = ([part[int(i)] for i in rows] for part in (self.texts, self.answers))
        return Asked(texts, answers, right_N, groups_N, self.rows_N[rows])


def read(source: str, kin: Author, ask: Any) -> Asked:
    """Read prompts, answers, and the columns of verdict and group. Raises DataError with every fault."""
    from minikin.commands.measure import _label_of
    from minikin.data.clean import tidy
    from minikin.data.faults import Bag
    from minikin.data.formats import batches

    _refuse(kin, ask)
    columns = (*(ask.columns or usual_columns(kin.folder)), ask.label or _label_of(kin.folder))
    wanted = [*columns, *([ask.verdict] if ask.verdict else []), *([ask.group] if ask.group else [])]
    bag = Bag()
    rows: list[tuple[str, str, bool, str, int]] = []
    for batch in batches(source, wanted, "certify", bag):
        for row, *values in zip(batch.rows, *batch.columns, strict=True):
            cells = [tidy(_plain(value))[0] for value in values]
            if not cells[0]:
                bag.row("empty-prompt", "certify", row)
                continue
            right = VERDICTS.get(cells[2].casefold()) if ask.verdict else True
            if right is None or not (cells[1] or ask.verdict):
                why = f"row {row}: the verdict is {cells[2]!r}, not true or false" if ask.verdict else ""
                bag.row("broken-row" if ask.verdict else "empty-completion", "certify", row, why)
                continue
            rows.append((cells[0], cells[1], right, cells[-1] if ask.group else "", row))
    bag.raise_if_fatal()
    for fault in bag.faults():
        progress.print(f"[yellow]{escape(fault.message)}[/]")
    if not rows:
        raise DataError(f"{source} holds no prompt with an answer to certify on.")
    texts, answers, right_N, groups, numbers = zip(*rows, strict=True)
    judged = np.array(right_N) if ask.verdict else None
    return Asked(list(texts), list(answers), judged, np.array(groups) if ask.group else None, np.array(numbers))


def judged(kin: Author, asked: Asked) -> Any:
    """Ask the kin every prompt, and compare or look up what is wrong: what `certify` and `prospects` take.

    Raises UserError where verdicts are on other answers than those of this kin.
    """
    from minikin.trust.asked import completed
    from minikin.trust.verdicts import Verdicts, parts_of

    with progress.status(f"writing {words.count(len(asked.texts), 'answer')} …"):
        found = [completed(kin, text) for text in asked.texts]
    alike_N = np.array([same(one.text, answer) for one, answer in zip(found, asked.answers, strict=True)])
    if asked.right_N is not None and not alike_N.all():
        rows = asked.rows_N[~alike_N]
        raise UserError(
            f"{words.count(len(rows), 'verdict')} of {len(alike_N):,} (the first in row {rows[0]}) are on answers that "
            "this kin does not give. Have it write them anew with `minikin run`, and judge those."
        )
    right_N = alike_N if asked.right_N is None else asked.right_N
    return Verdicts(np.array([parts_of(one) for one in found]), ~right_N, asked.groups_N)


def _refuse(kin: Author, ask: Any) -> None:
    """Raise UserError for what a kin that writes has not."""
    if kin.kind != "pairs":
        raise UserError(f"Only kins of prompts with completions can be certified; this one was trained on {kin.kind}.")
    for name, given in (("--sets", ask.sets), ("--reject", ask.reject), ("--labels-checked", ask.labels_checked)):
        if given:
            raise UserError(f"{name} is for kins that sort texts; this one writes.")
    if len(ask.columns) > 1:
        raise UserError("This kin answers to single prompts: give --text once.")


def _plain(value: Any) -> str:
    if isinstance(value, dict | list | bool):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return "" if value is None else str(value)
