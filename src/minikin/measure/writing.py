"""How well something writes: its answers beside people's, and how likely it finds these, with intervals; how fast."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np

from minikin.base.types import Array, Progress, no_progress
from minikin.base.writing import Completion
from minikin.equations import intervals
from minikin.equations.metrics import same
from minikin.equations.texts import chrf, loops, repeated_4_grams, rouge_l
from minikin.measure.speed import Cores

LN_2: Final = math.log(2)
PROMPTS_AT_ONCE = 128
"""Prompts whose similarities to all that is known are held together."""


class Writes(Protocol):
    """Something that is asked and writes: a loaded kin."""

    def __call__(self, prompt: Any) -> Completion:
        """Answer one prompt."""
        ...


ALIKE: Final[Mapping[str, Callable[[str, str], float]]] = {"accuracy": same, "rouge_l": rouge_l, "chrf": chrf}
"""What is said of an answer beside people's; `accuracy` is exactness, as the classifiers' tables have it."""

ALONE: Final[Mapping[str, Callable[[str], float]]] = {"looping": loops, "repeated_4_grams": repeated_4_grams}
"""What is said of a text alone."""


@dataclass(frozen=True)
class Written:
    """What was written to N prompts, what is said of each text (N,), and how long each took."""

    answers: tuple[str, ...]
    scores: Mapping[str, Array]
    latency_ms_N: Array
    prefill_tokens_per_s: float
    decode_tokens_per_s: float
    first_token_ms_p50: float
    core_share: float = 1.0
    """CPU time over the time that all answers took; less than 1 when other work had the cores."""

    @property
    def exact_N(self) -> Array:
        """Which answers are exact."""
        return self.scores["accuracy"]

    def summary(self, seed: int) -> dict[str, Any]:
        """Plain values: of each score the mean with its 95 % interval, and the speed where it is known."""
        row: dict[str, Any] = {}
        for name, score_N in self.scores.items():
            row[name] = float(score_N.mean())
            row[f"{name}_interval"] = list(intervals.mean_interval(score_N, seed=seed))
        if not len(self.latency_ms_N):
            return row
        return {
            **row,
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
        said_of(texts, references),
        np.array(took),
        _rate(sum(t.read - t.reused for t in timings), sum(t.prefill_s for t in timings)),
        _rate(sum(max(0, t.written - 1) for t in timings), sum(t.decode_s for t in timings)),
        1e3 * float(np.median([t.prefill_s for t in timings])),
        share,
    )


def quoted(answers: Sequence[str], references: Sequence[str]) -> Written:
    """Answers that were not written here, compared with people's: nothing is known of their speed."""
    return Written(tuple(answers), said_of(answers, references), np.zeros(0), 0.0, 0.0, 0.0)


def said_of(texts: Sequence[str], references: Sequence[str]) -> dict[str, Array]:
    """Each score of N texts (N,) beside people's."""
    both = list(zip(texts, references, strict=True))
    beside = {name: np.array([score(*pair) for pair in both], float) for name, score in ALIKE.items()}
    return beside | {name: np.array([score(text) for text in texts], float) for name, score in ALONE.items()}


def differences(ours: Written, theirs: Written, seed: int) -> dict[str, Any]:
    """Of each score that both have: our mean minus theirs on the same prompts, with its paired interval."""
    found: dict[str, Any] = {}
    for name in (name for name in ours.scores if name in theirs.scores):
        mine_N, its_N = ours.scores[name], theirs.scores[name]
        interval = intervals.paired_interval(mine_N, its_N, seed=seed)
        found[name] = {"difference": float(mine_N.mean() - its_N.mean()), "interval": list(interval)}
    return found


def _rate(tokens: int, seconds: float) -> float:
    return tokens / seconds if seconds > 0 else 0.0


@dataclass(frozen=True)
class Likelihood:
    """What D documents cost: nats of their learnt tokens, how many those are, and how many bytes of text (D,)."""

    nats_D: Array
    tokens_D: Array
    bytes_D: Array

    def summary(self, seed: int) -> dict[str, Any]:
        """Perplexity of the tokens, and bits for each byte of text, which tokenizers can be compared by.

        Both with a 95 % bootstrap interval over documents.
        """
        nats, per_token = intervals.ratio_interval(self.nats_D, self.tokens_D, seed=seed)
        bits, per_byte = intervals.ratio_interval(self.nats_D / LN_2, self.bytes_D, seed=seed)
        return {
            "perplexity": math.exp(nats),
            "perplexity_interval": [math.exp(v) for v in per_token],
            "bits_per_byte": bits,
            "bits_per_byte_interval": list(per_byte),
        }

    def difference(self, other: Likelihood, seed: int) -> dict[str, Any]:
        """Bits per byte minus those of `other` on the same documents, with a paired interval."""
        ours, theirs = ((one.nats_D / LN_2, one.bytes_D) for one in (self, other))
        bits, interval = intervals.ratio_interval(*ours, minus=theirs, seed=seed)
        return {"bits_per_byte": {"difference": bits, "interval": list(interval)}}


def likelihood(
    logprobs: Callable[[Sequence[int]], Array],
    spelled: Callable[[int], bytes],
    documents: Sequence[Array],
    learnt: Sequence[Array],
    context: int,
) -> Likelihood:
    """How likely the learnt tokens of D documents are.

    `logprobs` gives the natural log-probability (T - 1,) of each token of a text after its first, `spelled` the bytes
    of a token. What is longer than `context` tokens is read in parts of that length, each of which starts anew, as in
    training, and whose first token does not count.
    """
    sizes: dict[int, int] = {}
    found = np.zeros((len(documents), 3))
    for d, (ids_T, learnt_T) in enumerate(zip(documents, learnt, strict=True)):
        for start in range(0, len(ids_T), context):
            part = slice(start, start + context)
            wanted_T = np.asarray(learnt_T[part])[1:]
            if not wanted_T.any():
                continue
            ids = [int(i) for i in ids_T[part]]
            counted = [token for token, wanted in zip(ids[1:], wanted_T, strict=True) if wanted]
            sizes |= {token: len(spelled(token)) for token in set(counted) - sizes.keys()}
            nats = -float(np.asarray(logprobs(ids))[wanted_T].sum())
            found[d] += nats, len(counted), sum(sizes[token] for token in counted)
    return Likelihood(*found.T)


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
