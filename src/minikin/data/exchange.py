"""New examples out of old ones: a phrase that decides one value of a JSON answer gives way to another's.

Fragments that stand in the same surroundings may be exchanged (J. Andreas, "Good-Enough Compositional Data
Augmentation", 2020, section 3); here a fragment is a phrase of the prompt together with the leaf of the answer that it
decides, found by counting. What counting rules out is not made: *quarter past seven* may not become *quarter to seven*
with the hour left as it was. Called by `steps/generate/material.py`.
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
MISSING = 0.1
"""Share of the leaves seen with a phrase that were seen once, at most, for one never seen with it to be ruled out."""

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
        """Find which phrases decide which leaf, what is seen with either, and which words follow each other."""
        phrases: Counter[str] = Counter()
        often: Counter[Leaf] = Counter()
        self._with_phrase, self._with_leaf = _Company(), _Company()
        self._neighbours: set[tuple[str, str]] = set()
        for words, leaves in examples:
            often.update(leaves)
            phrases.update({phrase for _, phrase in _phrases(words)})
            self._neighbours.update(zip(["", *words], [*words, ""], strict=True))
        for words, leaves in examples:
            for phrase in {phrase for _, phrase in _phrases(words) if phrases[phrase] >= SEEN}:
                self._with_phrase.note(phrase, leaves)
            for leaf in leaves:
                self._with_leaf.note(leaf, leaves)
        self._decides: defaultdict[str, set[Leaf]] = defaultdict(set)
        for phrase, leaf, n in self._with_phrase:
            share = n / phrases[phrase]
            if share >= SURE and share > LIFT * often[leaf] / len(examples):
                self._decides[phrase].add(leaf)
        self._shortest = {
            phrase: [leaf for leaf in sorted(decided) if self._is_shortest(phrase, leaf)]
            for phrase, decided in sorted(self._decides.items())
        }
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
        """Whether two leaves may stand in one answer: the new one beside the other's path, and neither rules out the
        other.

        Parts of one value, such as hour and minute, rule out nothing.
        """
        if not self._with_leaf.has(new, other[0]):
            return False
        parts = new[0].partition("#")[0] == other[0].partition("#")[0]
        return parts or not (self._with_leaf.rules_out(other, new) or self._with_leaf.rules_out(new, other))

    def _fits(self, words: list[str], start: int, length: int, phrase: str) -> bool:
        """Whether the words before and after were seen next to the new phrase's ends."""
        inner, end = phrase.split(), start + length
        before = words[start - 1] if start else ""
        after = words[end] if end < len(words) else ""
        return (before, inner[0]) in self._neighbours and (inner[-1], after) in self._neighbours

    def _agree(self, before: set[Leaf], said: list[str], leaves: frozenset[Leaf], new: Leaf) -> bool:
        """Whether the new words decide nothing else than the answer has, and still what was decided `before` of it, and
        none of them rules out what it has."""
        now = self._decided(said)
        if not (now <= leaves and (before & leaves) - {new} <= now):
            return False
        return not any(self._with_phrase.rules_out(phrase, leaf) for _, phrase in _phrases(said) for leaf in leaves)

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


class _Company:
    """Which leaves were seen with a phrase, or beside another leaf, path by path, and how often."""

    def __init__(self) -> None:
        self._seen: dict[str | Leaf, defaultdict[str, Counter[Leaf]]] = {}

    def note(self, key: str | Leaf, leaves: frozenset[Leaf]) -> None:
        """Count the leaves of an example that has the key."""
        by_path = self._seen.setdefault(key, defaultdict(Counter))
        for leaf in leaves:
            by_path[leaf[0]][leaf] += 1

    def __iter__(self) -> Iterator[tuple[Any, Leaf, int]]:
        for key, by_path in self._seen.items():
            yield from ((key, leaf, n) for counts in by_path.values() for leaf, n in counts.items())

    def has(self, key: str | Leaf, path: str) -> bool:
        """Whether any leaf of this path was seen with the key."""
        return key in self._seen and path in self._seen[key]

    def rules_out(self, key: str | Leaf, leaf: Leaf) -> bool:
        """Whether the leaf was never seen with the key and others of its path were: `SEEN` times each, hardly any once.

        The probability of all that is unseen is about the share of what was seen once (I. J. Good, "The Population
        Frequencies of Species and the Estimation of Population Parameters", 1953, equation 9).
        """
        counts = self._seen[key].get(leaf[0]) if key in self._seen else None
        if not counts or leaf in counts:
            return False
        total, once = counts.total(), sum(n == 1 for n in counts.values())
        return total >= SEEN * len(counts) and once <= MISSING * total


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
