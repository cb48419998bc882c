"""From prompts, chats and texts to token ids, with the tokens that are learnt: answers, and where they end.

A token of an answer is exactly one that the model would have to write after the prompt as it will be given it:
prompt and answer are cut into tokens apart. Names of special tokens inside people's text are read as plain text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from tokenizers import Tokenizer

from minikin.base.errors import UserError
from minikin.base.types import Array
from minikin.feed.template import Piece, TemplateError, pieces, render, special

ANSWER: Final = "assistant"


@dataclass(frozen=True)
class Spoken:
    """One document as tokens: `ids_T`, which of them are learnt, and whether its text named a special token."""

    ids_T: Array  # int32
    learnt_T: Array  # bool
    escaped: bool = False


@dataclass(frozen=True)
class _Run:
    """A stretch between special tokens: its text, whether it is learnt, and which tokenizer reads it."""

    text: str
    learnt: bool
    place: str


class Speaker:
    """A tokenizer with its chat template: turns examples into tokens, many at once."""

    def __init__(self, tokenizer_json: str, tokenizer_config: Mapping[str, Any]) -> None:
        self.config = dict(tokenizer_config)
        spec = json.loads(tokenizer_json)
        self._whole = _plain(spec, special_as_text=False)
        # a stretch is read as it would be in the whole: only the first one may get a word mark put before it
        self._readers = {
            "first": _plain(spec, special_as_text=True),
            "after": _plain(_without_prefix(spec, normalizer=False), special_as_text=True),
            "inside": _plain(_without_prefix(spec, normalizer=True), special_as_text=True),
        }
        added = [token for token in spec.get("added_tokens", []) if token.get("special")]
        self._ids = {token["content"]: int(token["id"]) for token in added}
        self._strips = {t["content"]: (bool(t.get("lstrip")), bool(t.get("rstrip"))) for t in added}
        names = sorted(self._ids, key=len, reverse=True)
        self._special = re.compile("(" + "|".join(map(re.escape, names)) + ")" if names else "(?!)")
        end = special(self.config, "eos_token")
        if end and end not in self._ids:
            raise UserError(
                f"The tokenizer's settings name '{end}' as the end of a text, and tokenizer.json holds no such "
                "special token. Save the tokenizer again, or name another eos_token."
            )
        self._end = self._ids.get(end)
        self._frame = self._whole.encode("").ids

    @property
    def ends(self) -> frozenset[int]:
        """Ids that end a text."""
        return frozenset() if self._end is None else frozenset({self._end})

    def chats(self, chats: Sequence[Sequence[Mapping[str, str]]]) -> list[Spoken]:
        """Tokens of whole chats; learnt are the answers, and the special token that ends each.

        Raises TemplateError when the chat template can't write one of them.
        """
        return self._spoken([list(self._cut(pieces(self.config, chat), chat)) for chat in chats], close=True)

    def prompt(self, messages: Sequence[Mapping[str, str]]) -> Array:
        """Tokens (T,) of messages up to where the next answer begins, as `chats` puts them before an answer."""
        shown = pieces(self.config, messages)
        whole = "".join(piece.text for piece in shown)
        opened = render(self.config, messages, prompting=True)
        if not opened.startswith(whole):
            raise TemplateError("the chat template writes a prompt otherwise than a whole chat")
        tail = opened[len(whole) :]
        return self._spoken([list(self._cut([*shown, Piece(tail, -1)], messages))], close=False)[0].ids_T

    def texts(self, texts: Sequence[str]) -> list[Spoken]:
        """Tokens of raw documents between the marks of begin and end that the tokenizer has; all are learnt."""
        begin = self._frame[:1] if self._frame and self._frame[0] != self._end else []
        found = []
        for text, spoken in zip(
            texts, self._spoken([[_Run(text, True, "first")] for text in texts], close=False), strict=True
        ):
            end = [] if self._end is None else [self._end]
            ids_T = np.concatenate([begin, spoken.ids_T, end]).astype(np.int32)
            learnt_T = np.arange(len(ids_T)) > 0
            found.append(Spoken(ids_T, learnt_T, bool(self._special.search(text))))
        return found

    def _cut(self, shown: Sequence[Piece], chat: Sequence[Mapping[str, str]]) -> Iterator[_Run | int | None]:
        """Yield runs of text and ids of special tokens (negative: learnt); None: the text names a special token."""
        place, text, strip, ending = "first", "", False, False
        for piece in shown:
            mine = piece.message >= 0
            if mine and chat[piece.message]["role"] == ANSWER:
                yield _Run(text, False, place)
                yield _Run(piece.text, True, "inside" if text else place)
                place, text, ending = "inside", "", True
                if self._special.search(piece.text):
                    yield None
                continue
            for part in [piece.text] if mine else self._special.split(piece.text):
                if mine or part not in self._ids:
                    text += part.lstrip() if strip and not text else part
                    ending = ending and not part.strip()
                    continue
                before, strip = self._strips[part]
                yield _Run(text.rstrip() if before else text, ending, place)
                yield -1 - self._ids[part] if ending else self._ids[part]
                place, text, ending = "after", "", False
            if mine and self._special.search(piece.text):
                yield None
        yield _Run(text, False, place)

    def _spoken(self, cut: Sequence[Sequence[_Run | int | None]], *, close: bool) -> list[Spoken]:
        """Tokenize all runs, those of one kind together, and put each document together."""
        runs = [run for parts in cut for run in parts if isinstance(run, _Run)]
        read: dict[int, list[int]] = {}
        for place, reader in self._readers.items():
            mine = [run for run in runs if run.place == place and run.text]
            for run, encoding in zip(
                mine, reader.encode_batch_fast([_clean(r.text) for r in mine], add_special_tokens=False), strict=True
            ):
                read[id(run)] = encoding.ids
        return [self._joined(parts, read, close) for parts in cut]

    def _joined(self, parts: Sequence[_Run | int | None], read: Mapping[int, list[int]], close: bool) -> Spoken:
        ids: list[int] = []
        learnt: list[bool] = []
        for part in parts:
            if isinstance(part, _Run):
                tokens = read.get(id(part), [])
                ids += tokens
                learnt += [part.learnt] * len(tokens)
            elif part is not None:
                ids.append(part if part >= 0 else -1 - part)
                learnt.append(part < 0)
        if close and self._end is not None and learnt and learnt[-1] and ids[-1] not in self._ids.values():
            ids.append(self._end)
            learnt.append(True)
        learnt[:1] = [False] * len(learnt[:1])
        return Spoken(np.array(ids, np.int32), np.array(learnt, bool), None in parts)


def _plain(spec: Mapping[str, Any], *, special_as_text: bool) -> Tokenizer:
    tokenizer = Tokenizer.from_str(json.dumps(spec))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = special_as_text
    return tokenizer


def _without_prefix(spec: Mapping[str, Any], *, normalizer: bool) -> dict[str, Any]:
    """The tokenizer for a stretch that does not begin a text: no word mark or space is put before it.

    `normalizer` says to leave out one that the normaliser puts, too, which does so after every special token.
    """

    def changed(part: Any) -> Any:
        if isinstance(part, list):
            kept = [entry for entry in part if not (normalizer and _prepends(entry))]
            return [changed(entry) for entry in kept]
        if not isinstance(part, dict):
            return part
        new = {key: changed(value) for key, value in part.items()}
        if new.get("type") == "Metaspace" and (normalizer or new.get("prepend_scheme") == "first"):
            new["prepend_scheme"] = "never"
        if new.get("type") == "ByteLevel" and normalizer and "add_prefix_space" in new:
            new["add_prefix_space"] = False
        return new

    new = dict(spec)
    for key in ("normalizer", "pre_tokenizer"):
        part = spec.get(key)
        new[key] = None if normalizer and _prepends(part) else changed(part)
    return new


def _prepends(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") == "Prepend"


def _clean(text: str) -> str:
    """Replace lone surrogates, which no tokenizer can read."""
    return text.encode("utf-8", "replace").decode("utf-8")
