"""The one size dial: named points from a few kilobytes up to BERT Medium, for every family of students.

The schema and the planner read it.

Tiny, Mini, Small and Medium are the encoders of I. Turc et al., "Well-Read Students Learn Better" (2019).
"""

from __future__ import annotations

import difflib
from typing import NamedTuple


class Shape(NamedTuple):
    """An encoder's layers, hidden width, attention heads and feed-forward width."""

    layers: int
    hidden: int
    heads: int
    feed_forward: int

    @property
    def weights(self) -> int:
        """Weights of the layers, without embeddings and head: 4 H² of attention and 2 H F, for each layer."""
        return self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.feed_forward)


class DecoderShape(NamedTuple):
    """A decoder's layers, hidden width, attention heads, key/value heads, feed-forward width, and tied embeddings."""

    layers: int
    hidden: int
    heads: int
    groups: int
    feed_forward: int
    tied: bool = True

    @property
    def weights(self) -> int:
        """Weights of the layers, without embeddings: queries and output, keys and values, and three matrices of
        neurons for each layer."""
        keys = self.hidden // self.heads * self.groups
        attention = 2 * self.hidden**2 + 2 * self.hidden * keys
        return self.layers * (attention + 3 * self.hidden * self.feed_forward)


ENCODERS: dict[str, Shape] = {
    "pico": Shape(1, 64, 2, 128),
    "nano": Shape(2, 64, 2, 256),
    "micro": Shape(2, 96, 3, 384),
    "tiny": Shape(2, 128, 2, 512),
    "slim": Shape(2, 192, 3, 256),
    "lean": Shape(3, 192, 3, 384),
    "mini": Shape(4, 256, 4, 1024),
    "small": Shape(4, 512, 8, 2048),
    "medium": Shape(8, 512, 8, 2048),
}
"""From small to large."""

STATIC: dict[str, int] = {
    "pico": 32,
    "nano": 48,
    "micro": 64,
    "tiny": 96,
    "slim": 128,
    "lean": 160,
    "mini": 192,
    "small": 224,
    "medium": 256,
}
"""Hidden width of the static student at the same points of the dial."""


DECODERS: dict[str, DecoderShape] = {
    "pico": DecoderShape(2, 64, 2, 1, 192),
    "nano": DecoderShape(3, 96, 3, 1, 256),
    "micro": DecoderShape(4, 128, 4, 2, 384),
    "tiny": DecoderShape(5, 192, 6, 2, 512),
    "slim": DecoderShape(6, 256, 4, 2, 768),
    "lean": DecoderShape(8, 384, 6, 2, 1024),
    "mini": DecoderShape(10, 512, 8, 4, 1536),
    "small": DecoderShape(12, 768, 12, 4, 2048),
    "medium": DecoderShape(16, 1024, 16, 4, 2816, tied=False),
}
"""From some 100 thousand weights to some 200 million; widths are multiples of 32, the blocks that files round by."""


def decoder(name: str) -> DecoderShape:
    """Return the decoder at a point of the ladder; raises like `shape`."""
    return DECODERS[_point(name)]


def shape(name: str) -> Shape:
    """Return the encoder at a point of the ladder.

    Raises:
        KeyError: there is no such point; the message names the nearest one.
    """
    return ENCODERS[_point(name)]


def width(name: str) -> int:
    """Return the static student's hidden width at a point of the ladder; raises like `shape`."""
    return STATIC[_point(name)]


def _point(name: str) -> str:
    if name in ENCODERS:
        return name
    near = difflib.get_close_matches(name.lower(), ENCODERS, 1, 0.4)
    hint = f"did you mean '{near[0]}'? " if near else ""
    raise KeyError(f"no size '{name}'; {hint}The sizes are {', '.join(ENCODERS)}")
