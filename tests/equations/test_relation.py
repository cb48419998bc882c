"""Relations: heads may be unequal, RKD does not see scale, shift or rotation, and padding never counts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minikin.equations import relation


def made(seed: int, *shape: int) -> torch.Tensor:
    return torch.tensor(np.random.default_rng(seed).normal(size=shape))


def rotation(seed: int, width: int) -> torch.Tensor:
    return torch.linalg.qr(made(seed, width, width)).Q


def test_token_relations_against_numpy():
    vectors_BTH, mask_BT = made(0, 2, 3, 8), torch.tensor([[1, 1, 1], [1, 1, 0]])
    found_BRTT = relation.token_relations(vectors_BTH, mask_BT, 4).numpy()
    for b, n in enumerate((3, 2)):
        for r in range(4):
            x_TD = vectors_BTH[b, :n, 2 * r : 2 * r + 2].numpy()
            scores_TT = np.exp(x_TD @ x_TD.T / np.sqrt(2))
            expected_TT = np.log(scores_TT / scores_TT.sum(-1, keepdims=True))
            np.testing.assert_allclose(found_BRTT[b, r, :n, :n], expected_TT, rtol=1e-9)


@given(st.integers(0, 999), st.sampled_from([(8, 16), (16, 8), (12, 4)]))
@settings(max_examples=30)
def test_minilm_compares_unequal_widths_and_ignores_padding(seed, widths):
    mask_BT = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    student_BTH, teacher_BTH = made(seed, 2, 4, widths[0]), made(seed + 1, 2, 4, widths[1])

    def loss(a_BTH: torch.Tensor, b_BTH: torch.Tensor) -> float:
        a, b = (relation.token_relations(x, mask_BT, 4) for x in (a_BTH, b_BTH))
        return float(relation.minilm(a, b, mask_BT))

    value = loss(student_BTH, teacher_BTH)
    assert value > 0
    assert loss(teacher_BTH, teacher_BTH) == pytest.approx(0, abs=1e-12)
    noisy_BTH = student_BTH.clone()
    noisy_BTH[1, 2:] = 50.0
    assert loss(noisy_BTH, teacher_BTH) == pytest.approx(value, rel=1e-9)


def test_minilm_is_the_mean_divergence_of_rows():
    mask_BT = torch.ones(1, 3, dtype=torch.int64)
    a, b = (relation.token_relations(made(s, 1, 3, 8), mask_BT, 2) for s in (0, 1))
    p, q = b.exp().numpy(), a.exp().numpy()
    assert float(relation.minilm(a, b, mask_BT)) == pytest.approx((p * np.log(p / q)).sum(-1).mean())


def test_gradients_stay_finite_with_padding_and_empty_rows():
    vectors_BTH = made(0, 2, 3, 8).float().requires_grad_()
    mask_BT = torch.tensor([[1, 1, 0], [0, 0, 0]])
    theirs = relation.token_relations(made(1, 2, 3, 8).float(), mask_BT, 4)
    loss = relation.minilm(relation.token_relations(vectors_BTH, mask_BT, 4), theirs, mask_BT)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(vectors_BTH.grad).all()


@given(st.integers(0, 999), st.floats(0.1, 20))
@settings(max_examples=30)
def test_rkd_does_not_see_scale_shift_or_rotation(seed, factor):
    teacher_BH = made(seed, 5, 6)
    student_BH = factor * teacher_BH @ rotation(seed, 6) + made(seed + 1, 6)
    assert float(relation.rkd_distance(student_BH, teacher_BH)) == pytest.approx(0, abs=1e-9)
    assert float(relation.rkd_angle(student_BH, teacher_BH)) == pytest.approx(0, abs=1e-9)


def test_rkd_against_a_plain_loop():
    student_BH, teacher_BH = made(0, 4, 3), made(1, 4, 2)

    def huber(x: float) -> float:
        return 0.5 * x * x if abs(x) < 1 else abs(x) - 0.5

    def distances(v: np.ndarray) -> np.ndarray:
        d = np.linalg.norm(v[:, None] - v[None], axis=-1)
        return d / d[~np.eye(4, dtype=bool)].mean()

    def angle(v: np.ndarray, i: int, j: int, k: int) -> float:
        a, b = v[i] - v[j], v[k] - v[j]
        return float(a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12))

    s, t = student_BH.numpy(), teacher_BH.numpy()
    expected = np.mean([huber(x) for x in (distances(s) - distances(t)).ravel()])
    assert float(relation.rkd_distance(student_BH, teacher_BH)) == pytest.approx(expected, rel=1e-4)
    triples = [(i, j, k) for i in range(4) for j in range(4) for k in range(4)]
    expected = np.mean([huber(angle(s, *ijk) - angle(t, *ijk)) for ijk in triples])
    assert float(relation.rkd_angle(student_BH, teacher_BH)) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(("equation", "rows"), [(relation.rkd_distance, 1), (relation.rkd_angle, 2)])
def test_rkd_of_too_few_rows_is_zero(equation, rows):
    assert float(equation(made(0, rows, 3), made(1, rows, 3))) == 0.0


@pytest.mark.parametrize("equation", [relation.rkd_distance, relation.rkd_angle])
def test_rkd_of_equal_rows_has_a_finite_gradient(equation):
    student_BH = torch.ones(4, 3, requires_grad=True)
    equation(student_BH, made(0, 4, 3).float()).backward()
    assert torch.isfinite(student_BH.grad).all()
