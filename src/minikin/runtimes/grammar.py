"""JSON Schemas that rule tokens out, by the LLGuidance inside llama.cpp's library; runtimes/llama_cpp asks here.

llama.cpp's own sampler for it is left alone: it forces pieces with a space in front on SentencePiece vocabularies,
and keeps a vocabulary by its address after the model is gone.
"""

from __future__ import annotations

import ctypes
import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from minikin.base.errors import MinikinError, UserError
from minikin.base.llama import MatcherInit, VocabularyInit, library
from minikin.base.types import Array
from minikin.base.writing import Decoding
from minikin.runtimes import sampling

SPECIAL: Final = b"\xff"
"""What marks a token as no part of a text; no UTF-8 begins with it."""

FOLLOWED: Final = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    "coerce_one_of": True,
}
"""How a schema is followed, unless its own `x-guidance` says otherwise: spaces as Python's json writes them (where any
number of them may stand, a small model can go on with spaces for ever), and `oneOf` as `anyOf`.
"""


class Grammars:
    """A vocabulary as LLGuidance sees it, from which grammars are made."""

    def __init__(self, pieces: Sequence[bytes], end: int) -> None:
        """`pieces` are the bytes of all tokens, special ones with `SPECIAL` in front; `end` is the id that ends."""
        self._llama = llama = library()
        self._tokenizer = None
        if llama.llg_new_tokenizer is None:
            raise MinikinError(
                "This build of llama.cpp follows no JSON Schema. Update xllamacpp, or leave the schema out."
            )
        if end < 0:
            raise UserError("This model has no token that ends a text, so a JSON Schema can't be followed.")
        self.size, self.end = len(pieces), end
        lengths_V = np.array([len(piece) for piece in pieces], np.uint32)
        raw_B = np.frombuffer(b"".join(pieces), np.uint8)
        init = VocabularyInit(vocab_size=self.size, tok_eos=end, use_approximate_greedy_tokenize_fn=True)
        init.token_lens, init.token_bytes = lengths_V.ctypes.data, raw_B.ctypes.data
        reason = ctypes.create_string_buffer(256)
        self._tokenizer = llama.llg_new_tokenizer(ctypes.byref(init), reason, len(reason))
        if not self._tokenizer:
            raise MinikinError(f"LLGuidance can't read this vocabulary: {reason.value.decode('utf-8', 'replace')}.")

    def of(self, schema: Mapping[str, Any]) -> Grammar:
        """Return the grammar of a JSON Schema. Raises UserError for one that can't be followed."""
        try:
            text = json.dumps({**schema, "x-guidance": {**FOLLOWED, **schema.get("x-guidance", {})}})
        except (TypeError, ValueError, AttributeError) as error:
            raise UserError(f"This is no JSON Schema: {error}.") from error
        init = MatcherInit()
        self._llama.llg_constraint_init_set_defaults(ctypes.byref(init), self._tokenizer)
        init.log_stderr_level = 0
        return Grammar(self, self._llama.llg_new_matcher(ctypes.byref(init), b"json_schema", text.encode()))

    def __del__(self) -> None:
        if self._tokenizer:
            self._llama.llg_free_tokenizer(self._tokenizer)
        self._tokenizer = None


class Grammar:
    """One text on its way to satisfy a schema."""

    def __init__(self, grammars: Grammars, matcher: Any) -> None:
        self._grammars, self._matcher, self._llama = grammars, matcher, library()
        self._bits = np.zeros(-(-grammars.size // 32), np.uint32)
        try:
            self._check("This JSON Schema can't be followed")
        except UserError:
            self.close()
            raise

    def choose(self, logits_V: Array, how: Decoding, rng: np.random.Generator) -> int:
        """Return the next token, which the grammar allows. Raises UserError where it allows none."""
        self._llama.llg_matcher_compute_mask_into(self._matcher, self._bits.ctypes.data, self._bits.nbytes)
        self._check("This JSON Schema can't be followed any further")
        allowed_V = np.unpackbits(self._bits.view(np.uint8), bitorder="little")[: len(logits_V)].astype(bool)
        if not allowed_V.any():
            raise UserError("No token of this model goes on to satisfy the JSON Schema. Simplify the schema.")
        token = sampling.pick(np.where(allowed_V, logits_V, -np.inf), how, rng)
        if token != self._grammars.end:
            self._llama.llg_matcher_consume_token(self._matcher, token)
            self._check("This JSON Schema can't be followed any further")
        return token

    def _check(self, what: str) -> None:
        if reason := self._llama.llg_matcher_get_error(self._matcher):
            said = reason.decode("utf-8", "replace").splitlines()[0]
            if " " not in said:  # a name inside LLGuidance
                said = f"nothing can satisfy it ({said}). See where it refers to itself without an end"
            raise UserError(f"{what}: {said}")

    def close(self) -> None:
        """Give the memory back."""
        if self._matcher:
            self._llama.llg_free_matcher(self._matcher)
        self._matcher = None

    __del__ = close
