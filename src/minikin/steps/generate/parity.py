"""The shipped file against the training-time model: their next-token distributions on the same held-out texts."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from minikin.base.types import Array, Student
from minikin.data.generate import Corpus
from minikin.equations.sequence import kl
from minikin.feed.causal import model_of
from minikin.runtimes.author import Author
from minikin.runtimes.llama_cpp import LlamaCpp

MOST_TOKENS: Final = 16_384
"""Tokens that both read: enough for a mean, and a few seconds for a small model."""


def parity(kin: Author, trained: Student, corpus: Corpus, wanted: int) -> dict[str, Any]:
    """Compare the two where test texts are learnt, after each of the same tokens.

    `same_greedy_tokens` is the share of next tokens whose likeliest is the same, `kl_nats` the mean KL(training-time ‖
    shipped) of a next token over the whole vocabulary, in nats; `perplexity_ratio` is the geometric mean over texts.
    At most `wanted` texts of MOST_TOKENS tokens together are read, and each up to the context's length.
    """
    model, writer = model_of(trained), kin.generator
    assert isinstance(writer, LlamaCpp)
    texts = [corpus.data.test.texts[i] for i in range(min(wanted, len(corpus.data.test)))]
    found: list[Array] = []
    read = 0
    for spoken in kin.spoken(texts, corpus.kind):
        ids_T, learnt_T = spoken.ids_T[: writer.context], spoken.learnt_T[: writer.context]
        if read and read + len(ids_T) > MOST_TOKENS:
            break
        read += len(ids_T)
        if learnt_T[1:].any():
            found.append(_compared(model, writer, ids_T.astype(np.int64), learnt_T))
    ratios = [float(np.exp((one_M4[:, 0] - one_M4[:, 1]).mean())) for one_M4 in found]
    theirs_M, ours_M, kl_M, same_M = np.concatenate(found).T
    return {
        "texts": len(found),
        "tokens": len(kl_M),
        "perplexity_ratio": float(np.exp(np.mean(np.log(ratios)))),
        "mean_log_probability_difference": float(np.abs(ours_M - theirs_M).mean()),
        "same_greedy_tokens": float(same_M.mean()),
        "kl_nats": max(0.0, float(kl_M.mean())),
        "label_agreement": None,
    }


@torch.inference_mode()
def _compared(model: Any, writer: LlamaCpp, ids_T: Array, learnt_T: Array) -> Array:
    """Of each learnt token (M, 4): its log-probability by the model and by the file, KL, whether both guess alike."""
    theirs_TV = model(input_ids=torch.from_numpy(ids_T)[None]).logits[0]
    found, begin = [], 0
    for ours_TV in writer.distributions(ids_T.tolist()):
        end = begin + len(ours_TV)
        at_M = begin + np.flatnonzero(learnt_T[begin + 1 : end + 1])
        log_p_MV = theirs_TV[at_M].float().log_softmax(-1)
        log_q_MV = torch.from_numpy(ours_TV[at_M - begin]).log_softmax(-1)
        next_M1 = torch.from_numpy(ids_T[at_M + 1])[:, None]
        columns: list[Tensor] = [log_MV.gather(-1, next_M1)[:, 0] for log_MV in (log_p_MV, log_q_MV)]
        columns += [kl(log_q_MV, log_p_MV), (log_p_MV.argmax(-1) == log_q_MV.argmax(-1)).float()]
        found.append(torch.stack(columns, -1).numpy())
        begin = end
    return np.concatenate(found).astype(np.float64)
