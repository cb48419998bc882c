"""The signal store: what a teacher said about N texts, on disk once, memory-mapped, and resumable.

Layout: `signals.json` (settings and counts), `logits.npy` and `pooled.npy` (float16, one row per text), and
for what is inside, `hidden.3.npy` with `hidden.3.offsets.npy` and the like (float16, rows over tokens).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minikin.base import atomic
from minikin.base.errors import TeacherError
from minikin.base.types import Array, Progress, Ragged, Signals, Teacher, Text, no_progress

SHARD = 1024
BATCH = 64
META = "signals.json"


def collect(
    teacher: Teacher,
    texts: Sequence[Text],
    folder: Path,
    *,
    keep: Sequence[str] = ("logits", "pooled"),
    layers: Sequence[int] = (),
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> None:
    """Ask the teacher about every text and store what `keep` names in `folder`.

    `layers` says which layers of `hidden` and `attention` to store. Shards of 1,024 texts are finished one by
    one in `scratch`; a killed run goes on after the last whole shard.
    """
    leave_nothing = scratch is None
    scratch = scratch or folder / "shards"
    scratch.mkdir(parents=True, exist_ok=True)
    starts = range(0, len(texts), SHARD)
    for number, start in enumerate(starts):
        path = scratch / f"{number:06d}.npz"
        if not path.is_file():
            chunk = [texts[i] for i in range(start, min(start + SHARD, len(texts)))]
            temporary = scratch / f"{number:06d}.part.npz"
            np.savez(temporary, **_ask(teacher, chunk, keep, layers))  # type: ignore[arg-type]
            temporary.replace(path)
        progress((number + 1) / len(starts), f"{min(start + SHARD, len(texts)):,} texts")
    _join([scratch / f"{n:06d}.npz" for n in range(len(starts))], folder)
    if leave_nothing:
        shutil.rmtree(scratch)
    atomic.write_json(folder / META, {"texts": len(texts), "keep": sorted(keep), "teacher": teacher.digest})


def _ask(teacher: Teacher, chunk: Sequence[Text], keep: Sequence[str], layers: Sequence[int]) -> dict[str, Array]:
    """Ask about one shard, batched by length, and put the answers back in order."""
    lengths_N = np.array([len(t) if isinstance(t, str) else len(t[0]) + len(t[1]) for t in chunk])
    order_N = np.argsort(lengths_N, kind="stable")
    parts: dict[str, list[Any]] = {}
    for start in range(0, len(order_N), BATCH):
        rows_B = order_N[start : start + BATCH]
        for name, values in _flat(teacher.say([chunk[i] for i in rows_B], keep), layers).items():
            parts.setdefault(name, []).extend(values)
    back_N = np.argsort(order_N, kind="stable")
    out: dict[str, Array] = {}
    for name, rows in parts.items():
        ordered = [rows[i] for i in back_N]
        if name in ("logits", "pooled"):
            out[name] = np.stack(ordered)
        else:
            out[name] = np.concatenate(ordered)
            out[f"{name}.lengths"] = np.array([len(r) for r in ordered], np.int64)
    return out


def _flat(said: Mapping[str, Any], layers: Sequence[int]) -> dict[str, Sequence[Array]]:
    """One name per array: `logits`, `pooled`, `hidden.3`, `attention.3`, `relations.query`."""
    flat: dict[str, Sequence[Array]] = {}
    for name, value in said.items():
        if isinstance(value, Mapping):
            kept = {k: v for k, v in value.items() if name == "relations" or not layers or k in layers}
            flat.update({f"{name}.{k}": v for k, v in kept.items()})
        else:
            flat[name] = value
    return flat


def _join(shards: Sequence[Path], folder: Path) -> None:
    """Write one memory-mappable file per array, a shard at a time."""
    folder.mkdir(parents=True, exist_ok=True)
    if not shards:
        return
    rows: dict[str, int] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    for shard in shards:
        with np.load(shard) as data:
            for name in data.files:
                rows[name] = rows.get(name, 0) + len(data[name])
                shapes[name] = data[name].shape[1:]
    for name, count in rows.items():
        lengths = name.endswith(".lengths")
        target = folder / (f"{name.removesuffix('.lengths')}.offsets.npy" if lengths else f"{name}.npy")
        dtype = np.int64 if lengths else np.float16
        extra = 1 if lengths else 0
        out = np.lib.format.open_memmap(target, "w+", dtype, (count + extra, *shapes[name]))
        at = extra
        for shard in shards:
            with np.load(shard) as data:
                values = data[name]
            out[at : at + len(values)] = values
            at += len(values)
        if lengths:
            out[0] = 0
            np.cumsum(out, out=out)
        out.flush()


def read(folder: Path, texts: Sequence[Text], labels_N: Array) -> Signals:
    """Open a store, memory-mapped, for exactly these texts. Raises TeacherError if it holds another number."""
    meta = json.loads((folder / META).read_text(encoding="utf-8"))
    if meta["texts"] != len(texts):
        raise TeacherError(
            f"{folder} holds signals for {meta['texts']} texts, not {len(texts)}. Delete it and build again."
        )
    arrays = {p.name.removesuffix(".npy"): np.load(p, mmap_mode="r") for p in sorted(folder.glob("*.npy"))}

    def ragged(kind: str) -> dict[str, Ragged]:
        names = [n for n in arrays if n.startswith(f"{kind}.") and not n.endswith(".offsets")]
        return {n.split(".", 1)[1]: Ragged(arrays[n], arrays[f"{n}.offsets"]) for n in names}

    return Signals(
        texts=texts,
        labels_N=labels_N,
        logits_NC=arrays["logits"],
        pooled_NH=arrays.get("pooled"),
        hidden={int(k): v for k, v in ragged("hidden").items()},
        attention={int(k): v for k, v in ragged("attention").items()},
        relations=ragged("relations"),
        digest=str(meta["teacher"]),
    )
