"""Saliency against numpy's own decompositions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minikin.equations import saliency


def made(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


@given(st.integers(0, 999), st.floats(0.1, 9))
def test_activation_magnitude_grows_with_the_unit(seed, factor):
    activations_MU = made(seed, 20, 3)
    louder_MU = activations_MU * [1, factor, 1]
    before_U, after_U = (saliency.activation_magnitude(np.square(a).sum(0), 20) for a in (activations_MU, louder_MU))
    np.testing.assert_allclose(after_U, before_U * [1, factor, 1])
    np.testing.assert_allclose(before_U, np.linalg.norm(activations_MU, axis=0) / np.sqrt(20))


def test_a_unit_that_nothing_reads_has_no_saliency():
    outgoing_HU = made(0, 4, 3)
    outgoing_HU[:, 1] = 0
    scores_U = saliency.output_norm(np.ones(3), outgoing_HU)
    assert scores_U[1] == 0
    assert (scores_U[[0, 2]] > 0).all()


def test_block_influence_is_zero_for_a_layer_that_does_nothing():
    same, turned, nothing = 10.0, -10.0, 0.0
    np.testing.assert_allclose(saliency.block_influence(np.array([same, turned, nothing]), 10), [0, 2, 1])
    assert np.isfinite(saliency.block_influence(np.zeros(2), 0)).all()


@given(st.integers(0, 999), st.integers(1, 6))
def test_principal_axes_are_orthonormal_and_keep_what_svd_keeps(seed, width):
    samples_MH = made(seed, 12, 6)
    axes_HW, share = saliency.principal_axes(samples_MH, width)
    np.testing.assert_allclose(axes_HW.T @ axes_HW, np.eye(width), atol=1e-9)
    energy = np.linalg.svd(samples_MH, compute_uv=False) ** 2
    assert share == pytest.approx(energy[:width].sum() / energy.sum())
    assert np.linalg.norm(samples_MH @ axes_HW) ** 2 == pytest.approx(energy[:width].sum())


def test_principal_axes_are_the_same_for_samples_of_the_other_sign():
    samples_MH = made(3, 12, 6)
    np.testing.assert_allclose(
        saliency.principal_axes(samples_MH, 3)[0], saliency.principal_axes(-samples_MH, 3)[0], atol=1e-9
    )
