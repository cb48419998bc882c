"""Response distillation against numpy's closed forms."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from torch.nn import functional as F

from minikin.equations import response

LOGITS = arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(2, 5)), elements=st.floats(-8, 8))
TEMPERATURES = st.floats(0.5, 10.0)


def softmax(x_BC: np.ndarray) -> np.ndarray:
    e_BC = np.exp(x_BC - x_BC.max(-1, keepdims=True))
    return e_BC / e_BC.sum(-1, keepdims=True)


@given(LOGITS, TEMPERATURES, st.integers(0, 99))
def test_kl_is_the_full_divergence_times_temperature_squared(teacher_BC, temperature, seed):
    student_BC = np.random.default_rng(seed).normal(size=teacher_BC.shape)
    p_BC, q_BC = softmax(teacher_BC / temperature), softmax(student_BC / temperature)
    expected = temperature**2 * (p_BC * np.log(np.maximum(p_BC, 1e-300) / q_BC)).sum(-1).mean()
    found = response.kl(torch.tensor(student_BC), torch.tensor(teacher_BC), temperature)
    assert float(found) == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert float(found) >= -1e-9


@given(LOGITS, TEMPERATURES)
def test_a_perfect_student_scores_zero_whatever_the_shift(logits_BC, temperature):
    assert float(response.kl(torch.tensor(logits_BC + 3.0), torch.tensor(logits_BC), temperature)) == pytest.approx(
        0.0, abs=1e-9
    )


def test_the_gradient_of_kl_keeps_its_scale_at_any_temperature():
    # Hinton et al. 2015, eq. 4: in the limit of high temperature the gradient is (z_i - v_i) / C, per example
    student_BC = torch.tensor([[0.3, -0.2, -0.1]], dtype=torch.float64, requires_grad=True)
    teacher_BC = torch.tensor([[-0.4, 0.1, 0.3]], dtype=torch.float64)
    (gradient_BC,) = torch.autograd.grad(response.kl(student_BC, teacher_BC, 1000.0), student_BC)
    torch.testing.assert_close(gradient_BC, (student_BC - teacher_BC).detach() / 3, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("temperature", [1.0, 2.0, 5.0])
def test_the_gradient_of_kl_is_t_times_the_difference_of_probabilities(temperature):
    student_BC = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    teacher_BC = torch.randn(4, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (gradient_BC,) = torch.autograd.grad(response.kl(student_BC, teacher_BC, temperature), student_BC)
    difference_BC = F.softmax(student_BC / temperature, -1) - F.softmax(teacher_BC / temperature, -1)
    torch.testing.assert_close(gradient_BC, temperature * difference_BC.detach() / 4)


def test_gold_does_not_count_unlabelled_rows():
    logits_BC = torch.tensor([[2.0, 0.0], [0.0, 9.0], [1.0, 1.0]], requires_grad=True)
    found = response.gold(logits_BC, torch.tensor([0, -1, 1]))
    assert found.item() == pytest.approx(F.cross_entropy(logits_BC[[0, 2]], torch.tensor([0, 1])).item())
    found.backward()
    assert logits_BC.grad[1].abs().sum() == 0


def test_gold_of_a_batch_without_labels_is_zero_and_has_a_gradient():
    logits_BC = torch.randn(2, 3, requires_grad=True)
    loss = response.gold(logits_BC, torch.tensor([-1, -1]))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(logits_BC.grad, torch.zeros(2, 3))


@given(LOGITS, st.floats(-50, 50))
def test_mse_ignores_a_constant_shift(logits_BC, shift):
    assert float(response.mse(torch.tensor(logits_BC + shift), torch.tensor(logits_BC))) == pytest.approx(0, abs=1e-8)


def test_mse_against_numpy():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    centred = (a - a.mean(1, keepdims=True)) - (b - b.mean(1, keepdims=True))
    assert float(response.mse(torch.tensor(a), torch.tensor(b))) == pytest.approx((centred**2).mean())
