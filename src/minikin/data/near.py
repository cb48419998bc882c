"""Near duplicates: MinHash signatures over character 5-grams, banded (LSH), then verified by true Jaccard.

A. Z. Broder, "On the resemblance and containment of documents" (1997): P[min h(A) = min h(B)] = J(A, B). With B
bands of R hashes a pair becomes a candidate with probability 1 - (1 - J^R)^B: 0.998 at J = 0.8, 0.04 at J = 0.3.
Only the band keys are kept (8 bytes for each text and band), so a million texts take 128 MB.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from minikin.base.types import Array, Progress, Text, no_progress
from minikin.data.clean import normal

GRAM = 5
BANDS = 16
ROWS_PER_BAND = 5
THRESHOLD = 0.8
BATCH_CHARS = 200_000
COMPARED_CHARS = 2_000
"""Only a text's beginning is compared, which is also all that a classifier reads; it bounds memory."""
PAIRS_AT_ONCE = 10_000
CANDIDATES_HELD = 4_000_000
FULL_BUCKET = 256
"""In larger buckets each text meets its next `FULL_BUCKET` neighbours only; other bands shuffle them anew."""


def pairs(
    texts: Sequence[Text], *, threshold: float = THRESHOLD, seed: int = 0, progress: Progress = no_progress
) -> Array:
    """Return (P, 2) int64 indices i < j of texts whose 5-gram sets have Jaccard similarity ≥ `threshold`."""
    keys_BN = _band_keys(texts, seed, progress)
    found: list[Array] = []
    held: list[Array] = []
    for b, keys_N in enumerate(keys_BN):
        for candidates_P2 in _bucket_pairs(keys_N):
            held.append(candidates_P2[:, 0] * len(texts) + candidates_P2[:, 1])
            if sum(map(len, held)) > CANDIDATES_HELD:
                found.append(_verified(texts, held, threshold))
                held = []
        progress(0.5 + 0.25 * (b + 1) / BANDS, "comparing")
    found.append(_verified(texts, held, threshold))
    keys_P = np.unique(np.concatenate(found))
    return np.stack([keys_P // max(len(texts), 1), keys_P % max(len(texts), 1)], axis=1)


def clusters(n: int, pairs_P2: Array) -> Array:
    """Return (n,) int64: the smallest index of each one's connected component under `pairs_P2`."""
    parent = list(range(n))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for i, j in pairs_P2.tolist():
        a, b = root(i), root(j)
        parent[max(a, b)] = min(a, b)
    return np.array([root(i) for i in range(n)], np.int64)


def _beginning(text: Text) -> str:
    if isinstance(text, str):
        return normal(text[:COMPARED_CHARS])
    return normal((text[0][:COMPARED_CHARS], text[1][:COMPARED_CHARS]))


def _batches(texts: Sequence[Text]) -> Iterator[list[str]]:
    """Yield normalised texts in lists of about `BATCH_CHARS` characters."""
    batch: list[str] = []
    chars = 0
    for text in texts:
        batch.append(_beginning(text))
        chars += len(batch[-1])
        if chars >= BATCH_CHARS:
            yield batch
            batch, chars = [], 0
    if batch:
        yield batch


def _grams(normals: Sequence[str]) -> tuple[Array, Array]:
    """Return 32-bit hashes of all 5-grams, flat, and the offset of each text's first one (N + 1)."""
    padded = [text.ljust(GRAM) for text in normals]
    lengths_N = np.array([len(text) for text in padded], np.int64)
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    offsets = np.concatenate([[0], np.cumsum(lengths_N - (GRAM - 1))])
    rolled = np.zeros(len(codes) - GRAM + 1, np.uint64)
    for k in range(GRAM):
        rolled = rolled * np.uint64(0x9E3779B97F4A7C15) + codes[k : k + len(rolled)] + np.uint64(1)
    starts_N = np.cumsum(lengths_N) - lengths_N
    # Windows that reach into the next text are skipped: text n gives its first length - 4 windows.
    inside = np.arange(offsets[-1]) + np.repeat(starts_N - offsets[:-1], np.diff(offsets))
    return _mix(rolled[inside]), offsets


def _mix(values: Array) -> Array:
    """Fold 64 bits to 32 well-mixed ones (finalizer of MurmurHash3)."""
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xFF51AFD7ED558CCD)
    values = (values ^ (values >> np.uint64(33))) * np.uint64(0xC4CEB9FE1A85EC53)
    return (values >> np.uint64(32)).astype(np.uint32)


def _band_keys(texts: Sequence[Text], seed: int, progress: Progress) -> Array:
    """Return (BANDS, N) uint64: the hash of each text's signature in each band."""
    rng = np.random.default_rng(seed)
    factors = rng.integers(0, 2**32, (BANDS, ROWS_PER_BAND), np.uint32) | np.uint32(1)
    shifts = rng.integers(0, 2**32, (BANDS, ROWS_PER_BAND), np.uint32)
    keys_BN = np.zeros((BANDS, len(texts)), np.uint64)
    done = 0
    for batch in _batches(texts):
        grams, offsets = _grams(batch)
        for b in range(BANDS):
            key = np.zeros(len(batch), np.uint64)
            for r in range(ROWS_PER_BAND):
                low_N = np.minimum.reduceat(grams * factors[b, r] + shifts[b, r], offsets[:-1])
                key = key * np.uint64(0x9E3779B97F4A7C15) + low_N + np.uint64(1)
            keys_BN[b, done : done + len(batch)] = key
        done += len(batch)
        progress(0.5 * done / len(texts), "hashing")
    return keys_BN


def _bucket_pairs(keys_N: Array) -> Iterator[Array]:
    """Yield (P, 2) pairs i < j of texts with equal keys: neighbours at distance 1, 2, … in sorted order."""
    order = np.argsort(keys_N, kind="stable")
    ordered = keys_N[order]
    alive = np.arange(len(order))
    for distance in range(1, FULL_BUCKET + 1):
        alive = alive[alive + distance < len(order)]
        alive = alive[ordered[alive] == ordered[alive + distance]]
        if not len(alive):
            return
        # A stable sort keeps equal keys in index order, so i < j holds.
        yield np.stack([order[alive], order[alive + distance]], axis=1)


def _verified(texts: Sequence[Text], held: list[Array], threshold: float) -> Array:
    """Return the candidate keys i * N + j whose texts are similar enough."""
    keys_P = np.unique(np.concatenate(held)) if held else np.zeros(0, np.int64)
    kept = [np.zeros(0, np.int64)]
    for low in range(0, len(keys_P), PAIRS_AT_ONCE):
        chunk = keys_P[low : low + PAIRS_AT_ONCE]
        kept.append(chunk[_jaccard(texts, chunk // len(texts), chunk % len(texts)) >= threshold])
    return np.concatenate(kept)


def _jaccard(texts: Sequence[Text], first_P: Array, second_P: Array) -> Array:
    """Return the Jaccard similarity (P,) of the 5-gram sets of texts[first] and texts[second]."""
    needed, where = np.unique(np.concatenate([first_P, second_P]), return_inverse=True)
    grams, offsets = _grams([_beginning(texts[int(i)]) for i in needed])
    owner = np.repeat(np.arange(len(needed), dtype=np.uint64), np.diff(offsets))
    sets = np.unique(owner << np.uint64(32) | grams)
    bounds = np.searchsorted(sets, np.arange(len(needed) + 1, dtype=np.uint64) << np.uint64(32))
    sizes = np.diff(bounds)
    left, right = where[: len(first_P)], where[len(first_P) :]
    marked = np.concatenate([_marked(sets, bounds, left), _marked(sets, bounds, right)])
    marked.sort()
    shared = marked[1:][marked[1:] == marked[:-1]] >> np.uint64(32)
    both_P = np.bincount(shared.astype(np.int64), minlength=len(first_P))
    similarity_P: Array = both_P / (sizes[left] + sizes[right] - both_P)
    return similarity_P


def _marked(sets: Array, bounds: Array, chosen_P: Array) -> Array:
    """Return the grams of the sets `chosen_P`, flat, each with the number of its pair in the high 32 bits."""
    sizes_P = bounds[chosen_P + 1] - bounds[chosen_P]
    ends_P = np.cumsum(sizes_P)
    flat = np.arange(ends_P[-1] if len(ends_P) else 0) + np.repeat(bounds[chosen_P] - (ends_P - sizes_P), sizes_P)
    pair = np.repeat(np.arange(len(chosen_P), dtype=np.uint64), sizes_P)
    marked: Array = pair << np.uint64(32) | (sets[flat] & np.uint64(0xFFFFFFFF))
    return marked
