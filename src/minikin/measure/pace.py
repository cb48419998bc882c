"""How fast something writes here: prefill and decode tokens a second and the time to the first token, in turns."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minikin.base.writing import Decoding, Generator, Timing

FIRST_TOKENS = 4
"""Prompts that are read in each turn only until their first token, beside the one that is written on from."""


@dataclass(frozen=True)
class Pace:
    """What every turn took: one completion, and several first tokens."""

    completions: tuple[Timing, ...]
    first_token_ms_N: tuple[float, ...]

    @property
    def prefill_tokens_per_s(self) -> float:
        """Tokens of a prompt read in a second, median of the turns."""
        return statistics.median(t.prefill_tokens_per_s for t in self.completions)

    @property
    def decode_tokens_per_s(self) -> float:
        """Tokens written in a second after the first, median of the turns."""
        return statistics.median(t.decode_tokens_per_s for t in self.completions)

    def summary(self) -> dict[str, Any]:
        """Plain values for tables and JSON."""
        p50, p95 = np.percentile(self.first_token_ms_N, [50, 95])
        return {
            "prefill_tokens_per_s": self.prefill_tokens_per_s,
            "decode_tokens_per_s": self.decode_tokens_per_s,
            "first_token_ms_p50": float(p50),
            "first_token_ms_p95": float(p95),
        }

    def times_as_fast_as(self, other: Pace) -> float:
        """Median over the turns of the other's decode time a token divided by this one's."""
        pairs = zip(self.completions, other.completions, strict=True)
        return statistics.median(ours.decode_tokens_per_s / theirs.decode_tokens_per_s for ours, theirs in pairs)


def in_turns(
    generators: Mapping[str, Generator], ids: Sequence[int], new: int, *, rounds: int = 5, seconds: float = 60.0
) -> dict[str, Pace]:
    """Let each generator read `ids` and write `new` tokens, by turns, `rounds` times or until `seconds` are used up.

    No end of a text ends it, so that all write equally much. Every prompt begins elsewhere in `ids`, so that nothing
    kept from an earlier one can be used again. The first turn, in which memory is laid out, is not counted.
    """
    found: dict[str, tuple[list[Timing], list[float]]] = {name: ([], []) for name in generators}
    until = time.perf_counter() + seconds
    for turn in range(rounds + 1):
        for name, generator in generators.items():
            timings = [_one(generator, ids, 7 * turn + i, 1) for i in range(FIRST_TOKENS)]
            whole = _one(generator, ids, 7 * turn + FIRST_TOKENS, new)
            if turn:
                found[name][0].append(whole)
                found[name][1].extend(1e3 * t.prefill_s for t in (*timings, whole))
        if turn and time.perf_counter() > until:
            break
    return {name: Pace(tuple(whole), tuple(first)) for name, (whole, first) in found.items()}


def _one(generator: Any, ids: Sequence[int], shift: int, new: int) -> Timing:
    shift %= len(ids)
    ends, generator.ends = generator.ends, frozenset()
    try:
        timing: Timing = generator.complete([*ids[shift:], *ids[:shift]], Decoding(max_tokens=new))[0].timing
    finally:
        generator.ends = ends
    return timing
