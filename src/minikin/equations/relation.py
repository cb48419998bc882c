"""Relation distillation: match how examples, or tokens, relate to each other; widths may differ. Pure functions."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def token_relations(vectors_BTH: Tensor, mask_BT: Tensor, heads: int) -> Tensor:
    """Log-softmax of scaled dot products between tokens, per relation head: (B, R, T, T).

    The width is split anew into `heads` relation heads, so that models with unequal numbers of attention
    heads can be compared. Source: Wang et al. 2021, "MiniLMv2", eq. 4-5.
    """
    batch, tokens, width = vectors_BTH.shape
    split_BRTD = vectors_BTH.view(batch, tokens, heads, width // heads).transpose(1, 2)
    scores_BRTT = split_BRTD @ split_BRTD.transpose(-1, -2) / (width // heads) ** 0.5
    scores_BRTT = scores_BRTT.masked_fill(mask_BT[:, None, None, :] == 0, torch.finfo(scores_BRTT.dtype).min)
    return F.log_softmax(scores_BRTT, dim=-1)


def minilm(student_BRTT: Tensor, teacher_BRTT: Tensor, mask_BT: Tensor) -> Tensor:
    """KL(teacher relations ‖ student relations), mean over relation heads and tokens that are not padding.

    Both are log-probabilities of `token_relations`. Source: Wang et al. 2021, "MiniLMv2", eq. 3.
    """
    keep_BTT = (mask_BT[:, :, None] * mask_BT[:, None, :]).bool()
    term_BRTT = teacher_BRTT.exp() * (teacher_BRTT - student_BRTT)
    term_BRTT = term_BRTT.masked_fill(~keep_BTT[:, None], 0.0)
    return term_BRTT.sum() / (student_BRTT.shape[1] * mask_BT.sum().clamp(min=1))


def _distances_BB(vectors_BH: Tensor) -> Tensor:
    """Euclidean distances between rows, divided by their mean over distinct pairs (RKD eq. 6)."""
    squared_BB = (vectors_BH[:, None] - vectors_BH[None]).square().sum(-1)
    distances_BB = squared_BB.clamp(min=1e-12).sqrt()
    off_diagonal_BB = ~torch.eye(len(vectors_BH), dtype=torch.bool, device=vectors_BH.device)
    return distances_BB / distances_BB[off_diagonal_BB].mean().clamp(min=1e-6)


def rkd_distance(student_BH: Tensor, teacher_BH: Tensor) -> Tensor:
    """Huber loss between the normalised pairwise distances of a batch; 0 for fewer than two rows.

    Source: Park et al. 2019, "Relational Knowledge Distillation", eq. 5-7.
    """
    if len(student_BH) < 2:
        return student_BH.sum() * 0.0
    return F.smooth_l1_loss(_distances_BB(student_BH), _distances_BB(teacher_BH))


def _angles_BBB(vectors_BH: Tensor) -> Tensor:
    """Cosine of the angle at row j between rows i and k."""
    edges_BBH = F.normalize(vectors_BH[None] - vectors_BH[:, None], dim=-1, eps=1e-6)
    return edges_BBH @ edges_BBH.transpose(-1, -2)


def rkd_angle(student_BH: Tensor, teacher_BH: Tensor) -> Tensor:
    """Huber loss between the angles that every three rows of a batch form; 0 for fewer than three rows.

    Source: Park et al. 2019, "Relational Knowledge Distillation", eq. 8-9.
    """
    if len(student_BH) < 3:
        return student_BH.sum() * 0.0
    return F.smooth_l1_loss(_angles_BBB(student_BH), _angles_BBB(teacher_BH))
