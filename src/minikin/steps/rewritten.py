"""A decoder in PyTorch, reloaded by transformers from its own folder: the writer to compare llama.cpp with."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.utils import logging as transformers_logging

from minikin.base.errors import KinError
from minikin.base.types import Array
from minikin.feed.template import special
from minikin.package import gguf
from minikin.package.gguf_spec import BYTES, SPACE, byte_level
from minikin.package.tokenizer_section import byte_characters
from minikin.runtimes import sampling
from minikin.runtimes.grammar import SPECIAL, Grammar, Grammars
from minikin.runtimes.writing import Writer


class TorchWriter(Writer):
    """Writes as `AutoModelForCausalLM` does, from model.safetensors in float32; one text at a time."""

    name = "torch"

    def __init__(self, folder: Path, *, context: int = 0, threads: int = 1) -> None:
        """Load tokenizer and weights. `context` is in tokens (0: the model's own). Raises UserError and KinError."""
        config, settings, tokenizer_json = gguf.read(folder)
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()
        torch.set_num_threads(threads)
        try:
            self._model = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)
        except (OSError, ValueError, RuntimeError) as error:
            raise KinError(f"transformers can't load {folder}: {error}. Copy it again.") from error
        self._model.eval()
        spec = json.loads(tokenizer_json)
        self._tokenizer = Tokenizer.from_str(tokenizer_json)
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._tokenizer.encode_special_tokens = True  # as plain characters
        self._bytes = {character: byte for byte, character in enumerate(byte_characters())} if byte_level(spec) else {}
        own = int(config.get("max_position_embeddings") or config["n_positions"])
        self.context = min(context, own) if context > 0 else own
        self.specials = {token["content"]: token["id"] for token in spec["added_tokens"] if token["special"]}
        self._plain = {token["content"] for token in spec["added_tokens"] if not token["special"]}
        ends = self._model.generation_config.eos_token_id
        self.ends = frozenset(ends if isinstance(ends, list) else [] if ends is None else [ends])
        self.end = self.specials.get(special(settings, "eos_token"), min(self.ends, default=0))
        self._grammars: Grammars | None = None

    def tokens(self, text: str) -> list[int]:
        """Return the ids of a text as a prompt has them; special tokens inside the text are plain characters."""
        return list(self._tokenizer.encode(text).ids)

    def plain(self, text: str) -> list[int]:
        """Return the ids of a text without the tokens that frame it."""
        return list(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def spelled(self, token: int) -> bytes:
        """Return the bytes of a token inside a text; nothing for special ones."""
        piece = self._tokenizer.id_to_token(token)
        if piece is None or piece in self.specials:
            return b""
        if piece in self._plain or (self._bytes and not self._bytes.keys() >= set(piece)):
            return piece.encode()  # an added piece stands for itself: its spaces are spaces
        if self._bytes:
            return bytes(self._bytes[character] for character in piece)
        return bytes([int(piece[3:5], 16)]) if piece in BYTES else piece.replace(SPACE, " ").encode()

    def session(self, prompt: Sequence[int] = ()) -> Session:
        """Begin a sequence."""
        return Session(self._model)

    def constraint(self, schema: Mapping[str, Any]) -> Grammar:
        """Return the grammar of a JSON Schema. Raises UserError for one that can't be followed, and MissingExtra."""
        if self._grammars is None:
            names = {i: SPECIAL + name.encode() for name, i in self.specials.items()}
            size = int(self._model.config.vocab_size)
            pieces = [names.get(i) or self.spelled(i) for i in range(size)]
            self._grammars = Grammars(pieces, min(self.ends, default=-1))
        return self._grammars.of(schema)

    @torch.inference_mode()
    def computed(self, ids: Sequence[int]) -> tuple[Array, Array]:
        """Of each token after the first return its natural log-probability, and whether it is likeliest: (T - 1,)."""
        if len(ids) < 2:
            return np.zeros(0), np.zeros(0, bool)
        logits_TV = self._model(torch.tensor([list(ids)])).logits[0, :-1].numpy()
        following_T = np.array(ids[1:])
        return sampling.logprobs(logits_TV, following_T), logits_TV.argmax(-1) == following_T


class Session:
    """One sequence, with the keys and values of its tokens."""

    reused = 0

    def __init__(self, model: Any) -> None:
        self._model = model
        name = "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"
        self._how = {name: DynamicCache(config=model.config), "use_cache": True}  # transformers 5.24 renamed it

    @torch.inference_mode()
    def feed(self, ids: Sequence[int]) -> Array:
        """Append tokens and return the logits (V,) of the next one."""
        logits_V: Array = self._model(torch.tensor([list(ids)]), **self._how).logits[0, -1].numpy()
        return logits_V

    def close(self) -> None:
        """Forget the sequence."""
        self._how = {}
