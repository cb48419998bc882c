import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from minikin.equations import rounding

WEIGHTS = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 70)),
    elements=st.floats(-8, 8, width=32),
)


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.sampled_from([(8, None), (8, 64), (4, None)]))
def test_per_channel_is_never_worse_than_plain_rounding(weights_RK, how):
    bits, limit = how
    rounded = rounding.per_channel(weights_RK, bits, limit)
    high = limit or (1 << (bits - 1)) - 1
    assert rounded.q_RK.dtype == np.uint8
    assert np.abs(rounded.q_RK.astype(int) - rounded.zero).max() <= high
    step_R = np.abs(weights_RK).max(1) / high
    plain = np.where(step_R[:, None] > 0, np.rint(weights_RK / np.maximum(step_R, 1e-30)[:, None]), 0) * step_R[:, None]
    ours = ((rounded.dequantize() - weights_RK) ** 2).sum(1)
    assert (ours <= ((plain - weights_RK) ** 2).sum(1) * 1.01 + 1e-4 * (weights_RK**2).sum(1) / high).all()


@settings(max_examples=60, deadline=None)
@given(WEIGHTS, st.sampled_from([16, 32]))
def test_blocks_stay_within_half_a_step(weights_RK, block):
    rounded = rounding.blockwise(weights_RK, 4, block)
    assert rounded.q_RK.shape == weights_RK.shape
    assert rounded.q_RK.max(initial=0) <= 15
    assert rounded.scales.shape == (len(weights_RK), -(-weights_RK.shape[1] // block))
    error = np.abs(rounded.dequantize() - weights_RK)
    # clipping gives up at most 30 % of the range's end, so no weight is off by more than that
    assert (error <= 0.45 * np.abs(weights_RK).max(1, keepdims=True) + 1e-6).all()


def test_zero_rows_stay_zero():
    weights_RK = np.zeros((3, 40), np.float32)
    assert not rounding.per_channel(weights_RK).dequantize().any()
    assert not rounding.blockwise(weights_RK).dequantize().any()


def test_what_lies_on_the_grid_is_kept():
    q_RK = np.random.default_rng(0).integers(-8, 8, (4, 64))
    q_RK[:, ::32] = -8
    weights_RK = (q_RK * 0.25).astype(np.float32)
    assert np.array_equal(rounding.blockwise(weights_RK).dequantize(), weights_RK)


@pytest.mark.parametrize("scale", [1e-9, 1e9])
def test_scales_beyond_float16_stay_float32(scale):
    weights_RK = np.random.default_rng(2).standard_normal((4, 32)).astype(np.float32) * np.float32(scale)
    rounded = rounding.blockwise(weights_RK)
    assert rounded.scales.dtype == np.float32
    assert np.abs(rounded.dequantize() - weights_RK).max() < 0.2 * np.abs(weights_RK).max()


def _layer(rows, width, seed=0):
    rng = np.random.default_rng(seed)
    weights_RK = rng.normal(size=(rows, width)).astype(np.float32)
    # inputs that lie near a few directions, as those of a trained layer do
    x_NK = rng.normal(size=(512, 8)) @ rng.normal(size=(8, width)) + 0.1 * rng.normal(size=(512, width))
    return weights_RK, x_NK


@pytest.mark.parametrize("width", [32, 77, 192])
def test_compensated_rounding_keeps_the_outputs(width):
    weights_RK, x_NK = _layer(48, width)

    def loss(rounded):
        return np.square(x_NK @ (rounded.dequantize() - weights_RK).T).sum()

    plain, made_good = rounding.blockwise(weights_RK), rounding.compensated(weights_RK, x_NK.T @ x_NK)
    assert made_good.scales.shape == plain.scales.shape
    assert made_good.scales.dtype == plain.scales.dtype
    assert made_good.q_RK.max() <= 15
    assert loss(made_good) < 0.7 * loss(plain)


@pytest.mark.parametrize("moment_KK", [np.eye(96), np.zeros((96, 96))], ids=["unrelated inputs", "no inputs"])
def test_with_nothing_to_make_good_by_it_is_plain_rounding(moment_KK):
    weights_RK, _ = _layer(16, 96)
    plain, same = rounding.blockwise(weights_RK), rounding.compensated(weights_RK, moment_KK)
    assert np.array_equal(plain.q_RK, same.q_RK)
    assert np.array_equal(plain.scales, same.scales)
