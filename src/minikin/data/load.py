"""From the user's files to `Data`: read, clean, check, keep apart and split. Called by `pipeline`.

Texts stream in batches into Arrow files under a cache folder and are memory-mapped back, so that a million rows
never live in Python lists. Everything that is wrong is told at once, by 1-based data row.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base import digest
from minikin.base.types import UNKNOWN_LABEL, Array, Data, Progress, Split, no_progress
from minikin.data import split as splitting
from minikin.data.apart import Side, keep_apart
from minikin.data.clean import LONG_TEXT_CHARS, hash64, tidy
from minikin.data.faults import Bag
from minikin.data.formats import Batch, batches
from minikin.data.store import Texts, Writer

TEST_SHARE = 0.2
HELD_OUT_SHARE = 0.06
HELD_OUT_ROWS = 300
HELD_OUT_FLOOR = 0.01
ROLES = ("train", "validation", "calibration", "test", "unlabelled")


def read(
    train: str,
    *,
    test: str | None = None,
    validation: str | None = None,
    calibration: str | None = None,
    unlabelled: str | None = None,
    text: str | Sequence[str] = "text",
    label: str = "label",
    seed: int = 0,
    cache: Path,
    progress: Progress = no_progress,
) -> Data:
    """Read files (CSV, TSV, JSONL, Parquet) or Hub sets (`hf:owner/name[:config][:split]`) into clean splits.

    Splits that are absent are taken from the training rows: test 20 %, validation and calibration 6 % each (at
    most 300 rows, or 1 % of very many), stratified by label, near-duplicates on one side. `text` names
    one column, or two for pairs.
    The texts of the result are memory-mapped from `cache`, which must outlive it.

    Raises:
        DataError: the data can't be used; lists every fault found.
    """
    sources = {"train": train, "validation": validation, "calibration": calibration, "test": test}
    wanted = [source for source in {**sources, "unlabelled": unlabelled}.items() if source[1]]
    columns = (text,) if isinstance(text, str) else tuple(text)
    bag, names, sides = Bag(), dict[str, int](), dict[str, Side]()
    for k, (role, source) in enumerate(wanted):
        progress(0.4 * k / len(wanted), f"reading {role}")
        fields = columns if role == "unlabelled" else (*columns, label)
        before = bag.fatals
        side = _part(role, str(source), fields, len(columns), names, cache, bag)
        if len(side.texts) or role == "unlabelled":
            sides[role] = side
        elif bag.fatals == before:
            bag.fatal("no-rows", f"{role}: {source} has no row that can be used")
    if "train" in sides:
        _check_classes(sides, names, label, bag)
    bag.raise_if_fatal()
    kept = keep_apart(sides, bag, seed, lambda share, words: progress(0.4 + 0.5 * share, words))
    labels, splits = _labelled(sides, kept.indices, names, bag)
    bag.raise_if_fatal()
    progress(0.9, "splitting")
    splits |= made(splits["train"], [role for role, source in sources.items() if not source], kept.clusters_N, seed)
    splits.setdefault("unlabelled", view(splits["train"], np.zeros(0, np.int64)))
    progress(1.0, "read")
    return Data(**splits, labels=labels, faults=bag.faults(), digest=digest_of(splits, labels))


def _part(
    role: str, source: str, wanted: Sequence[str], n_texts: int, names: dict[str, int], cache: Path, bag: Bag
) -> Side:
    """Stream one file into the cache; new label names get the next code in `names`."""
    codes: list[Array] = []
    rows: list[Array] = []
    hashes: list[Array] = []
    path = cache / f"{role}.arrow"
    with Writer(path, n_texts) as writer:
        for batch in batches(source, wanted, role, bag):
            texts, batch_codes, batch_rows = _clean(batch, n_texts, role, names, bag)
            writer.write([[text[k] for text in texts] for k in range(n_texts)])
            hashes.append(np.array([hash64((t[0], t[1]) if n_texts > 1 else t[0]) for t in texts], np.uint64))
            codes.append(np.array(batch_codes, np.int64))
            rows.append(np.array(batch_rows, np.int64))
    empty = np.zeros(0, np.int64)
    return Side(
        Texts(path),
        np.concatenate([empty, *codes]),
        np.concatenate([empty, *rows]),
        np.concatenate([np.zeros(0, np.uint64), *hashes]),
    )


def _clean(
    batch: Batch, n_texts: int, role: str, names: dict[str, int], bag: Bag
) -> tuple[list[tuple[str, ...]], list[int], list[int]]:
    """Return texts, label codes and rows of the usable rows of a batch."""
    texts: list[tuple[str, ...]] = []
    codes: list[int] = []
    rows: list[int] = []
    for row, *values in zip(batch.rows, *batch.columns, strict=True):
        parts = [plain(value) for value in values]
        if any(part is None for part in parts):
            bag.row("broken-row", role, row, f"row {row}: a list or an object where a text should be")
            continue
        found = [tidy(part or "") for part in parts]
        for kind in dict.fromkeys(kind for _, kinds in found for kind in kinds):
            bag.row(kind, role, row)
        text = tuple(part for part, _ in found[:n_texts])
        if not all(text):
            bag.row("empty-text", role, row)
            continue
        name = found[n_texts][0] if len(found) > n_texts else ""
        if len(found) > n_texts and not name:
            bag.row("missing-label", role, row)
            continue
        if max(map(len, text)) >= LONG_TEXT_CHARS:
            bag.row("long-text", role, row)
        texts.append(text)
        codes.append(names.setdefault(name, len(names)) if name else UNKNOWN_LABEL)
        rows.append(row)
    return texts, codes, rows


def plain(value: Any) -> str | None:
    """Return a cell as text ('' if it is not there), or None if it is no single value."""
    if isinstance(value, str):
        return value
    if value is None or value != value:  # NaN is how Parquet says "not there"
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value) if isinstance(value, int | float) else None


def _check_classes(sides: Mapping[str, Side], names: Mapping[str, int], label: str, bag: Bag) -> None:
    """Note what makes the labels of the training rows unfit to learn from."""
    codes_N = sides["train"].codes_N
    counts_C = np.bincount(codes_N, minlength=len(names))
    seen = [name for name, code in names.items() if counts_C[code]]
    if len(seen) == 1:
        bag.fatal("one-class", f"train: every row has the label '{seen[0]}'; a classifier needs at least two labels")
    elif len(codes_N) < len(names):
        bag.fatal("few-rows", f"train: {len(codes_N)} rows for {len(names)} labels; give at least two of each label")
    elif len(codes_N) == len(seen):
        bag.fatal(
            "few-rows", f"train: each of the {len(seen)} rows has a label of its own; is '{label}' the right column?"
        )
    folded: dict[str, str] = {}
    for name in seen:
        twin = folded.setdefault(name.casefold(), name)
        if twin != name:
            bag.note("similar-labels", f"train: the labels '{twin}' and '{name}' differ only in case; are they one?")


def _labelled(
    sides: Mapping[str, Side], kept: Mapping[str, Array], names: Mapping[str, int], bag: Bag
) -> tuple[tuple[str, ...], dict[str, Split]]:
    """Return the label names of the kept training rows, sorted, and the splits read, with ids into them."""
    counts_C = np.bincount(sides["train"].codes_N[kept["train"]], minlength=len(names))
    labels = tuple(sorted(name for name, code in names.items() if counts_C[code]))
    if len(labels) < 2:
        bag.fatal("one-class", f"train: {len(labels)} labels are left once repeated and leaked rows are left out")
    once = sorted(name for name, code in names.items() if counts_C[code] == 1)
    if once:
        rows = _rows_of(sides["train"], kept["train"], [names[name] for name in once])
        shown = ", ".join(f"'{name}'" for name in once[:5]) + (", …" if len(once) > 5 else "")
        verb = "label is" if len(once) == 1 else "labels are"
        bag.note("rare-label", f"train: {len(once)} {verb} seen once: {shown}; give them more examples", rows)
    id_of_code = np.full(len(names) + 1, UNKNOWN_LABEL)
    for i, name in enumerate(labels):
        id_of_code[names[name]] = i
    name_of_code = list(names)
    splits = {}
    for role, side in sides.items():
        indices = kept[role]
        ids_N = id_of_code[side.codes_N[indices]]  # code -1 reads the last entry, which stays unknown
        if role != "unlabelled":
            for index in indices[ids_N == UNKNOWN_LABEL]:
                bag.row("unseen-label", role, side.rows_N[index], _unseen(name_of_code[side.codes_N[index]], labels))
            indices, ids_N = indices[ids_N != UNKNOWN_LABEL], ids_N[ids_N != UNKNOWN_LABEL]
            if not len(indices):
                bag.fatal("no-rows", f"{role}: no row is left that has a label of the training set")
        splits[role] = Split(_texts(side).take(indices), ids_N, side.rows_N[indices])
    return labels, splits


def _unseen(name: str, labels: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, labels, 1, 0.8)
    return f"'{name}'" + (f", did you mean '{near[0]}'?" if near else "")


def _rows_of(side: Side, indices: Array, codes: Sequence[int]) -> list[int]:
    chosen = indices[np.isin(side.codes_N[indices], codes)]
    return [int(row) for row in side.rows_N[chosen]]


def _texts(part: Side | Split) -> Texts:
    assert isinstance(part.texts, Texts)
    return part.texts


def view(part: Split, indices: Array) -> Split:
    """Return the examples of a split that was read here, without copying any text."""
    return Split(_texts(part).take(indices), part.labels_N[indices], part.rows_N[indices])


def made(train: Split, absent: Sequence[str], clusters_N: Array, seed: int) -> dict[str, Split]:
    """Return the splits that are absent, taken from the training rows, and what is left of these."""
    held_out = min(HELD_OUT_SHARE, max(HELD_OUT_ROWS / len(train), HELD_OUT_FLOOR))
    shares = {role: TEST_SHARE if role == "test" else held_out for role in absent}
    chosen = splitting.make(train.labels_N, shares, seed, groups_N=clusters_N)
    chosen["train"] = chosen.pop(splitting.REST)
    return {role: view(train, indices) for role, indices in chosen.items()}


def digest_of(splits: Mapping[str, Split], labels: Sequence[str]) -> str:
    """Return a hash of the content of all splits, whatever files they came from."""
    parts = [
        [role, digest.of_texts(splits[role].texts), hashlib.sha256(splits[role].labels_N.tobytes()).hexdigest()]
        for role in ROLES
    ]
    return digest.of_value([list(labels), parts])
