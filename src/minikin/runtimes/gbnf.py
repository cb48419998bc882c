"""Grammars in GBNF that rule tokens out, by llama.cpp's own sampler for them; runtimes/llama_cpp asks here."""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Iterator, Sequence, Set
from contextlib import contextmanager
from typing import Any

import numpy as np

from minikin.base.errors import UserError
from minikin.base.llama import Candidates, library
from minikin.base.types import Array
from minikin.base.writing import Decoding
from minikin.runtimes import sampling

CANDIDATE = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Gbnf:
    """One text on its way to satisfy a grammar."""

    def __init__(self, vocab: Any, source: str, size: int, ends: Set[int], silent: Sequence[int]) -> None:
        """`size` counts the tokens; those of `ends` end a text, those of `silent` are no part of one.

        Raises UserError for a grammar that can't be followed, with llama.cpp's reason.
        """
        self._llama, self._ends = library(), ends
        self._sampler = None
        if "\0" in source or not source.strip():
            raise UserError("The grammar is empty or holds a NUL. Write rules in GBNF, such as: root ::= [a-z]+")
        self._llama.complaint()
        with _said() as said:
            self._sampler = self._llama.llama_sampler_init_grammar(vocab, source.encode("utf-8", "replace"), b"root")
        complaint = self._llama.complaint()
        if not self._sampler:
            reason = said[0].partition("grammar: ")[2] if said else complaint
            raise UserError(f"The grammar can't be followed: {reason or complaint}.")
        self._candidates_V = np.zeros(size, CANDIDATE)
        self._candidates_V["id"] = np.arange(size)
        self._silent = np.array(silent, int)

    def choose(self, logits_V: Array, how: Decoding, rng: np.random.Generator) -> int:
        """Return the next token, which the grammar allows. Raises UserError where it allows none."""
        self._candidates_V["logit"] = logits_V
        asked = Candidates(self._candidates_V.ctypes.data, len(self._candidates_V), -1, False)
        self._llama.llama_sampler_apply(self._sampler, ctypes.byref(asked))
        allowed_V = self._candidates_V["logit"].copy()
        allowed_V[self._silent] = -np.inf
        if not np.isfinite(allowed_V).any():
            raise UserError("No token of this model goes on to follow the grammar. Simplify it.")
        token = sampling.pick(allowed_V, how, rng)
        if token not in self._ends:
            self._llama.llama_sampler_accept(self._sampler, token)
        return token

    def close(self) -> None:
        """Give the memory back."""
        if self._sampler:
            self._llama.llama_sampler_free(self._sampler)
        self._sampler = None

    __del__ = close


@contextmanager
def _said() -> Iterator[list[str]]:
    """Catch the lines that C code writes to standard error: where a grammar is wrong, llama.cpp says nowhere else."""
    lines: list[str] = []
    try:
        before = os.dup(2)
    except OSError:  # there is no standard error
        yield lines
        return
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            yield lines
        finally:
            os.dup2(before, 2)
            os.close(before)
            said.seek(0)
            lines += said.read().decode("utf-8", "replace").splitlines()
