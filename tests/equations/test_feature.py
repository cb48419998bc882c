"""Feature distillation: padding never counts, and the values are those of numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minikin.equations import feature


def made(seed: int, *shape: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


@given(st.integers(0, 999), st.floats(0.1, 100))
def test_pooled_cosine_ignores_length_and_is_zero_for_itself(seed, factor):
    vectors_BH = made(seed, 3, 5)
    assert float(feature.pooled_cosine(vectors_BH * factor, vectors_BH)) == pytest.approx(0, abs=1e-9)
    assert float(feature.pooled_cosine(-vectors_BH, vectors_BH)) == pytest.approx(2.0)


def test_pooled_cosine_of_a_zero_vector_is_finite():
    vectors_BH = torch.zeros(1, 4, requires_grad=True)
    loss = feature.pooled_cosine(vectors_BH, made(0, 1, 4).float())
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(vectors_BH.grad).all()


@given(st.integers(0, 999), st.integers(1, 4))
def test_hidden_mse_is_the_mean_over_tokens_that_are_not_padding(seed, length):
    student_BTH, teacher_BTH = made(seed, 2, 4, 3), made(seed + 1, 2, 4, 3)
    mask_BT = torch.ones(2, 4, dtype=torch.int64)
    mask_BT[1, length:] = 0
    squared = ((student_BTH - teacher_BTH) ** 2).numpy()
    expected = np.concatenate([squared[0].ravel(), squared[1, :length].ravel()]).mean()
    assert float(feature.hidden_mse(student_BTH, teacher_BTH, mask_BT)) == pytest.approx(expected)


@given(st.integers(0, 999), st.integers(1, 4))
def test_attention_mse_is_the_mean_over_pairs_of_tokens(seed, length):
    student_BTT, teacher_BTT = made(seed, 1, 4, 4), made(seed + 1, 1, 4, 4)
    mask_BT = (torch.arange(4) < length).long()[None]
    expected = ((student_BTT - teacher_BTT) ** 2)[0, :length, :length].mean()
    assert float(feature.attention_mse(student_BTT, teacher_BTT, mask_BT)) == pytest.approx(float(expected))


@pytest.mark.parametrize("equation", [feature.hidden_mse, feature.attention_mse])
def test_nothing_to_compare_is_zero(equation):
    states = made(0, 2, 3, 3)
    assert float(equation(states, states + 1, torch.zeros(2, 3, dtype=torch.int64))) == 0.0
