"""How the next token is chosen from logits: one way for every generator, so that a seed means the same in each."""

from __future__ import annotations

import numpy as np

from minikin.base.errors import UserError
from minikin.base.types import Array
from minikin.base.writing import Decoding


def check(how: Decoding) -> None:
    """Raise UserError for settings that mean nothing."""
    if how.max_tokens < 1:
        raise UserError(f"max_tokens is {how.max_tokens}. Ask for at least one token.")
    if not how.temperature >= 0:
        raise UserError(f"temperature is {how.temperature}. Use 0 (the likeliest token) or more.")
    if not 0 < how.top_p <= 1:
        raise UserError(f"top_p is {how.top_p}. Use a share above 0 and up to 1.")
    if how.top_k < 0:
        raise UserError(f"top_k is {how.top_k}. Use 0 (all tokens) or a count.")
    if how.schema is not None and how.grammar is not None:
        raise UserError("A text can follow a JSON Schema or a grammar, not both. Leave one out.")
    if any(not stop for stop in how.stop):
        raise UserError("A stop string is empty. Leave it out.")


def pick(logits_V: Array, how: Decoding, rng: np.random.Generator) -> int:
    """Return the id of the next token: temperature first, then the `top_k` likeliest, then `top_p` of what is left.

    A logit of -inf is never drawn. Nucleus sampling: Holtzman et al. 2020, equation 3.
    """
    if how.temperature == 0:
        return int(np.argmax(logits_V))
    if 0 < how.top_k < len(logits_V):
        ids = np.argpartition(logits_V, -how.top_k)[-how.top_k :]
    else:
        ids = np.arange(len(logits_V))
    below = logits_V[ids].astype(np.float64) - logits_V[ids].max()
    with np.errstate(over="ignore"):  # a temperature next to nothing leaves the likeliest
        odds = np.exp(below / how.temperature)
    if how.top_p < 1:
        order = np.argsort(-odds, kind="stable")
        ids, odds = ids[order], odds[order]
        kept = int(np.searchsorted(np.cumsum(odds), how.top_p * odds.sum())) + 1
        ids, odds = ids[:kept], odds[:kept]
    sums = np.cumsum(odds)
    place = int(np.searchsorted(sums, rng.random() * sums[-1], side="right"))
    return int(ids[min(place, len(ids) - 1)])


def logprob(logits_V: Array, token: int) -> float:
    """Return the natural log-probability of one token."""
    scaled = logits_V.astype(np.float64)
    top = scaled.max()
    return float(scaled[token] - top - np.log(np.exp(scaled - top).sum()))


def logprobs(logits_TV: Array, tokens_T: Array) -> Array:
    """Return the natural log-probabilities (T,) of `tokens_T`, each under its own row of logits."""
    scaled_TV = logits_TV.astype(np.float64)
    scaled_TV -= scaled_TV.max(-1, keepdims=True)
    taken_T: Array = np.take_along_axis(scaled_TV, tokens_T[:, None].astype(np.int64), -1)[:, 0]
    sums_T: Array = np.log(np.exp(scaled_TV).sum(-1))
    return taken_T - sums_T
