"""Feature distillation: match what the teacher computes inside. Pure functions; called by train/objectives.py."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def pooled_cosine(student_BH: Tensor, teacher_BH: Tensor) -> Tensor:
    """1 - cosine of the (projected) sentence vectors, mean over the batch.

    Source: the cosine embedding loss of Sanh et al. 2019, "DistilBERT", §3, applied to the sentence vector.
    """
    return (1.0 - F.cosine_similarity(student_BH, teacher_BH, dim=-1)).mean()


def hidden_mse(student_BTH: Tensor, teacher_BTH: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean squared difference of (projected) hidden states over the tokens that are not padding.

    Source: Jiao et al. 2020, "TinyBERT", eq. 8 (hidden states) and eq. 9 (embeddings).
    """
    weight_BT1 = mask_BT.unsqueeze(-1).to(student_BTH.dtype)
    squared_BTH = (student_BTH - teacher_BTH).square() * weight_BT1
    return squared_BTH.sum() / (weight_BT1.sum() * student_BTH.shape[-1]).clamp(min=1.0)


def attention_mse(student_BTT: Tensor, teacher_BTT: Tensor, mask_BT: Tensor) -> Tensor:
    """Mean squared difference of attention maps averaged over heads, padding left out.

    Source: Jiao et al. 2020, "TinyBERT", eq. 7; maps are averaged over heads so that unequal numbers of
    heads can be compared.
    """
    keep_BTT = (mask_BT.unsqueeze(1) * mask_BT.unsqueeze(2)).to(student_BTT.dtype)
    return ((student_BTT - teacher_BTT).square() * keep_BTT).sum() / keep_BTT.sum().clamp(min=1.0)
