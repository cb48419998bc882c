"""Texts in llama.cpp's memory: what runtimes/llama_cpp feeds tokens to and gets logits from."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Sequence as Many
from pathlib import Path
from typing import Any, Final

import numpy as np

from minikin.base.errors import BusyError, KinError, MinikinError
from minikin.base.llama import library
from minikin.base.types import Array
from minikin.runtimes import sampling

BATCH: Final = 512
"""Tokens of a text that are scored at once."""

BLOCK: Final = 64
"""Tokens of a prompt that are computed at once, and kept for the next prompt that begins alike. llama.cpp rounds by how
many it computes together, so only whole blocks are used again: an answer is the same whatever was asked before.
"""


class Sequences:
    """One llama.cpp context with room for several sequences; computes one batch at a time."""

    def __init__(self, model: Any, path: Path, length: int, size: int, threads: int, parallel: int) -> None:
        """Open a context of `parallel` sequences of `length` tokens, for a vocabulary of `size`.

        Raises KinError for a model that does not write, and MinikinError where llama.cpp did not open what was asked.
        """
        self.llama = llama = library()
        self.size = size
        self.turn = threading.Condition()  # reentrant: what is collected meanwhile may give its place back
        self._free = list(range(parallel))
        self._held: list[list[int]] = [[] for _ in range(parallel)]
        self._holders: dict[int, int] = {}
        asked = llama.llama_context_default_params()
        asked.n_ctx, asked.n_batch, asked.n_ubatch, asked.n_seq_max = length * parallel, BATCH, BATCH, parallel
        self.context = llama.llama_init_from_model(model, asked)
        if not self.context or not llama.llama_get_causal_attn(self.context):
            reason = "it reads in both directions, and writes nothing" if self.context else llama.complaint()
            self.close()
            raise KinError(f"{path} can't be used to write: {reason or 'llama.cpp gives no reason'}.")
        if llama.llama_n_seq_max(self.context) != parallel or llama.llama_n_ctx(self.context) < length * parallel:
            self.close()
            raise MinikinError(
                f"llama.cpp inside xllamacpp {llama.wheel.__version__} answers differently from what is known here. "
                'Install the version that minikin was tested with: pip install "minikin[gguf]"'
            )
        llama.llama_set_n_threads(self.context, threads, threads)
        self.memory = llama.llama_get_memory(self.context)

    def begin(self, prompt: Many[int] = ()) -> Sequence:
        """Begin a sequence, where most of its prompt is in memory; wait while other threads have all places.

        Raises BusyError where this thread itself has an unfinished text, which would be waited for in vain.
        """
        with self.turn:
            self._wait(lambda: bool(self._free))
            number = max(self._free, key=lambda n: _shared(prompt, self._held[n]))
            shared = _shared(prompt, self._held[number])
            if not self.llama.llama_memory_seq_rm(self.memory, number, shared, -1):
                # a model of another kind than attention takes nothing back but the whole
                self.llama.llama_memory_seq_rm(self.memory, number, -1, -1)
                shared = 0
            self._free.remove(number)
            self._holders[number] = threading.get_ident()
            return Sequence(self, number, shared)

    def _wait(self, ready: Any) -> None:
        while self.context and not ready():
            if threading.get_ident() in self._holders.values():
                raise BusyError("Another text is being written. Finish or close it first, or load with parallel=2.")
            self.turn.wait()
        if not self.context:
            raise MinikinError("This model was closed. Load it again.")

    def leave(self, number: int, prompt: list[int]) -> None:
        """Give a sequence's place to another; of the prompt, whole blocks stay."""
        with self.turn:
            if self._holders.pop(number, None) is not None:
                self._held[number] = prompt[: len(prompt) // BLOCK * BLOCK]
                self._free.append(number)
                self.turn.notify_all()

    def adapt(self, adapter: Any, scale: float) -> None:
        """Add a LoRA adapter, or none, to all that is computed from now on, once no text is being written.

        Raises BusyError as `begin` does.
        """
        with self.turn:
            self._wait(lambda: not self._holders)
            count = int(adapter is not None)
            self.llama.llama_set_adapters_lora(
                self.context, (ctypes.c_void_p * 1)(adapter), count, (ctypes.c_float * 1)(scale)
            )
            self._held = [[] for _ in self._held]

    def compute(self, tokens: Many[tuple[int, int, int]], wanted: Many[int]) -> Array:
        """Compute tokens, given as (id, place in its text, number of the sequence), and return logits (wanted, V)."""
        llama = self.llama
        batch = llama.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for i, (token, place, number) in enumerate(tokens):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, place, 1
                batch.seq_id[i][0], batch.logits[i] = number, False
            for i in wanted:
                batch.logits[i] = True
            logits_TV = np.empty((len(wanted), self.size), np.float32)
            with self.turn:
                if not self.context:
                    raise MinikinError("This model was closed. Load it again.")
                if code := llama.llama_decode(self.context, batch):
                    reason = llama.complaint()
                    raise MinikinError(f"llama.cpp could not compute {len(tokens)} tokens (code {code}): {reason}")
                for row, i in enumerate(wanted):
                    logits_TV[row] = np.ctypeslib.as_array(llama.llama_get_logits_ith(self.context, i), (self.size,))
        finally:
            llama.llama_batch_free(batch)
        return logits_TV

    def close(self) -> None:
        """Give the memory back."""
        with self.turn:
            if self.context:
                self.llama.llama_free(self.context)
            self.context = None
            self.turn.notify_all()


class Sequence:
    """One text being read and written; `reused` tokens of its prompt were in memory already."""

    def __init__(self, within: Sequences, number: int, reused: int) -> None:
        self._within, self._number, self._length, self.reused = within, number, reused, reused
        self._prompt: list[int] = []

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return self._length

    def feed(self, ids: Many[int]) -> Array:
        """Append tokens and return the logits (V,) of the next one; first of all, the prompt that it was begun with."""
        if not self._prompt:
            self._prompt, ids = list(ids), ids[self.reused :]
        logits_TV = np.empty((0, self._within.size), np.float32)
        for start in range(0, len(ids), BLOCK):
            part = ids[start : start + BLOCK]
            logits_TV = self._computed(part, [len(part) - 1] if start + BLOCK >= len(ids) else [])
        last_V: Array = logits_TV[-1]
        return last_V

    def follow(self, ids: Many[int]) -> Array:
        """Append up to a batch of tokens and return the logits (T, V) after each."""
        return self._computed(ids, range(len(ids)))

    @staticmethod
    def abreast(sequences: Many[Sequence], tokens: Many[int]) -> Array:
        """Append one token to each of several texts in one pass, and return the logits (texts, V) of the next ones."""
        batch = [(token, one._length, one._number) for one, token in zip(sequences, tokens, strict=True)]
        logits_SV = sequences[0]._within.compute(batch, range(len(batch)))
        for one in sequences:
            one._length += 1
        return logits_SV

    def back(self, length: int) -> None:
        """Forget all tokens but the first `length`. Raises MinikinError for a model that can't forget a part."""
        within = self._within
        with within.turn:
            if not within.llama.llama_memory_seq_rm(within.memory, self._number, length, -1):
                raise MinikinError("llama.cpp can't take back tokens of a model of this kind. Run it without a draft.")
        self._length = length
        del self._prompt[length:]

    def scores(self, ids: Many[int]) -> tuple[Array, Array]:
        """Append a text; of each token after the first return its natural log-probability, and whether it is likeliest.

        Both have the shape (T - 1,).
        """
        found, likeliest = [np.zeros(0)], [np.zeros(0, bool)]
        for start in range(0, len(ids), BATCH):
            following_T = np.array(ids[start + 1 : start + BATCH + 1], np.int64)
            logits_TV = self._computed(ids[start : start + BATCH], range(len(following_T)))
            found.append(sampling.logprobs(logits_TV, following_T))
            likeliest.append(logits_TV.argmax(-1) == following_T)
        return np.concatenate(found), np.concatenate(likeliest)

    def _computed(self, ids: Many[int], wanted: Many[int]) -> Array:
        """Append up to a batch of tokens and return the logits (wanted, V)."""
        tokens = [(token, self._length + i, self._number) for i, token in enumerate(ids)]
        logits_TV = self._within.compute(tokens, wanted)
        self._length += len(ids)
        return logits_TV

    def close(self) -> None:
        """Leave its place to another, and what was computed of the prompt to one that begins alike."""
        self._within.leave(self._number, self._prompt[: self._length])


def _shared(prompt: Many[int], held: list[int]) -> int:
    """How many tokens of a prompt a place holds, in whole blocks; at least one token is left to compute."""
    shared = 0
    while shared + BLOCK < len(prompt) and held[shared : shared + BLOCK] == list(prompt[shared : shared + BLOCK]):
        shared += BLOCK
    return shared
