"""What a build keeps of the texts that it held out, so that fewer of the labels to come need to fit the score.

No text is kept: only the parts of each one's score and whether its answer was right, and where the training texts of
each class lie. The pipeline writes it beside the hashes of the training rows, commands/trust.py reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from minikin.base.types import Array, Data, Split
from minikin.trust.certify import Labelled, reject_place
from minikin.trust.scores import Held, Space, names_of, probability_parts
from minikin.trust.words import shares

TRAINING = 10_000
"""Training texts, at most, that say where the classes lie."""

HALF = ("projection_FQ", "references_MQ", "means_CQ")
SPACE = ("centre_F", *HALF, "starts_D", "farthest")


def gather(kin: Any, data: Data, bits_B: Array) -> dict[str, Array]:
    """The arrays to keep of a packaged kin's answers; training and held-out texts are asked once."""
    reject = reject_place(kin.labels)
    rows = np.unique(np.linspace(0, len(data.train) - 1, min(TRAINING, len(data.train))).astype(int))
    some = data.train.take(rows)
    _, pooled_NF = kin.both(some.texts)
    space = Space.of(pooled_NF, np.where(some.labels_N == reject, -1, some.labels_N), len(kin.labels)).of_means
    parts, right = zip(
        *(_asked(kin, part, bits_B, reject, space) for part in (data.validation, data.calibration)), strict=True
    )
    kept = {"held_NK": np.concatenate(parts).astype(np.float32), "held_right_N": np.concatenate(right)}
    return {**kept, **arrays_of(space)}


def _asked(kin: Any, held_out: Split, bits_B: Array, reject: int, space: Space) -> tuple[Array, Array]:
    """Parts of the score of each answer that is given, and whether it is right."""
    p_NC, pooled_NF = kin.both(held_out.texts)
    words_N2, answers_N = shares(bits_B, held_out.texts, p_NC), p_NC.argmax(1)
    parts = (probability_parts(p_NC, reject), words_N2, space.parts(pooled_NF, answers_N))
    given_N = answers_N != reject
    wrong_N = Labelled(p_NC, None, np.asarray(held_out.labels_N), reject).wrong_N
    return np.concatenate(parts, axis=1)[given_N], ~wrong_N[given_N]


def read(arrays: Mapping[str, Array], labels: tuple[str, ...], reject: int) -> Held | None:
    """What `gather` kept; None for a kin without it, or when another class than its own is the reject class."""
    if "held_NK" not in arrays or reject_place(labels) != reject:
        return None
    names = names_of(reject >= 0, True, True)
    return Held(names, np.asarray(arrays["held_NK"], np.float64), arrays["held_right_N"], space_of(arrays))


def arrays_of(space: Space) -> dict[str, Array]:
    """A space as it is stored."""
    found = {name: np.asarray(getattr(space, name)) for name in SPACE}
    return {name: value.astype(np.float16) if name in HALF else value for name, value in found.items()}


def space_of(arrays: Mapping[str, Array]) -> Space:
    """A space as it was stored. Raises KeyError when an array is missing."""
    values = {name: np.asarray(arrays[name], np.float32) for name in HALF}
    centre_F, starts_D = (np.asarray(arrays[name]) for name in ("centre_F", "starts_D"))
    return Space(centre_F=centre_F, starts_D=starts_D, farthest=arrays["farthest"].item(), **values)
