"""Saliency: how much a unit matters, from activations, gradients or weights. Called by compress/prune.py."""

from __future__ import annotations

import numpy as np

from minikin.base.types import Array


def activation_magnitude(squares_U: Array, positions: int) -> Array:
    """Root mean square of each unit's activation, from its sum of squares over so many positions: (U,).

    Source: the activation-based importance of Muralidharan et al. 2024, "Compact Language Models via Pruning
    and Knowledge Distillation" (Minitron), §2.2, with the L2 aggregation over positions.
    """
    return np.asarray(np.sqrt(squares_U / max(1, positions)))


def output_norm(activation_rms_U: Array, outgoing_HU: Array) -> Array:
    """How much of the layer's output a unit carries: RMS activation times the norm of its outgoing weights.

    Source: Sun et al. 2024, "Wanda", eq. 1, aggregated over the outputs that a unit feeds.
    """
    return np.asarray(activation_rms_U * np.linalg.norm(outgoing_HU.astype(np.float64), axis=0))


def block_influence(cosines_L: Array, positions: int) -> Array:
    """1 - mean cosine between each layer's input and output, from sums over so many positions: (L,).

    How much a layer changes what it is given. Source: Men et al. 2024, "ShortGPT", eq. 1.
    """
    return np.asarray(1.0 - cosines_L / max(1, positions))


def principal_axes(samples_MH: Array, width: int) -> tuple[Array, float]:
    """Directions of largest second moment of the samples, as columns (H, width), and the share they keep.

    Not centred: a rotation must map a linear layer without changing its bias.
    Source: Ashkboos et al. 2024, "SliceGPT", §3.2 (PCA of the signal matrix).
    """
    samples = samples_MH.astype(np.float64)
    values, vectors = np.linalg.eigh(samples.T @ samples / max(1, len(samples)))
    order = np.argsort(values)[::-1]
    kept = vectors[:, order[:width]]
    # eigenvectors are defined up to sign: fix it, so that the same data give the same axes
    kept = kept * np.sign(kept[np.abs(kept).argmax(axis=0), np.arange(kept.shape[1])])
    return kept, float(values[order[:width]].sum() / max(values.sum(), 1e-30))
