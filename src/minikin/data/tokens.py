"""A split of a corpus as tokens on disk: written in shards, so that a killed run goes on, and memory-mapped.

Text larger than memory passes through once; at no time is more than one shard of it held. Called by the pipeline.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base import atomic
from minikin.base.errors import DataError
from minikin.base.types import Array, Progress, Split, Text, no_progress
from minikin.data.faults import Bag
from minikin.data.generate import Kind, messages
from minikin.feed.packing import FIELDS, Documents
from minikin.feed.packing import read as read_documents
from minikin.feed.speech import Speaker, Spoken
from minikin.feed.template import TemplateError

SHARD_ROWS: Final = 4096
SHARD_CHARS: Final = 8_000_000
FAULTS: Final = ("template", "special-token", "over-long")
PLACES: Final = {"places": np.int64}
DOCUMENT_BITS: Final = 36


def write(
    split: Split,
    kind: Kind,
    speaker: Speaker,
    folder: Path,
    *,
    context: int,
    role: str = "train",
    bag: Bag | None = None,
    progress: Progress = no_progress,
) -> Documents:
    """Tokenize a split into `folder` and return it memory-mapped, examples in an order that is drawn.

    Prompts with completions, and chats, of more than `context` tokens are left out and told by row in `bag`; texts
    stay whole, packing cuts them. Of a speaker that notes places, `places.npy` holds where each token begins,
    documents told apart by their number in the split. Shards lie beside `folder` until it is whole.

    Raises:
        DataError: nothing is left to learn from; lists every fault found.
    """
    bag = bag or Bag()
    scratch = folder.with_name(f"{folder.name}.shards")
    scratch.mkdir(parents=True, exist_ok=True)
    order_N = np.random.default_rng(0).permutation(len(split))
    shards, done, tokens = list[Path](), 0, 0
    while done < len(order_N):
        path = scratch / f"{len(shards):06d}.npz"
        if not path.is_file():
            temporary = scratch / f"{len(shards):06d}.part.npz"
            np.savez(temporary, **_shard(split, order_N[done:], kind, speaker, context))
            temporary.replace(path)
        with np.load(path) as shard:
            done += int(shard["taken"])
            tokens += int(shard["lengths"].sum())
            for fault in FAULTS:
                bag.rows(fault, role, shard[fault])
        shards.append(path)
        progress(done / len(order_N), f"{tokens:,} tokens")
    with atomic.folder(folder) as fresh:
        _join(shards, fresh, FIELDS | (PLACES if speaker.places else {}))
    shutil.rmtree(scratch)
    if not len(np.load(folder / "offsets.npy", mmap_mode="r")) > 1:
        shutil.rmtree(folder)
        bag.fatal("no-tokens", f"{role}: no example fits the context of {context} tokens")
        raise DataError("The data can't be used as it is:", [fault.message for fault in bag.faults()])
    return read_documents(folder)


def _shard(split: Split, indices: Array, kind: Kind, speaker: Speaker, context: int) -> dict[str, Any]:
    """Tokenize as many examples as one shard holds."""
    numbers: list[int] = []
    texts: list[Text] = []
    for number, text in _bounded(split, indices):
        numbers.append(number)
        texts.append(text)
    found: dict[str, list[int]] = {fault: [] for fault in FAULTS}
    kept: list[Spoken] = []
    places: list[Array] = []
    for number, spoken in zip(numbers, _said(texts, kind, speaker), strict=True):
        row = int(split.rows_N[number])
        if spoken is None:
            found["template"].append(row)
            continue
        if spoken.escaped:
            found["special-token"].append(row)
        if kind != "text" and len(spoken.ids_T) > context:
            found["over-long"].append(row)
        elif spoken.learnt_T.any():
            kept.append(spoken)
            if spoken.places_T is not None:
                places.append(np.where(spoken.places_T < 0, -1, (number << DOCUMENT_BITS) + spoken.places_T))
    beside = {"places": np.concatenate([np.zeros(0, np.int64), *places])} if speaker.places else {}
    return {
        "ids": np.concatenate([np.zeros(0, np.int32), *(s.ids_T for s in kept)]),
        "learnt": np.concatenate([np.zeros(0, bool), *(s.learnt_T for s in kept)]),
        "lengths": np.array([len(s.ids_T) for s in kept], np.int64),
        **beside,
        "taken": len(texts),
        **{fault: np.array(rows, np.int64) for fault, rows in found.items()},
    }


def _bounded(split: Split, indices: Array) -> Iterator[tuple[int, Text]]:
    chars = 0
    for i in indices[:SHARD_ROWS]:
        text = split.texts[int(i)]
        yield int(i), text
        chars += sum(map(len, text))
        if chars >= SHARD_CHARS:
            return


def _said(texts: Sequence[Text], kind: Kind, speaker: Speaker) -> list[Spoken | None]:
    """Tokens of each example; None where the chat template can't write it."""
    if kind == "text":
        return list(speaker.texts([str(text) for text in texts]))
    chats = [messages(text, kind) for text in texts]
    try:
        return list(speaker.chats(chats))
    except TemplateError:
        return [_alone(chat, speaker) for chat in chats]


def _alone(chat: Any, speaker: Speaker) -> Spoken | None:
    try:
        return speaker.chats([chat])[0]
    except TemplateError:
        return None


def _join(shards: Sequence[Path], folder: Path, fields: Mapping[str, Any]) -> None:
    """Write one memory-mappable file per field, a shard at a time."""
    lengths = [_lengths(path) for path in shards]
    offsets = np.concatenate([[0], np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]))])
    np.save(folder / "offsets.npy", offsets)
    for name, dtype in fields.items():
        out = np.lib.format.open_memmap(folder / f"{name}.npy", "w+", dtype, (int(offsets[-1]),))
        at = 0
        for path in shards:
            with np.load(path) as shard:
                values = shard[name]
            out[at : at + len(values)] = values
            at += len(values)
        out.flush()


def _lengths(path: Path) -> Array:
    with np.load(path) as shard:
        lengths: Array = shard["lengths"]
    return lengths
