"""New examples out of old ones: a phrase that decides one value of a JSON answer gives way to another's.

Fragments that stand in the same surroundings may be exchanged (J. Andreas, "Good-Enough Compositional Data
Augmentation", 2020, section 3); here a fragment is a phrase of the prompt together with the leaf of the answer that it
decides, found by counting. Called by `steps/generate/material.py`.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LONGEST = 4
"""Words of a phrase, at most."""
SEEN = 4
"""Examples that a phrase must stand in before it is believed."""
SURE = 0.95
"""Share of the examples with a phrase whose answers hold its leaf."""
LIFT = 1.5
"""How much more often an answer holds the leaf when the phrase is there."""
DEPTH = 3
"""Exchanges in one new example, at most."""
DRAWS = 8
"""Exchanges that are tried, at most, until one leaves prompt and answer in agreement."""
FREQUENT = 0.01
"""A leaf of this share of the answers should have been seen beside a new value; if it never was, they don't mix."""

Leaf = tuple[str, str]
"""Path and JSON text of a scalar in an answer; of text with digits, such as a time, each run of them by itself."""
DIGITS = re.compile(r"(\d+)")
SEPARATORS = ((",", ":"), (", ", ": "))


@dataclass(frozen=True)
class Exchange:
    """In one prompt, the words from `start` on, `length` of them, may become `phrase`, if `leaf` goes in the answer."""

    start: int
    length: int
    phrase: str
    leaf: Leaf


class Exchanges:
    """The exchanges that a set of prompts with JSON answers allows; none for an answer that is no JSON object."""

    def __init__(self, prompts: Sequence[str], answers: Sequence[str]) -> None:
        examples = [(prompt.split(), _read(answer)) for prompt, answer in zip(prompts, answers, strict=True)]
        self._count([(words, frozenset(_leaves(told.value))) for words, told in examples if told])

    def _count(self, examples: Sequence[tuple[list[str], frozenset[Leaf]]]) -> None:
        """Find which phrases decide which leaf, which leaves occur together, and which words follow each other."""
        phrases: Counter[str] = Counter()
        both: Counter[tuple[str, Leaf]] = Counter()
        often: Counter[Leaf] = Counter()
        self._together: set[tuple[Leaf, Leaf]] = set()
        self._beside: set[tuple[Leaf, str]] = set()
        self._neighbours: set[tuple[str, str]] = set()
        for words, leaves in examples:
            often.update(leaves)
            self._together.update((one, other) for one in leaves for other in leaves)
            self._beside.update((one, path) for one in leaves for path, _ in leaves)
            self._neighbours.update(zip(["", *words], [*words, ""], strict=True))
            for phrase in {phrase for _, phrase in _phrases(words)}:
                phrases[phrase] += 1
                both.update((phrase, leaf) for leaf in leaves)
        self._decides: defaultdict[str, set[Leaf]] = defaultdict(set)
        for (phrase, leaf), n in both.items():
            share = n / phrases[phrase]
            if phrases[phrase] >= SEEN and share >= SURE and share > LIFT * often[leaf] / len(examples):
                self._decides[phrase].add(leaf)
        self._shortest = {
            phrase: [leaf for leaf in sorted(decided) if self._is_shortest(phrase, leaf)]
            for phrase, decided in sorted(self._decides.items())
        }
        self._frequent = {leaf for leaf, n in often.items() if n >= FREQUENT * len(examples)}
        self._alike: defaultdict[tuple[str, frozenset[Leaf]], list[tuple[Leaf, str]]] = defaultdict(list)
        for phrase, decided in self._shortest.items():
            for leaf in decided:
                self._alike[leaf[0], self._besides(phrase, leaf)].append((leaf, phrase))

    def _is_shortest(self, phrase: str, leaf: Leaf) -> bool:
        parts = (part for _, part in _phrases(phrase.split()) if part != phrase)
        return not any(leaf in self._decides.get(part, ()) for part in parts)

    def _besides(self, phrase: str, leaf: Leaf) -> frozenset[Leaf]:
        """What a phrase decides beside this leaf: only phrases that are alike in it may be exchanged."""
        return frozenset(self._decides[phrase] - {leaf})

    def of(self, words: list[str], leaves: frozenset[Leaf]) -> list[Exchange]:
        """All exchanges in an example of these words, whose answer has these leaves."""
        found: list[Exchange] = []
        for leaf in sorted(leaves):
            deciding = [(at, phrase) for at, phrase in _phrases(words) if leaf in self._shortest.get(phrase, ())]
            if len(deciding) != 1:  # two phrases say the same: one of them would then contradict the answer
                continue
            start, phrase = deciding[0]
            others = leaves - {leaf}
            length = len(phrase.split())
            for new, its in self._alike[leaf[0], self._besides(phrase, leaf)]:
                if (
                    new != leaf
                    and self._fits(words, start, length, its)
                    and all(self._mix(new, other) for other in others)
                ):
                    found.append(Exchange(start, length, its, new))
        return found

    def _mix(self, new: Leaf, other: Leaf) -> bool:
        """Whether two leaves may stand in one answer: seen so, or at least the new one beside the other's path.

        Parts of one value, such as hour and minute, need not have been seen together.
        """
        apart = new[0].partition("#")[0] != other[0].partition("#")[0]
        return (new, other) in self._together if apart and other in self._frequent else (new, other[0]) in self._beside

    def _fits(self, words: list[str], start: int, length: int, phrase: str) -> bool:
        """Whether the words before and after were seen next to the new phrase's ends."""
        inner, end = phrase.split(), start + length
        before = words[start - 1] if start else ""
        after = words[end] if end < len(words) else ""
        return (before, inner[0]) in self._neighbours and (inner[-1], after) in self._neighbours

    def _agree(self, before: set[Leaf], said: list[str], leaves: frozenset[Leaf], new: Leaf) -> bool:
        """Whether the new words decide nothing else than the answer has, and still what was decided `before` of it."""
        now = self._decided(said)
        return now <= leaves and (before & leaves) - {new} <= now

    def _decided(self, words: list[str]) -> set[Leaf]:
        return {leaf for _, phrase in _phrases(words) for leaf in self._decides.get(phrase, ())}

    def another(self, prompt: str, answer: str, rng: np.random.Generator) -> tuple[str, str] | None:
        """A new example from one: up to `DEPTH` exchanges, drawn one after another; None where none is allowed.

        Its answer is spaced as the old one.
        """
        told = _read(answer)
        if told is None:
            return None
        words, value = prompt.split(), told.value
        before = words
        for _ in range(int(rng.integers(1, DEPTH + 1))):
            options, decided = self.of(words, frozenset(_leaves(value))), self._decided(words)
            for drawn in rng.permutation(len(options))[:DRAWS]:
                one = options[int(drawn)]
                said = [*words[: one.start], *one.phrase.split(), *words[one.start + one.length :]]
                meant = _with(value, one.leaf)
                if self._agree(decided, said, frozenset(_leaves(meant)), one.leaf):
                    words, value = said, meant
                    break
        if words is before:
            return None
        return " ".join(words), json.dumps(value, ensure_ascii=False, separators=told.separators)


