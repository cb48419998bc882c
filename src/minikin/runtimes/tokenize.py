"""From raw text to token ids: WordPiece of plain ASCII in a few microseconds, everything else by `tokenizers`.

The `tokenizers` package is only imported when a text needs it, which keeps the first answer early.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from minikin.base.errors import KinError, UserError
from minikin.base.framing import framing_ids
from minikin.base.joined import readable
from minikin.base.types import Text

WORDS: Final = re.compile(r"[A-Za-z0-9]+|[^A-Za-z0-9\s]")
CONTROLS: Final = {i: None for i in (*range(32), 127)} | {9: " ", 10: " ", 13: " "}
CACHED_WORDS: Final = 1 << 16
CHARACTERS_PER_TOKEN: Final = 40
"""Text beyond this many characters per allowed token is cut before tokenizing, so that huge texts stay quick."""

WHOLE: Final = 1 << 30
"""A limit that no text reaches: of a pair, the longer text is cut first, so both lengths must be known."""

Ids = list[int]


class Tokenizer:
    """A tokenizer.json, as ids without special tokens; safe to share between threads."""

    def __init__(self, path: Path, max_length: int) -> None:
        """Read the file. Raises KinError when it is no tokenizer."""
        try:
            self._json = path.read_text(encoding="utf-8")
            spec: dict[str, Any] = json.loads(self._json)
            self.max_length = max_length
            self.cls_id, self.sep_id = framing_ids(spec)
            self._fast = _is_plain_wordpiece(spec)
            self._vocabulary: Mapping[str, int] = spec["model"]["vocab"] if self._fast else {}
            self._unknown = self._vocabulary.get(spec["model"].get("unk_token") or "", 0)
            self._longest = int(spec["model"].get("max_input_chars_per_word") or 100)
            self._reserved = tuple(str(token["content"]) for token in spec.get("added_tokens") or ())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
            raise KinError(f"{path} is no tokenizer: {error!r}. Copy the kin again, or build it again.") from error
        self._bracketed = all(content.startswith("[") for content in self._reserved)
        self._lower = bool((spec.get("normalizer") or {}).get("lowercase", False))
        self._words: dict[str, tuple[int, ...]] = {}
        self._full: Any = None

    def pair_ids(self, first: str, second: str, limit: int) -> tuple[Ids, Ids, bool]:
        """Return the ids of two texts, cut to `limit` tokens together, and whether something was cut."""
        a, a_cut = self.ids(first, WHOLE)
        b, b_cut = self.ids(second, WHOLE)
        cut = a_cut or b_cut or len(a) + len(b) > limit
        return *truncate_pair(a, b, limit), cut

    def ids(self, text: str, limit: int) -> tuple[Ids, bool]:
        """Return ids of at most `limit` tokens, and whether the text had more."""
        most = CHARACTERS_PER_TOKEN * (self.max_length + 16)
        found = self._ids(text[:most], limit)
        return found[:limit], len(found) > limit or len(text) > most

    def _ids(self, text: str, limit: int) -> Ids:
        """All ids of a text, or the first ones and at least one above the limit."""
        if not (self._fast and text.isascii()) or self._holds_reserved(text):
            return self._slow_ids(text)
        if not text.isprintable():
            text = text.translate(CONTROLS)
        if self._lower:
            text = text.lower()
        found: Ids = []
        words = self._words
        for word in WORDS.findall(text):
            pieces = words.get(word)
            found += self._pieces(word) if pieces is None else pieces
            if len(found) > limit:
                break
        return found

    def _holds_reserved(self, text: str) -> bool:
        """Whether a special token is spelt out in the text; `tokenizers` turns it into its id."""
        if self._bracketed and "[" not in text:
            return False
        return any(content in text for content in self._reserved)

    def _pieces(self, word: str) -> tuple[int, ...]:
        """Cut one word greedily into its longest pieces, as BERT's WordPiece does; remember it."""
        pieces: Ids = []
        start, end = 0, len(word)
        while start < end <= self._longest:
            stop = end
            while stop > start and (piece := ("##" if start else "") + word[start:stop]) not in self._vocabulary:
                stop -= 1
            if stop == start:
                break
            pieces.append(self._vocabulary[piece])
            start = stop
        result = tuple(pieces) if start == end else (self._unknown,)
        if len(self._words) >= CACHED_WORDS:
            self._words.clear()
        if end <= self._longest:
            self._words[word] = result
        return result

    def _slow_ids(self, text: str) -> Ids:
        if self._full is None:
            from tokenizers import Tokenizer as Full

            full = Full.from_str(self._json)
            full.no_padding()
            full.no_truncation()
            self._full = full
        found: Ids = self._full.encode(readable(text), add_special_tokens=False).ids
        return found


def truncate_pair(first: Ids, second: Ids, limit: int) -> tuple[Ids, Ids]:
    """Cut the longer of two texts first until both fit into `limit`, as `tokenizers`' longest_first does."""
    if len(first) + len(second) <= limit:
        return first, second
    short, long = sorted((len(first), len(second)))
    long = max(short, limit - short) if short <= limit else short
    if short + long > limit:
        short = limit // 2
        long = short + limit % 2
    if len(first) > len(second):
        return first[:long], second[:short]
    return first[:short], second[:long]


def checked(text: Text, pair: bool) -> tuple[str, ...]:
    """Return the text as one or two strings. Raises UserError for anything else."""
    if not pair:
        if isinstance(text, str):
            return (text,)
        raise UserError(f"This kin answers to one text; it was given {_kind(text)}. Give a string.")
    if isinstance(text, (tuple, list)) and len(text) == 2 and all(isinstance(part, str) for part in text):
        return (text[0], text[1])
    raise UserError(f"This kin answers to a pair of texts; it was given {_kind(text)}. Give a tuple of two strings.")


def _kind(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return f"a {type(value).__name__}"


def _is_plain_wordpiece(spec: Mapping[str, Any]) -> bool:
    """Whether ASCII text is cut exactly as BERT's own tokenizer does."""
    model, normalizer = spec["model"], spec.get("normalizer") or {}
    return bool(
        len(model["vocab"])
        and model.get("type") == "WordPiece"
        and model.get("continuing_subword_prefix") == "##"
        and model.get("unk_token") in model["vocab"]
        and normalizer.get("type") == "BertNormalizer"
        and normalizer.get("clean_text", False)
        and (spec.get("pre_tokenizer") or {}).get("type") == "BertPreTokenizer"
        and all(token.get("special") for token in spec.get("added_tokens") or ())
    )
