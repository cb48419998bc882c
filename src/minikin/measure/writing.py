"""How well something writes: exact answers and the likelihood of people's answers, with intervals, and how fast."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from minikin.base.types import Array, Progress, no_progress
from minikin.base.writing import Completion
from minikin.equations import intervals
from minikin.equations.metrics import same
from minikin.measure.speed import Cores

PROMPTS_AT_ONCE = 128
"""Prompts whose similarities to all that is known are held together."""


class Writes(Protocol):
    """Something that is asked and writes: a loaded kin."""

    def __call__(self, prompt: Any) -> Completion:
        """Answer one prompt."""
        ...


@dataclass(frozen=True)
class Written:
    """What was written to N prompts, which of it is exact, how much of it is shared, and how long each answer took."""

    answers: tuple[str, ...]
    exact_N: Array
    rouge_l_N: Array
    latency_ms_N: Array
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    first_token_ms_p50: float
    core_share: float = 1.0
    """CPU time over the time that all answers took; less than 1 when other work had the cores."""

    def summary(self, seed: int) -> dict[str, Any]:
        """Plain values; `accuracy` is the share of exact answers, as the classifiers' tables have it."""
        right = {
            "accuracy": float(self.exact_N.mean()),
            "accuracy_interval": list(intervals.mean_interval(self.exact_N, seed=seed)),
            "rouge_l": float(self.rouge_l_N.mean()),
            "rouge_l_interval": list(intervals.mean_interval(self.rouge_l_N, seed=seed)),
        }
        if not len(self.latency_ms_N):
            return right
        return {
            **right,
            "latency_ms_p50": float(np.percentile(self.latency_ms_N, 50)),
            "latency_ms_p95": float(np.percentile(self.latency_ms_N, 95)),
            "prefill_tokens_per_s": self.prefill_tokens_per_s,
            "decode_tokens_per_s": self.decode_tokens_per_s,
            "first_token_ms_p50": self.first_token_ms_p50,
            "core_share": self.core_share,
        }


def written(
    ask: Writes, prompts: Sequence[Any], references: Sequence[str], progress: Progress = no_progress
) -> Written:
    """Ask for every answer, one after the other, and compare it with people's."""
    completions: list[Completion] = []
    took, cores = [], Cores()
    for i, prompt in enumerate(prompts):
        started = time.perf_counter()
        completions.append(ask(prompt))
        took.append(1e3 * (time.perf_counter() - started))
        progress((i + 1) / len(prompts), f"{i + 1:,} answers")
    share = cores.share()
    texts, timings = tuple(c.text for c in completions), [c.timing for c in completions]
    return Written(
        texts,
        *_right(texts, references),
        np.array(took),
        _rate(sum(t.read - t.reused for t in timings), sum(t.prefill_s for t in timings)),
        _rate(sum(max(0, t.written - 1) for t in timings), sum(t.decode_s for t in timings)),
        1e3 * float(np.median([t.prefill_s for t in timings])),
        share,
    )


def quoted(answers: Sequence[str], references: Sequence[str]) -> Written:
    """Answers that were not written here, compared with people's: nothing is known of their speed."""
    return Written(tuple(answers), *_right(answers, references), np.zeros(0), 0.0, 0.0, 0.0)


def _right(answers: Sequence[str], references: Sequence[str]) -> tuple[Array, Array]:
    both = list(zip(answers, references, strict=True))
    return np.array([same(*pair) for pair in both], float), np.array([rouge_l(*pair) for pair in both], float)


def rouge_l(answer: str, reference: str) -> float:
    """F₁ of the longest common subsequence of words, without regard to case (ROUGE-L, Lin 2004, equations 2 to 4).

    The subsequence is found bit-parallel (Hyyrö 2004): a zero in `left` is a word of the answer that is in it.
    """
    ours, theirs = (re.findall(r"\w+", text.casefold()) for text in (answer, reference))
    if not ours or not theirs:
        return float(ours == theirs)
    at: dict[str, int] = {}
    for i, word in enumerate(ours):
        at[word] = at.get(word, 0) | 1 << i
    whole = left = (1 << len(ours)) - 1
    for word in theirs:
        taken = left & at.get(word, 0)
        left = ((left + taken) | (left - taken)) & whole
    return 2 * (len(ours) - left.bit_count()) / (len(ours) + len(theirs))


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0


def perplexity(
    logprobs: Callable[[Sequence[int]], Array],
    documents: Sequence[Array],
    learnt: Sequence[Array],
    seed: int,
    context: int,
) -> dict[str, Any]:
    """Perplexity of the learnt tokens of D documents, with a 95 % bootstrap interval over documents.

    `logprobs` gives the natural log-probability (T - 1,) of each token of a text after its first. What is longer than
    `context` tokens is read in parts of that length, each of which starts anew, as in training.
    """
    found = [_nats(logprobs, ids_T, learnt_T, context) for ids_T, learnt_T in zip(documents, learnt, strict=True)]
    nats, counts = np.array([f for f in found if f[1]]).reshape(-1, 2).T
    draws = np.random.default_rng(seed).integers(len(nats), size=(1000, len(nats)))
    spread = np.exp(nats[draws].sum(1) / counts[draws].sum(1))
    return {
        "perplexity": float(np.exp(nats.sum() / counts.sum())),
        "perplexity_interval": [float(v) for v in np.quantile(spread, [0.025, 0.975])],
    }


def _nats(logprobs: Callable[[Sequence[int]], Array], ids_T: Array, learnt_T: Array, context: int) -> tuple[float, int]:
    """Minus the log-probability of a document's learnt tokens, and how many they are."""
    nats, count = 0.0, 0
    for start in range(0, len(ids_T), context):
        part = slice(start, start + context)
        wanted_T = np.asarray(learnt_T[part])[1:]
        if wanted_T.any():
            nats -= float(np.asarray(logprobs([int(i) for i in ids_T[part]]))[wanted_T].sum())
            count += int(wanted_T.sum())
    return nats, count


class Nearest:
    """The baseline that needs no model: the answer of the training prompt nearest by TF-IDF of words and characters."""

    def __init__(self, prompts: Sequence[str], answers: Sequence[str]) -> None:
        from sklearn.feature_extraction.text import TfidfVectorizer
        from sklearn.pipeline import make_union

        self._features = make_union(TfidfVectorizer(), TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4)))
        self._known = self._features.fit_transform(list(prompts))
        self._answers = list(answers)

    def answers(self, prompts: Sequence[str]) -> list[str]:
        """The nearest prompts' answers."""
        found: list[str] = []
        for first in range(0, len(prompts), PROMPTS_AT_ONCE):
            asked = self._features.transform(list(prompts[first : first + PROMPTS_AT_ONCE]))
            nearest_N = (asked @ self._known.T).toarray().argmax(axis=1)
            found += [self._answers[i] for i in nearest_N.tolist()]
        return found