def _phrases(words: Sequence[str]) -> Iterator[tuple[int, str]]:
    for length in range(1, min(LONGEST, len(words)) + 1):
        for start in range(len(words) - length + 1):
            yield start, " ".join(words[start : start + length])


@dataclass(frozen=True)
class _Told:
    """A JSON object, and how its text is spaced."""

    value: dict[str, Any]
    separators: tuple[str, str]


def _read(answer: str) -> _Told | None:
    """Read an answer; None for another text than a JSON object, or one that can't be written again as it was."""
    try:
        value = json.loads(answer)
    except ValueError:
        return None
    if not isinstance(value, dict):
        return None
    for separators in SEPARATORS:
        if json.dumps(value, ensure_ascii=False, separators=separators) == answer.strip():
            return _Told(value, separators)
    return None


def _leaves(value: dict[str, Any], above: str = "") -> Iterator[Leaf]:
    for key, inner in value.items():
        path = f"{above}/{key}"
        if isinstance(inner, dict):
            yield from _leaves(inner, path)
        elif isinstance(inner, str) and DIGITS.search(inner):
            yield from ((f"{path}#{i}", part) for i, part in enumerate(DIGITS.split(inner)) if i % 2)
        elif not isinstance(inner, list):
            yield path, json.dumps(inner, ensure_ascii=False)


def _with(value: dict[str, Any], leaf: Leaf, above: str = "") -> dict[str, Any]:
    changed: dict[str, Any] = {}
    for key, inner in value.items():
        path = f"{above}/{key}"
        if path == leaf[0]:
            changed[key] = json.loads(leaf[1])
        elif isinstance(inner, dict):
            changed[key] = _with(inner, leaf, path)
        elif leaf[0].startswith(f"{path}#"):
            parts = DIGITS.split(inner)
            parts[int(leaf[0].removeprefix(f"{path}#"))] = leaf[1]
            changed[key] = "".join(parts)
        else:
            changed[key] = inner
    return changed
