"""Texts in llama.cpp's memory: what runtimes/llama_cpp feeds tokens to and gets logits from."""

from __future__ import annotations

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
"""Tokens of a prompt that are computed at once."""


class Sequences:
    """One llama.cpp context with room for several sequences; computes one batch at a time."""

    def __init__(self, model: Any, path: Path, length: int, size: int, threads: int, parallel: int) -> None:
        """Open a context of `parallel` sequences of `length` tokens, for a vocabulary of `size`.

        Raises KinError for a model that does not write, and MinikinError where llama.cpp did not open what was asked.
        """
        self.llama = llama = library()
        self.size, self.lock = size, threading.Lock()
        self._free = list(range(parallel))
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

    def begin(self) -> Sequence:
        """Begin a sequence. Raises BusyError when there is no room for one more."""
        with self.lock:
            if not self._free:
                raise BusyError("Another text is being written. Finish or close it first, or load with parallel=2.")
            return Sequence(self, self._free.pop())

    def forget(self, number: int) -> None:
        """Give a sequence's place to another."""
        with self.lock:
            if self.context and number not in self._free:
                self.llama.llama_memory_seq_rm(self.memory, number, -1, -1)
                self._free.append(number)

    def close(self) -> None:
        """Give the memory back."""
        if self.context:
            self.llama.llama_free(self.context)
        self.context = None


class Sequence:
    """One text being read and written."""

    def __init__(self, within: Sequences, number: int) -> None:
        self._within, self._number, self._length = within, number, 0

    @property
    def length(self) -> int:
        """How many tokens it holds."""
        return self._length

    def feed(self, ids: Many[int]) -> Array:
        """Append tokens and return the logits (V,) of the next one."""
        logits_TV = np.empty((0, self._within.size), np.float32)
        for start in range(0, len(ids), BATCH):
            part = ids[start : start + BATCH]
            logits_TV = self._computed(part, [len(part) - 1] if start + BATCH >= len(ids) else [])
        last_V: Array = logits_TV[-1]
        return last_V

    def follow(self, ids: Many[int]) -> Array:
        """Append up to a batch of tokens and return the logits (T, V) after each."""
        return self._computed(ids, range(len(ids)))

    def back(self, length: int) -> None:
        """Forget all tokens but the first `length`. Raises MinikinError for a model that can't forget a part."""
        within = self._within
        with within.lock:
            if not within.llama.llama_memory_seq_rm(within.memory, self._number, length, -1):
                raise MinikinError("llama.cpp can't take back tokens of a model of this kind. Run it without a draft.")
        self._length = length

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
        within, llama = self._within, self._within.llama
        if not within.context:
            raise MinikinError("This model was closed. Load it again.")
        batch = llama.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for i, token in enumerate(ids):
                batch.token[i], batch.pos[i], batch.n_seq_id[i] = token, self._length + i, 1
                batch.seq_id[i][0], batch.logits[i] = self._number, False
            for i in wanted:
                batch.logits[i] = True
            logits_TV = np.empty((len(wanted), within.size), np.float32)
            with within.lock:
                if code := llama.llama_decode(within.context, batch):
                    reason = llama.complaint()
                    raise MinikinError(f"llama.cpp could not compute {len(ids)} tokens (code {code}): {reason}")
                for row, i in enumerate(wanted):
                    logits_TV[row] = np.ctypeslib.as_array(
                        llama.llama_get_logits_ith(within.context, i), (within.size,)
                    )
        finally:
            llama.llama_batch_free(batch)
        self._length += len(ids)
        return logits_TV

    def close(self) -> None:
        """Forget the text, and leave its place to another."""
        self._within.forget(self._number)
