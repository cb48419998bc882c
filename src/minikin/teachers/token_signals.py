"""The store of next-token signals: top-k with a tail, or random draws, for every learnt token of packed rows.

Layout: `signals.json` (settings, counts and the SHA-256 of every shard) and `000000.npy`, … with one record a token.
A record of `top` takes k · (2 + 2) + 2 bytes, or k · (4 + 2) + 2 where the vocabulary has over 65,536 rows: 28 tokens
in 114 bytes, 49 in 296. One of `sampled` takes as much for as many draws.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from minikin.base import atomic, digest
from minikin.base.errors import TeacherError
from minikin.base.types import Array, Progress, no_progress
from minikin.base.writing import Packed, TokenSignals
from minikin.equations import sequence
from minikin.feed.decoder import Asked
from minikin.feed.rows import learnt_offsets, tokens

SHARD_TOKENS = 1 << 17
BATCH_TOKENS = 8192
CHUNK_BYTES = 32 << 20
META = "signals.json"


@dataclass(frozen=True)
class Kept:
    """What is kept of each distribution softmax(logits / temperature).

    `top`: the k likeliest tokens and the tail. `sampled`: k draws from p^sharpness, by `seed` and place in the data,
    so that a run that was killed draws the same.
    """

    kind: Literal["top", "sampled"] = "top"
    k: int = 28
    temperature: float = 1.0
    sharpness: float = 1.0
    seed: int = 0

    def record(self, vocabulary: int) -> np.dtype[Any]:
        """What one token takes on disk."""
        ids = np.uint16 if vocabulary <= 1 << 16 else np.uint32
        return np.dtype([("ids", ids, (self.k,)), ("values", np.float16, (self.k,)), ("rest", np.float16)])


def collect(
    teacher: Asked,
    packed: Packed,
    folder: Path,
    kept: Kept | None = None,
    *,
    scratch: Path | None = None,
    progress: Progress = no_progress,
) -> None:
    """Ask the teacher about every learnt token and store what `kept` says in `folder`.

    Shards of whole rows, about 131,072 tokens each, are finished one by one in `scratch`; a killed run goes on after
    the last whole one, to the same bytes. Raises TeacherError when k exceeds the shared vocabulary, or when the rows
    hold a token that the teacher lacks.
    """
    kept = kept or Kept()
    _refuse(teacher, packed, kept)
    settings = _settings(teacher, packed, kept)
    scratch = scratch or folder.with_name(f"{folder.name}.shards")
    _only_of(scratch, settings)
    spans = list(_spans(learnt_offsets(packed)))
    shards = []
    for number, (begin, end) in enumerate(spans):
        path = scratch / f"{number:06d}.npy"
        if not path.is_file():
            temporary = scratch / f"{number:06d}.part"
            with temporary.open("wb") as handle:
                np.save(handle, _records(teacher, packed, np.arange(begin, end), kept))
            temporary.replace(path)
        shards.append({"name": path.name, "rows": end - begin, "sha256": digest.of_file(path)})
        progress((number + 1) / len(spans), f"{end:,} rows")
    with atomic.folder(folder) as out:
        for shard in shards:
            (scratch / str(shard["name"])).replace(out / str(shard["name"]))
        atomic.write_json(out / META, {**settings, "shards": shards})
    shutil.rmtree(scratch)


def read(folder: Path, packed: Packed) -> TokenSignals:
    """Open a store, memory-mapped, for exactly these rows, every shard checked against its hash.

    Raises TeacherError, naming the file, when one is missing or changed, or when the store is of other rows.
    """
    try:
        meta = json.loads((folder / META).read_text(encoding="utf-8"))
        kept, names = Kept(**meta["kept"]), [str(s["name"]) for s in meta["shards"]]
        changed = [s["name"] for s in meta["shards"] if digest.of_file(folder / s["name"]) != s["sha256"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TeacherError(f"{folder} holds no whole token signals ({error}). Delete it and build again.") from error
    if changed:
        raise TeacherError(f"{folder / changed[0]} was changed after it was written. Delete {folder} and build again.")
    if meta["rows"] != _digest(packed):
        raise TeacherError(f"{folder} holds signals for other rows than these. Delete it and build again.")
    shards = [np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in names]
    offsets = learnt_offsets(packed)
    if sum(map(len, shards)) != offsets[-1]:
        raise TeacherError(f"{folder} holds another number of tokens than these rows. Delete it and build again.")
    return TokenSignals(kept.kind, shards, offsets, meta["vocabulary"], kept.temperature, meta["teacher"])


def realigned(signals: TokenSignals, packed: Packed, match_M: Array) -> TokenSignals:
    """The signals of a teacher with another tokenizer, put beside the student's learnt tokens, in memory.

    `match_M` is as `feed.align.matched` gives it: which of the teacher's records each learnt token of `packed` takes.
    Raises TeacherError when it is of another number of tokens.
    """
    offsets, match_M = learnt_offsets(packed), np.asarray(match_M)
    if len(match_M) != offsets[-1]:
        raise TeacherError(f"{len(match_M)} matches are given for {offsets[-1]} learnt tokens. Match them anew.")
    if not (match_M >= 0).any():
        raise TeacherError("Teacher and student cut these texts at no place in common. Use another teacher.")
    records_M = np.concatenate([np.asarray(shard) for shard in signals.shards])[np.maximum(match_M, 0)]
    return replace(signals, shards=[records_M], offsets=offsets, shared=False, known_M=match_M >= 0)


def _settings(teacher: Asked, packed: Packed, kept: Kept) -> dict[str, Any]:
    vocabulary = teacher.vocabulary
    return {
        "kept": asdict(kept),
        "teacher": teacher.digest,
        "vocabulary": vocabulary,
        "rows": _digest(packed),
        "bytes_per_token": kept.record(vocabulary).itemsize,
        "shard_tokens": SHARD_TOKENS,
    }


def _digest(packed: Packed) -> str:
    arrays = {"ids": packed.ids_NT, "documents": packed.documents_NT, "learnt": packed.learnt_NT}
    return digest.of_arrays({name: np.asarray(array) for name, array in arrays.items()})


def _refuse(teacher: Asked, packed: Packed, kept: Kept) -> None:
    pieces = teacher.vocabulary
    if not 1 <= kept.k <= (pieces if kept.kind == "top" else 1 << 16):
        raise TeacherError(f"k = {kept.k} tokens can't be kept of {pieces}. Give a k from 1 to {pieces}.")
    highest = int(np.asarray(packed.ids_NT).max(initial=0))
    if highest >= pieces:
        raise TeacherError(
            f"The rows hold token {highest}, and the teacher has {pieces}. Use the teacher's own tokenizer."
        )


def _only_of(scratch: Path, settings: dict[str, Any]) -> None:
    """Leave in `scratch` only shards that were made with these settings."""
    noted = scratch / META
    if scratch.is_dir() and not (noted.is_file() and json.loads(noted.read_text(encoding="utf-8")) == settings):
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    atomic.write_json(noted, settings)


def _spans(offsets: Array) -> Iterator[tuple[int, int]]:
    """First and last row + 1 of each shard."""
    begin = 0
    while begin < len(offsets) - 1:
        end = int(np.searchsorted(offsets, offsets[begin] + SHARD_TOKENS, "right")) - 1
        end = min(max(end, begin + 1), len(offsets) - 1)
        yield begin, end
        begin = end


@torch.no_grad()
def _records(teacher: Asked, packed: Packed, rows: Array, kept: Kept) -> Array:
    """The records of the learnt tokens of some rows, in their order."""
    batch = max(1, BATCH_TOKENS // packed.ids_NT.shape[1])
    generator = torch.Generator(teacher.device).manual_seed(kept.seed + 1_000_003 * int(rows[0]))
    chunk = max(1, CHUNK_BYTES // (4 * teacher.vocabulary))
    record = kept.record(teacher.vocabulary)
    parts = [np.zeros(0, record)]
    for start in range(0, len(rows), batch):
        batch_tokens = tokens(packed, rows[start : start + batch]).to(teacher.device)
        hidden_MH = batch_tokens.before_learnt(teacher.states(batch_tokens)[0])
        for at in range(0, len(hidden_MH), chunk):
            logits_MV = teacher.head.logits(hidden_MH[at : at + chunk]) / kept.temperature
            parts.append(_compressed(logits_MV, kept, generator, record))
    return np.concatenate(parts)


def _compressed(logits_MV: Tensor, kept: Kept, generator: torch.Generator, record: np.dtype[Any]) -> Array:
    if kept.kind == "top":
        ids_MK, logs_MK1 = sequence.top(logits_MV, kept.k)
        values_MK, rest_M = logs_MK1[:, :-1], logs_MK1[:, -1]
    else:
        ids_MK, values_MK = sequence.sampled(logits_MV, kept.k, generator, kept.sharpness)
        rest_M = sequence.entropy(logits_MV)
    out = np.zeros(len(logits_MV), record)
    out["ids"] = ids_MK.cpu().numpy()
    out["values"], out["rest"] = values_MK.cpu().numpy(), rest_M.cpu().numpy()
    return out
