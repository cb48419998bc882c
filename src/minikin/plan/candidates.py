"""Candidates: shapes of every family that are worth measuring for a budget. Called by the pipeline's plan step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from minikin.base.types import Family, Scheme
from minikin.plan.forecast import MIB, Shape

BITS: dict[str, tuple[float, float]] = {
    "fp32": (32, 32),
    "int8": (8.2, 8.2),
    "int4": (5.0, 5.0),
    "int4-int8": (5.0, 8.2),
}
"""Scheme → bits per embedding weight and per linear weight, scales included."""

OVERHEAD_BYTES = {"encoder": 12_000, "static": 1_000}
"""The graph of an ONNX file, or the header of a safetensors file."""


@dataclass(frozen=True)
class Candidate:
    """A student that could be made. `heads`, `layers` and `feed_forward` are 0 for static ones.

    `embedding` is the width of a factorised table of tokens, 0 for one as wide as the student.
    """

    family: Family
    start: Literal["cut", "grown"]
    hidden: int
    layers: int = 0
    heads: int = 0
    feed_forward: int = 0
    window: int = 0
    embedding: int = 0
    schemes: tuple[Scheme, ...] = field(default=("int8", "int4", "int4-int8"))

    @property
    def name(self) -> str:
        """Readable and unique: `cut 2x192/384`, `cut 4x384/768 e128`, `static 128`, `static 128 w3`."""
        if self.family == "static":
            return f"static {self.hidden}" + (f" w{self.window}" if self.window else "")
        narrow = f" e{self.embedding}" if self.embedding else ""
        return f"{self.start} {self.layers}x{self.hidden}/{self.feed_forward}{narrow}"

    @property
    def kind(self) -> tuple[str, str, bool, bool]:
        """What it competes as: family, start, whether it mixes neighbouring tokens, whether it is deep."""
        return self.family, self.start, self.window > 0, self.layers > SHALLOW

    def shape(self, vocabulary: int, classes: int) -> Shape:
        """What decides its cost."""
        return Shape(self.layers, self.hidden, self.feed_forward, vocabulary, classes, self.window, self.embedding)

    def weights(self, vocabulary: int, positions: int, classes: int) -> tuple[int, int]:
        """Weights of the embeddings and of everything else."""
        shape = self.shape(vocabulary, classes)
        if self.family == "static":  # a convolution's head reads mean and maximum
            more = self.hidden * classes if self.window else 0
        else:  # the pooler and positions
            more = self.hidden**2 + positions * self.hidden
        return shape.embedding_weights, shape.other_weights + more

    def size_mib(self, scheme: str, vocabulary: int, positions: int, classes: int, tokenizer_bytes: int) -> float:
        """Forecast of model and tokenizer, in MiB; the measured size replaces it."""
        embedding_bits, linear_bits = BITS[scheme]
        embeddings, rest = self.weights(vocabulary, positions, classes)
        weights_bytes = (embeddings * embedding_bits + rest * linear_bits) / 8
        return (weights_bytes + OVERHEAD_BYTES[self.family] + tokenizer_bytes) / MIB


GROWN = [(1, 64, 2, 128), (2, 64, 2, 256), (2, 128, 2, 512), (2, 192, 3, 384), (4, 256, 4, 1024), (4, 512, 8, 2048)]
CUT = [
    *[(2, 96, 192, 0), (2, 128, 256, 0), (2, 192, 384, 0), (2, 256, 512, 0)],
    *[(3, 192, 384, 0), (3, 256, 512, 0), (3, 384, 768, 0), (4, 384, 768, 0)],
    *[(6, 192, 96, 64), (6, 256, 128, 96), (6, 384, 128, 96), (6, 384, 512, 128), (6, 384, 768, 0), (6, 384, 1536, 0)],
]
"""Layers, width, neurons and table: few layers whole, or many of which neurons and table are thin (see LOG.md)."""

SHALLOW = 4
"""Layers up to which a student is a shallow one."""

STATIC = [(64, 0), (128, 0), (256, 0), (128, 3), (192, 3)]


def can_cut(teacher_shape: tuple[int, int, int, int], layers: int, hidden: int, feed_forward: int) -> bool:
    """Whether a teacher (layers, hidden, heads, neurons) has such a shape in it, of whole heads."""
    its_layers, its_hidden, its_heads, its_neurons = teacher_shape
    whole_heads = hidden % (its_hidden // its_heads) == 0
    return whole_heads and layers <= its_layers and hidden <= its_hidden and feed_forward <= its_neurons


def propose(
    families: Sequence[str], starts: Sequence[str], teacher_shape: tuple[int, int, int, int] | None
) -> list[Candidate]:
    """All shapes of the wanted families; cuts only where the teacher (layers, hidden, heads, neurons) has them.

    Kinds come in the order in which they are tried: grown encoders last, as they know nothing when a brief training
    begins.
    """
    found: list[Candidate] = []
    if "static" in families:
        found += [Candidate("static", "grown", h, window=w) for h, w in STATIC]
    if "encoder" in families and "cut" in starts and teacher_shape is not None:
        width = teacher_shape[1] // teacher_shape[2]
        shapes = [shape for shape in CUT if can_cut(teacher_shape, *shape[:3])]
        found += [Candidate("encoder", "cut", h, n, h // width, f, embedding=e) for n, h, f, e in shapes]
    if "encoder" in families and "grown" in starts:
        found += [Candidate("encoder", "grown", h, n, a, f) for n, h, a, f in GROWN]
    return found
