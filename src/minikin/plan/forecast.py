"""What a build will cost, from numbers known before it: pure arithmetic, called by `minikin check`.

Floating-point operations are counted for the matrix products alone (2 per weight and token, and 4 T H per token
for the attention itself); a backward pass costs twice a forward pass (Kaplan et al. 2020, section 2.1).
"""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20
EFFICIENCY, HALF_WIDTH = 0.8, 96
"""Share of the rate of one large matrix product that whole layers reach when wide, and the width that gets half."""

STEP_S = 0.0015
LAYER_STEP_S = 0.0012
"""What a training step costs beside its arithmetic, once and for each layer: Python, kernels' starts."""

READING, WRITING, TOKEN_S = 0.4, 0.25, 0.0001
"""Shares of that rate at which llama.cpp reads a prompt, and writes, where memory bounds it; and a token's own cost."""

PROCESS_MIB = 600
"""Resident memory of a process that has imported torch and transformers."""

PADDING = 1.1
"""Batches of similar lengths still hold some padding."""


@dataclass(frozen=True)
class Machine:
    """Rates measured here: GFLOP/s of a float32 matrix product, and nanoseconds of AdamW per weight."""

    gemm_gflops: float
    update_ns: float


@dataclass(frozen=True)
class Shape:
    """What decides a model's cost: `layers` is 0 for a static one, `window` the width of its convolution.

    `embedding` is the width of a factorised table of tokens, else 0.
    """

    layers: int
    hidden: int
    feed_forward: int
    vocabulary: int
    classes: int
    window: int = 0
    embedding: int = 0

    @property
    def embedding_weights(self) -> int:
        """Weights of the token table."""
        return self.vocabulary * (self.embedding or self.hidden)

    @property
    def other_weights(self) -> int:
        """Weights of layers, convolution, projection of embeddings and head."""
        layer = 4 * self.hidden**2 + 2 * self.hidden * self.feed_forward
        mixing = self.window * 2 * self.hidden**2 if self.window else 0
        return self.layers * layer + mixing + self.hidden * (self.embedding + self.classes)

    def held(self, tokens: float) -> float:
        """Numbers that the backward pass over one text of so many tokens needs."""
        kept = self.layers * (10 * self.hidden + 3 * self.feed_forward) + 4 * self.hidden
        return tokens * kept * PADDING + self.layers * 12 * 2 * tokens**2

    def gflop(self, tokens: float) -> float:
        """10⁹ floating-point operations of a forward pass over one text of so many tokens."""
        products = 2 * tokens * (self.other_weights - self.hidden * self.classes) + 2 * self.hidden * self.classes
        attention = 4 * tokens**2 * self.hidden * self.layers
        return (products + attention) / 1e9


@dataclass(frozen=True)
class Decoder(Shape):
    """What decides a decoder's cost: `inner` weights in its layers, tables that are `tied` or two.

    The whole vocabulary is weighed at `learnt` tokens of each text. With `checkpointing` a backward pass computes each
    layer again, and finds only its input held.
    """

    inner: int = 0
    learnt: float = 0.0
    tied: bool = True
    checkpointing: bool = False

    @property
    def other_weights(self) -> int:
        """Weights beside the table of tokens."""
        return self.inner + (0 if self.tied else self.embedding_weights)

    def gflop(self, tokens: float) -> float:
        """10⁹ floating-point operations of a forward pass over one text of so many tokens."""
        products = 2 * tokens * self.inner + 2 * self.learnt * self.embedding_weights
        return (products + 4 * tokens**2 * self.hidden * self.layers) / 1e9

    def held(self, tokens: float) -> float:
        """Numbers that the backward pass over one text needs; attention is fused, and holds no maps."""
        layer = 14 * self.hidden + 4 * self.feed_forward
        kept = layer + self.layers * self.hidden if self.checkpointing else self.layers * layer
        return tokens * (kept + 4 * self.hidden) * PADDING

    def answer_s(self, read: float, written: float, machine: Machine, threads: int) -> float:
        """Seconds in which the packaged decoder, on one of the threads measured, reads and writes so many tokens."""
        weights, rate = self.inner + self.embedding_weights, machine.gemm_gflops * 1e9 / threads
        return 2 * self.inner * read / (rate * READING) + written * (TOKEN_S + 2 * weights / (rate * WRITING))


def asking_s(shape: Shape, texts: int, tokens: float, machine: Machine) -> float:
    """Seconds to run a model over so many texts, batched by length."""
    efficiency = EFFICIENCY * shape.hidden / (shape.hidden + HALF_WIDTH)
    return texts * PADDING * shape.gflop(tokens) / (machine.gemm_gflops * efficiency)


def training_s(
    shape: Shape,
    texts: int,
    epochs: float,
    batch: int,
    tokens: float,
    machine: Machine,
    *,
    frozen_embeddings: bool = False,
    adapters: bool = False,
) -> float:
    """Seconds to train a model: three forward passes for each text, and an update of every weight at each step.

    With `adapters` the weights stay as they are, and what is beside them is too small to count.
    """
    steps = epochs * -(-texts // batch)
    arithmetic = 3 * epochs * asking_s(shape, texts, tokens, machine)
    weights = 0 if adapters else shape.other_weights + (0 if frozen_embeddings else shape.embedding_weights)
    overhead = STEP_S + LAYER_STEP_S * shape.layers
    return float(arithmetic + steps * (overhead + weights * machine.update_ns / 1e9))


def training_mib(
    shape: Shape, batch: int, tokens: float, *, frozen_embeddings: bool = False, adapters: bool = False
) -> float:
    """MiB that training holds beside the process: weights, gradients, two moments, best copy, activations."""
    trained = 0 if adapters else shape.other_weights + (0 if frozen_embeddings else shape.embedding_weights)
    return (weights_mib(shape) * MIB + 4 * (4 * trained + batch * shape.held(tokens))) / MIB


def weights_mib(shape: Shape) -> float:
    """MiB of a model's weights in float32."""
    return 4 * (shape.embedding_weights + shape.other_weights) / MIB


def signals_mib(texts: int, tokens: float, classes: int, hidden: int, layers: dict[str, int]) -> float:
    """MiB on disk of stored signals in float16; `layers` counts what is kept of each kind: pooled, hidden, …"""
    per_token = hidden * (layers.get("hidden", 0) + 3 * layers.get("relations", 0))
    per_text = classes + hidden * layers.get("pooled", 0) + layers.get("attention", 0) * tokens**2
    return texts * 2 * (per_text + tokens * per_token) / MIB


def memory_mib(*peaks: float) -> float:
    """Peak resident MiB of a build whose stages come one after another."""
    return PROCESS_MIB + max(peaks, default=0.0)
