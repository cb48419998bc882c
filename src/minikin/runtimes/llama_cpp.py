"""GGUF files run by llama.cpp, inside the process and without a server: nothing listens and nothing is sent."""

from __future__ import annotations

import ctypes
import math
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from collections.abc import Sequence as Many
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from minikin.base.errors import KinError, MinikinError, UserError
from minikin.base.joined import readable
from minikin.base.llama import library
from minikin.base.types import Array
from minikin.runtimes.gbnf import Gbnf
from minikin.runtimes.grammar import SPECIAL, Grammar, Grammars
from minikin.runtimes.llama_sequences import BATCH, Sequence, Sequences
from minikin.runtimes.writing import Writer

PIECE_BYTES: Final = 256


class LlamaCpp(Writer):
    """Writes with the model of one GGUF file; safe to call from several threads, up to `parallel` at a time.

    Further threads wait for their turn. A prompt that begins as one before is computed only from where it differs, in
    blocks (see llama_sequences).
    """

    name = "llama.cpp"
    _model: Any = None
    _sequences: Sequences | None = None

    def __init__(self, path: Path, *, context: int = 0, threads: int = 1, parallel: int = 1) -> None:
        """Load the file. `context` is in tokens (0: the model's own).

        Raises KinError for a file that is no GGUF, is cut short, or is not of a model that writes, and MissingExtra.
        """
        self._llama = llama = library()
        if not path.is_file():
            raise KinError(f"There is no file {path}. Package the kin again, or give the path of a GGUF file.")
        llama.complaint()
        self._model = llama.llama_model_load_from_file(str(path).encode(), llama.llama_model_default_params())
        if not self._model:
            raise KinError(f"llama.cpp can't load {path}: {llama.complaint() or 'it gives no reason'}. Copy it again.")
        vocab = self._vocab
        self._size = llama.llama_vocab_n_tokens(vocab)
        own = llama.llama_model_n_ctx_train(self._model)
        self.context = min(context, own) if context > 0 else own
        self._sequences = Sequences(self._model, path, self.context, self._size, threads, parallel)
        self.ends = frozenset(i for i in range(self._size) if llama.llama_vocab_is_eog(vocab, i))
        control = [i for i in range(self._size) if llama.llama_vocab_is_control(vocab, i)]
        self.specials = {self._text(i): i for i in control}
        end = llama.llama_vocab_eos(vocab)
        self.end = end if end in control else min(self.ends, default=0)
        self._lock = threading.Lock()
        self._grammars: Grammars | None = None
        self._silent: list[int] | None = None
        self._adapters: dict[tuple[str, int], Any] = {}
        self._one_space = self.metadata("minikin.one_space") == "true"
        self._unigram = self.metadata("tokenizer.ggml.model") == "t5"
        self._nfc = self.metadata("minikin.normalizer") == "NFC"

    @property
    def _vocab(self) -> Any:
        return self._llama.llama_model_get_vocab(self._opened())

    def _opened(self) -> Any:
        """Return the model. Raises MinikinError where it was closed: llama.cpp itself would crash."""
        if not self._model:
            raise MinikinError("This model was closed. Load it again.")
        return self._model

    def metadata(self, key: str) -> str:
        """Return a value of the file's metadata as text, or nothing."""
        buffer = ctypes.create_string_buffer(1 << 12)
        length = self._llama.llama_model_meta_val_str(self._opened(), key.encode(), buffer, len(buffer))
        return buffer.value.decode("utf-8", "replace") if length >= 0 else ""

    def tokens(self, text: str) -> list[int]:
        """Return the ids of a text as a prompt has them; special tokens inside the text are plain characters."""
        return self._tokens(text, framed=True)

    def plain(self, text: str) -> list[int]:
        """Return the ids of a text without the tokens that frame it."""
        return self._tokens(text, framed=False)

    def _tokens(self, text: str, framed: bool) -> list[int]:
        if self._nfc:
            text = unicodedata.normalize("NFC", text)
        if self._one_space:  # llama.cpp puts one more before it: SentencePiece's BPE always, Unigram before a word
            text = text.replace("▁", " ")
            text = text.removeprefix(" ") if text.strip(" ") or not self._unigram else text
        raw = readable(text).encode()
        ids = (ctypes.c_int32 * (len(raw) + 2))()
        count = self._llama.llama_tokenize(self._vocab, raw, len(raw), ids, len(ids), framed, False)
        if count < 0:
            raise MinikinError(f"llama.cpp made {-count} tokens of {len(raw)} bytes, which no tokenizer should.")
        return list(ids[:count])

    def spelled(self, token: int) -> bytes:
        """Return the bytes of a token inside a text; nothing for special ones."""
        size = PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._llama.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def session(self, prompt: Many[int] = ()) -> Sequence:
        """Begin a sequence, or wait until there is room for one. Raises BusyError where this thread has the room."""
        self._opened()
        assert self._sequences is not None
        return self._sequences.begin(prompt)

    def step(self, asked: Many[tuple[Any, Many[int]]]) -> Many[Array]:
        """Append tokens to each of several sequences, and return the logits (V,) of the next one of each.

        Prompts are computed apart, single tokens in one pass.
        """
        found = {i: session.feed(ids) for i, (session, ids) in enumerate(asked) if len(ids) != 1 or not session.length}
        if rest := [i for i in range(len(asked)) if i not in found]:
            logits_SV = Sequence.abreast([asked[i][0] for i in rest], [asked[i][1][0] for i in rest])
            found |= dict(zip(rest, logits_SV, strict=True))
        return [found[i] for i in range(len(asked))]

    def adapt(self, path: Path | None, scale: float = 1.0) -> None:
        """Write with the LoRA adapter of a GGUF file, `scale` times, from now on; None: as the model was loaded.

        Waits until no other thread writes. Raises UserError for a file that is no adapter of this model, and BusyError
        where this thread has an unfinished text.
        """
        model = self._opened()
        assert self._sequences is not None
        handle = None
        if path is not None:
            if not math.isfinite(scale):
                raise UserError(f"The scale of an adapter is {scale}. Give a number, such as 1.")
            if not path.is_file():
                raise UserError(f"There is no adapter {path}. Check the path.")
            key = (str(path.resolve()), path.stat().st_mtime_ns)
            if key not in self._adapters:  # llama.cpp keeps them as long as the model
                self._llama.complaint()
                self._adapters[key] = self._llama.llama_adapter_lora_init(model, str(path).encode())
            handle = self._adapters[key]
            if not handle:
                reason = self._llama.complaint() or "it gives no reason"
                del self._adapters[key]
                raise UserError(f"llama.cpp can't use {path} as an adapter of this model: {reason}.")
        self._sequences.adapt(handle, scale)

    def grammar(self, source: str) -> Gbnf:
        """Return a grammar in GBNF. Raises UserError for one that can't be followed."""
        with self._lock:
            if self._silent is None:
                self._silent = [i for i in range(self._size) if i not in self.ends and not self.spelled(i)]
        return Gbnf(self._vocab, source, self._size, self.ends, self._silent)

    def constraint(self, schema: Mapping[str, Any]) -> Grammar:
        """Return the grammar of a JSON Schema. Raises UserError for one that can't be followed."""
        with self._lock:
            if self._grammars is None:
                end = min(self.ends, default=-1)
                self._grammars = Grammars(self.pieces(), end)
        return self._grammars.of(schema)

    def _text(self, token: int) -> str:
        return str(self._llama.llama_vocab_get_text(self._vocab, token).decode("utf-8", "replace"))

    def pieces(self) -> list[bytes]:
        """Return the bytes of all tokens, those of special ones with `SPECIAL` in front."""
        special = set(self.specials.values())
        return [SPECIAL + self._text(i).encode() if i in special else self.spelled(i) for i in range(self._size)]

    def computed(self, ids: Many[int]) -> tuple[Array, Array]:
        """Of each token after the first return its natural log-probability, and whether it is likeliest: (T - 1,)."""
        session = LlamaCpp.session(self)
        try:
            return session.scores(ids)
        finally:
            session.close()

    def distributions(self, ids: Many[int]) -> Iterator[Array]:
        """Read a text, and yield the logits (T, V) after each of its tokens, a batch of tokens at a time."""
        session = LlamaCpp.session(self)
        try:
            for start in range(0, len(ids), BATCH):
                yield session.follow(ids[start : start + BATCH])
        finally:
            session.close()

    def close(self) -> None:
        """Give the memory back."""
        if self._sequences:
            self._sequences.close()
        if self._model:
            self._llama.llama_model_free(self._model)
        self._model = self._sequences = None

    __del__ = close

    def __enter__(self) -> LlamaCpp:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()
