"""How alike two texts are, and how much one repeats itself: pure functions of strings. Called by measure/."""

from __future__ import annotations

import re
from collections import Counter
from typing import Final

UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, kana and Han."""

WORD: Final = re.compile(rf"[^\W{UNSPACED}]+|\w")
"""A word, or one character of a script without spaces."""

PIECE: Final = re.compile(rf"[^\W\d{UNSPACED}]+|\w|[^\w\s]")
"""A word, a digit, or a mark."""

CHRF_ORDER, CHRF_BETA = 6, 2.0
LOOP_TIMES, LOOP_CHARACTERS, LOOP_LONGEST = 3, 24, 200


def rouge_l(answer: str, reference: str) -> float:
    """F₁ of the longest common subsequence of words, without regard to case (ROUGE-L, Lin 2004, equations 2 to 4).

    The subsequence is found bit-parallel (Hyyrö 2004): a zero in `left` is a word of the answer that is in it.
    """
    ours, theirs = (WORD.findall(text.casefold()) for text in (answer, reference))
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


def chrf(answer: str, reference: str) -> float:
    """F₂ of precision and recall of characters' 1- to 6-grams, spaces left out, each averaged over the orders.

    Orders that either text is too short for do not count; two texts without a character are alike. Equal to
    sacrebleu's sentence score (divided by 100). Source: Popović 2015, "chrF: character n-gram F-score for automatic MT
    evaluation", equation 1; β = 2 after Popović 2016, "chrF deconstructed".
    """
    ours, theirs = ("".join(text.split()) for text in (answer, reference))
    if ours == theirs:
        return 1.0
    orders = min(CHRF_ORDER, len(ours), len(theirs))
    precision = recall = 0.0
    for n in range(1, orders + 1):
        mine, its = (Counter(text[i : i + n] for i in range(len(text) - n + 1)) for text in (ours, theirs))
        common = sum(min(count, its[gram]) for gram, count in mine.items() if gram in its)
        precision += common / (len(ours) - n + 1) / orders
        recall += common / (len(theirs) - n + 1) / orders
    below = CHRF_BETA**2 * precision + recall
    return (1 + CHRF_BETA**2) * precision * recall / below if below else 0.0


def loops(text: str) -> bool:
    """Whether a text ends in a loop: at its end, something stands three times in a row or more, 24 characters in all.

    What is longer than 200 characters is not looked for. Counted in characters, it is the same for all tokenizers and
    scripts; white space counts as one. Source: after Holtzman et al. 2020, "The Curious Case of Neural Text
    Degeneration" (there: a phrase of two tokens or more, three times).
    """
    text = " " + " ".join(text.split())
    for period in range(1, min(LOOP_LONGEST, len(text) // LOOP_TIMES) + 1):
        tail = text[-max(LOOP_TIMES * period, LOOP_CHARACTERS) :]
        if len(tail) >= LOOP_CHARACTERS and tail[period:] == tail[:-period]:
            return True
    return False


def repeated_4_grams(text: str) -> float:
    """Share of a text's runs of four words, digits and marks that stood in it before; 0 for a text of fewer than four.

    Source: Welleck et al. 2020, "Neural Text Generation with Unlikelihood Training"
    (seq-rep-4).
    """
    pieces = PIECE.findall(text)
    grams = list(zip(*(pieces[i:] for i in range(4)), strict=False))
    return 1 - len(set(grams)) / len(grams) if grams else 0.0
