"""Response distillation: match what the teacher answers. Pure functions of logits; called by train/objectives.py."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def kl(student_BC: Tensor, teacher_BC: Tensor, temperature: float = 2.0) -> Tensor:
    """T² · KL(softmax(teacher / T) ‖ softmax(student / T)), mean over the batch.

    The full divergence, teacher's entropy included, so that a perfect student scores 0.
    The factor T² keeps its gradient on the scale of the hard-label loss.
    Source: Hinton, Vinyals, Dean 2015, "Distilling the Knowledge in a Neural Network", §2, eq. 1-4.
    """
    log_q_BC = F.log_softmax(student_BC / temperature, dim=-1)
    log_p_BC = F.log_softmax(teacher_BC / temperature, dim=-1)
    return temperature**2 * F.kl_div(log_q_BC, log_p_BC, reduction="batchmean", log_target=True)


def gold(student_BC: Tensor, labels_B: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy with the labels that people gave; rows with label -1 do not count.

    Returns 0 for a batch without any label. Label smoothing: Szegedy et al. 2016, §7.
    """
    if not bool((labels_B >= 0).any()):
        return student_BC.sum() * 0.0
    return F.cross_entropy(student_BC, labels_B, ignore_index=-1, label_smoothing=smoothing)


def mse(student_BC: Tensor, teacher_BC: Tensor) -> Tensor:
    """Mean squared difference of logits centred per row (a constant shift does not change the answer).

    Source: Ba & Caruana 2014, "Do Deep Nets Really Need to be Deep?", eq. 1.
    """
    centred_BC = (student_BC - student_BC.mean(-1, keepdim=True)) - (teacher_BC - teacher_BC.mean(-1, keepdim=True))
    return centred_BC.square().mean()
