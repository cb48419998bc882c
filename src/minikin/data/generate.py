"""From the user's files to what the task `generate` learns from: read, clean, check, keep apart and split.

Prompts with completions, chats, or raw text; the same stream, the same faults by row and the same split rules as
`load`, which does it for labelled texts. Called by the pipeline.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from minikin.base.types import UNKNOWN_LABEL, Array, Data, Progress, Split, Text, no_progress
from minikin.base.writing import ROLES
from minikin.data import near
from minikin.data.apart import Side, keep_apart
from minikin.data.clean import hash64, tidy
from minikin.data.documents import documents, is_plain
from minikin.data.faults import Bag
from minikin.data.formats import Batch, batches
from minikin.data.load import digest_of, made, plain, view
from minikin.data.store import Texts, Writer

Kind: TypeAlias = Literal["pairs", "chat", "text"]
Message: TypeAlias = Mapping[str, str]

COLUMNS: Final[Mapping[Kind, tuple[str, ...]]] = {
    "pairs": ("prompt", "completion"),
    "chat": ("messages",),
    "text": ("text",),
}
ANSWER: Final = "assistant"
FROM: Final = {"human": "user", "gpt": ANSWER}
"""What roles are called where messages say `from` and `value`."""


@dataclass(frozen=True)
class Corpus:
    """What a decoder learns from: splits without labels, and how their examples are written.

    A text of `pairs` is (prompt, completion), one of `chat` is its messages as JSON, one of `text` a document.
    """

    data: Data
    kind: Kind


def read(
    train: str,
    *,
    kind: Kind = "pairs",
    columns: Sequence[str] = (),
    test: str | None = None,
    validation: str | None = None,
    calibration: str | None = None,
    unlabelled: str | None = None,
    answered: bool = False,
    seed: int = 0,
    cache: Path,
    progress: Progress = no_progress,
) -> Corpus:
    """Read files (CSV, TSV, JSONL, Parquet, text) or Hub sets (`hf:owner/name[:config][:split]`) into clean splits.

    `columns` are those of `COLUMNS[kind]` unless named. Absent splits are taken from the training rows, with
    (nearly) equal examples, and the parts of one document, on one side. A prompt with several completions keeps
    them all. Of `unlabelled` only prompts are read; with `answered`, a teacher will answer them, and those of every
    file that has no column of completions. Texts stay memory-mapped in `cache`.

    Raises:
        DataError: the data can't be used; lists every fault found.
    """
    columns = tuple(columns) or COLUMNS[kind]
    sources = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    wanted = [source for source in {**sources, "unlabelled": unlabelled}.items() if source[1]]
    bag, sides = Bag(), dict[str, Side]()
    for k, (role, source) in enumerate(wanted):
        progress(0.4 * k / len(wanted), f"reading {role}")
        before = bag.fatals
        open_ended = role == "unlabelled" or (answered and kind == "pairs" and _lacks(str(source), columns[1], role))
        side = _part(role, str(source), kind, columns, cache, bag, open_ended)
        if len(side.texts) or role == "unlabelled":
            sides[role] = side
        elif bag.fatals == before:
            bag.fatal("no-rows", f"{role}: {source} has no row that can be used")
    bag.raise_if_fatal()
    compared = {role: Side(Plain(s.texts, kind), s.codes_N, s.rows_N, s.hashes_N) for role, s in sides.items()}
    kept = keep_apart(compared, bag, seed, lambda share, words: progress(0.4 + 0.5 * share, words), conflicts="all")
    splits = {role: _split(side, kept.indices[role]) for role, side in sides.items()}
    groups_N = _together(kept.clusters_N, splits["train"].rows_N)
    progress(0.9, "splitting")
    splits |= made(splits["train"], [role for role, source in sources.items() if not source], groups_N, seed)
    splits.setdefault("unlabelled", view(splits["train"], np.zeros(0, np.int64)))
    _check_sizes(splits, bag)
    bag.raise_if_fatal()
    progress(1.0, "read")
    return Corpus(Data(**splits, labels=(), faults=bag.faults(), digest=digest_of(splits, [kind])), kind)


def messages(text: Text, kind: Kind) -> list[Message]:
    """The messages of one example of `pairs` or `chat`; of a prompt alone, without an answer."""
    if kind == "chat":
        found: list[Message] = json.loads(str(text))
        return found
    prompt, completion = text[0], text[1]
    asked: Message = {"role": "user", "content": prompt}
    return [asked, {"role": ANSWER, "content": completion}] if completion else [asked]


def answer(text: Text, kind: Kind, words: str) -> Text:
    """An example that ends with this answer: a prompt alone with it, any other with it in place of its own."""
    if kind == "pairs":
        return (text[0], words)
    asked = messages(text, kind)
    asked = asked[:-1] if asked[-1]["role"] == ANSWER else asked
    return json.dumps([*asked, {"role": ANSWER, "content": words}], ensure_ascii=False, separators=(",", ":"))


def _lacks(source: str, column: str, role: str) -> bool:
    """Whether a source has no such column; a file of lines has none."""
    if is_plain(source):
        return True
    seen = Bag()
    next(batches(source, (column,), role, seen), None)
    return any(fault.kind == "missing-column" for fault in seen.faults())


def _part(
    role: str, source: str, kind: Kind, columns: Sequence[str], cache: Path, bag: Bag, prompts_only: bool
) -> Side:
    """Stream one source into the cache."""
    wanted = columns[:1] if prompts_only else columns
    found: list[tuple[int, int, int]] = []
    path = cache / f"{role}.arrow"
    stream = documents(Path(source), role, bag) if kind == "text" and is_plain(source) else None
    with Writer(path, 2 if kind == "pairs" else 1) as writer:
        for batch in stream or batches(source, wanted, role, bag):
            rows = list(_rows(batch, kind, role, prompts_only, bag))
            if rows:
                writer.write([list(column) for column in zip(*(row[1] for row in rows), strict=True)])
            found += [(number, *_keys(text, kind)) for number, text in rows]
    keys_N3 = np.array(found, np.uint64).reshape(-1, 3)
    return Side(Texts(path), keys_N3[:, 2].astype(np.int64), keys_N3[:, 0].astype(np.int64), keys_N3[:, 1])


def _rows(batch: Batch, kind: Kind, role: str, prompts_only: bool, bag: Bag) -> Iterator[tuple[int, tuple[str, ...]]]:
    """Yield number and texts of the usable rows of a batch; the others go into `bag`."""
    for row, *values in zip(batch.rows, *batch.columns, strict=True):
        cells = [_messages(value, role, row, bag, prompts_only) if kind == "chat" else cell(value) for value in values]
        if any(found is None for found in cells):
            if kind != "chat":
                bag.row("broken-row", role, row, f"row {row}: a list or an object where a text should be")
            continue
        tidied = [tidy(found or "") for found in cells]
        for fault in dict.fromkeys(fault for _, faults in tidied for fault in faults):
            bag.row(fault, role, row)
        text = tuple(part for part, _ in tidied)
        if prompts_only and kind == "pairs":
            text = (*text, "")
        empty = [name for name, part in zip(_EMPTY[kind], text, strict=True) if not part and name]
        if empty and not (prompts_only and empty == ["empty-completion"]):
            bag.row(empty[0], role, row)
            continue
        yield row, text


_EMPTY: Final[Mapping[Kind, tuple[str, ...]]] = {
    "pairs": ("empty-prompt", "empty-completion"),
    "chat": ("empty-text",),
    "text": ("empty-text",),
}


def cell(value: Any) -> str | None:
    """A cell as text; objects (such as a call that is asked for) as compact JSON."""
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return plain(value)


def _messages(value: Any, role: str, row: int, bag: Bag, prompts_only: bool) -> str | None:
    """A chat as compact JSON with tidy texts, or None after noting what is wrong with it."""
    try:
        raw = json.loads(value) if isinstance(value, str) else value
        found = [_message(m) for m in raw]
        while prompts_only and found and found[-1]["role"] == ANSWER:
            found.pop()
        wrong = _wrong(found, prompts_only)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        wrong = "not a list of objects with 'role' and 'content' (or 'from' and 'value')"
    if wrong:
        empty = {"an empty prompt": "empty-prompt", "an empty answer": "empty-completion"}
        kind = empty.get(wrong, "bad-messages")
        bag.row(kind, role, row, "" if wrong in empty else f"row {row}: {wrong}")
        return None
    return json.dumps(found, ensure_ascii=False, separators=(",", ":"))


def _message(given: Mapping[str, Any]) -> Message:
    """A message by its role and content, or by whom it is from and its value, as many conversations are kept."""
    if "role" in given or "from" not in given:
        return {"role": given["role"], "content": tidy(given["content"])[0]}
    return {"role": FROM.get(given["from"], given["from"]), "content": tidy(given["value"])[0]}


def _wrong(found: Sequence[Message], prompts_only: bool) -> str:
    unknown = [m["role"] for m in found if m["role"] not in ROLES]
    if unknown:
        return f"the role '{unknown[0]}' (known are {', '.join(ROLES)})"
    if not prompts_only and (not found or found[-1]["role"] != ANSWER):
        return "the last message is no answer"
    if not any(m["role"] == "user" and m["content"] for m in found):
        return "an empty prompt"
    return "" if all(m["content"] for m in found if m["role"] == ANSWER) else "an empty answer"


def _keys(text: tuple[str, ...], kind: Kind) -> tuple[int, int]:
    """The hash under which examples count as equal (of what is asked), and that of the answer, below 2**63."""
    if kind == "text":
        return hash64(text[0]), 0
    said = messages(text if kind == "pairs" else text[0], kind)  # type: ignore[arg-type]
    last = said.pop()["content"] if said[-1]["role"] == ANSWER else ""
    return hash64("\n".join(message["content"] for message in said)), hash64(last) >> 1


class Plain(Sequence[str]):
    """Examples as running text, for comparing: what is said, without the JSON around it."""

    def __init__(self, texts: Sequence[Text], kind: Kind) -> None:
        self._texts, self._kind = texts, kind

    def __len__(self) -> int:
        return len(self._texts)

    def __getitem__(self, i: int) -> str:  # type: ignore[override]
        text = self._texts[i]
        if self._kind == "text":
            return str(text)
        return "\n".join(message["content"] for message in messages(text, self._kind))


def _split(side: Side, indices: Array) -> Split:
    assert isinstance(side.texts, Texts)
    return Split(side.texts.take(indices), np.full(len(indices), UNKNOWN_LABEL), side.rows_N[indices])


def _together(clusters_N: Array, rows_N: Array) -> Array:
    """Groups (N,) that unite near duplicates, and parts of one document, which share a row number."""
    places = np.arange(len(rows_N))
    first_of_row = np.unique(rows_N, return_index=True, return_inverse=True)
    first_of_cluster = np.unique(clusters_N, return_index=True, return_inverse=True)
    linked = [np.stack([first[1][first[2]], places], axis=1) for first in (first_of_row, first_of_cluster)]
    return near.clusters(len(rows_N), np.concatenate(linked))


def _check_sizes(splits: Mapping[str, Split], bag: Bag) -> None:
    empty = [role for role in ("train", "validation", "calibration", "test") if not len(splits[role])]
    if empty:
        bag.fatal(
            "few-rows",
            f"train: {len(splits['train'])} examples are left once the splits are made, and none for "
            f"{', '.join(empty)}. Give more examples, or name files for these splits",
        )
