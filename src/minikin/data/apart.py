"""Keeps splits apart: finds equal and nearly equal texts across and within them, and decides who stays.

Test goes before calibration, validation, training and unlabelled text: a text that also stands (nearly) in an
earlier one of these is left out of the later. Within the training side a repeated text is kept once; where its
labels disagree, one row of the strict majority is kept, and none if there is none. Called by `load`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from minikin.base.types import Array, Progress, Text
from minikin.data import near
from minikin.data.faults import Bag

PRECEDENCE = ("test", "calibration", "validation", "train", "unlabelled")
Conflicts: TypeAlias = Literal["majority", "all"]
GUARDED = ("test", "calibration", "validation")
"""Splits that must not be seen, not even nearly, by those after them."""


@dataclass(frozen=True)
class Side:
    """What is needed of one split: its texts, label codes (-1 unknown), source rows and 64-bit text hashes."""

    texts: Sequence[Text]
    codes_N: Array
    rows_N: Array
    hashes_N: Array


@dataclass(frozen=True)
class Kept:
    """Per split the indices kept, and per kept training row the number of its near-duplicate cluster."""

    indices: dict[str, Array]
    clusters_N: Array


def keep_apart(
    sides: Mapping[str, Side], bag: Bag, seed: int, progress: Progress, *, conflicts: Conflicts = "majority"
) -> Kept:
    """Return which rows of each split stay, after noting in `bag` every one that goes.

    `conflicts` says what becomes of equal training texts with different codes: `all` keeps one row of each code.
    """
    alive = {role: _within(role, sides[role], bag, conflicts) for role in PRECEDENCE if role in sides}
    roles = list(alive)
    hashes = np.concatenate([sides[role].hashes_N[alive[role]] for role in roles])
    owner = np.concatenate([np.full(len(alive[role]), k) for k, role in enumerate(roles)])
    at = np.concatenate([alive[role] for role in roles])
    # Equal texts form one group; only one of each group takes part in the search for near ones.
    _, first_G, group = np.unique(hashes, return_index=True, return_inverse=True)
    texts = _Chosen([sides[role].texts for role in roles], owner[first_G], at[first_G])
    pairs_P2 = near.pairs(texts, seed=seed, progress=progress)
    equal_G = _strictest(owner, group, len(first_G))
    near_G = _nearest(equal_G, pairs_P2)
    kept = {}
    for k, role in enumerate(roles):
        mine = group[owner == k]
        kept[role] = _staying(k, role, roles, sides[role], alive[role], equal_G[mine], near_G[mine], bag)
    clusters_G = near.clusters(len(first_G), pairs_P2)
    k = roles.index("train")
    stays = np.isin(alive["train"], kept["train"])
    return Kept(kept, clusters_G[group[owner == k]][stays])


class _Chosen(Sequence[Text]):
    """Texts picked from several splits, read when asked for."""

    def __init__(self, sources: Sequence[Sequence[Text]], owner_N: Array, at_N: Array) -> None:
        self._sources, self._owner_N, self._at_N = sources, owner_N, at_N

    def __len__(self) -> int:
        return len(self._owner_N)

    def __getitem__(self, i: int) -> Text:  # type: ignore[override]
        return self._sources[int(self._owner_N[i])][int(self._at_N[i])]


def _within(role: str, side: Side, bag: Bag, kept: Conflicts) -> Array:
    """Return the indices of a split that stay when only the split itself is looked at."""
    n = len(side.hashes_N)
    order = np.argsort(side.hashes_N, kind="stable")
    bounds = np.flatnonzero(np.diff(side.hashes_N[order])) + 1
    starts, ends = np.concatenate([[0], bounds]), np.concatenate([bounds, [n]])
    stays_N = np.ones(n, bool)
    conflicts, repeats = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    dropping = role in ("train", "unlabelled")
    for low, high in zip(*(edge[ends - starts > 1] for edge in (starts, ends)), strict=True):
        twins = order[low:high]
        codes, counts = np.unique(side.codes_N[twins], return_counts=True)
        (conflicts if len(codes) > 1 else repeats).append(twins if len(codes) > 1 else twins[1:])
        if dropping:
            stays_N[twins] = False
            if kept == "all":
                stays_N[twins[np.unique(side.codes_N[twins], return_index=True)[1]]] = True
            elif 2 * counts.max() > len(twins):
                stays_N[twins[side.codes_N[twins] == codes[counts.argmax()]][0]] = True
    kind = "answers" if kept == "all" else "conflict" if dropping else "conflict-kept"
    bag.rows(kind, role, np.sort(side.rows_N[np.concatenate(conflicts)]))
    if dropping:
        bag.rows("duplicate", role, np.sort(side.rows_N[np.concatenate(repeats)]))
    return np.flatnonzero(stays_N)


def _strictest(owner: Array, group: Array, groups: int) -> Array:
    """Return per group of equal texts the first split, in order of precedence, that holds one."""
    first_G = np.full(groups, len(PRECEDENCE))
    np.minimum.at(first_G, group, owner)
    return first_G


def _nearest(equal_G: Array, pairs_P2: Array) -> Array:
    """Return per group the first split that holds an equal or nearly equal text."""
    near_G = equal_G.copy()
    np.minimum.at(near_G, pairs_P2[:, 0], equal_G[pairs_P2[:, 1]])
    np.minimum.at(near_G, pairs_P2[:, 1], equal_G[pairs_P2[:, 0]])
    return near_G


def _staying(
    k: int, role: str, roles: list[str], side: Side, alive_N: Array, equal_N: Array, near_N: Array, bag: Bag
) -> Array:
    """Return the rows of split `k` that no earlier split holds, after noting the others."""
    guards = [g for g, other in enumerate(roles) if other in GUARDED]
    equal = equal_N < k
    nearly = ~equal & (near_N < k) & np.isin(near_N, guards)
    for kind, gone_N, who_N in (("leak", equal, equal_N), ("near-leak", nearly, near_N)):
        for other in np.unique(who_N[gone_N]):
            rows = side.rows_N[alive_N[gone_N & (who_N == other)]]
            bag.rows(kind, role, rows, other=roles[int(other)])
    return alive_N[~(equal | nearly)]
