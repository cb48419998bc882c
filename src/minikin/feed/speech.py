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
from minikin.base.joined import readable
from minikin.base.types import Array
from minikin.feed.template import Piece, TemplateError, pieces, render, special

ANSWER: Final = "assistant"
ANSWER_BITS: Final = 24


@dataclass(frozen=True)
class Spoken:
    """One document as tokens: `ids_T`, which of them are learnt, and whether its text named a special token.

    `places_T`, where they were asked for, say where in the answers each learnt token begins, the same for every
    tokenizer and chat template: answer · 2²⁴ + characters from the answer's first visible one. -1 for a token that is
    not learnt, or that begins inside a character.
    """

    ids_T: Array  # int32
    learnt_T: Array  # bool
    escaped: bool = False
    places_T: Array | None = None  # int64


@dataclass(frozen=True)
class _Run:
    """A stretch between special tokens: its text, whether it is learnt, and which tokenizer reads it."""

    text: str
    learnt: bool
    place: str


class Speaker:
    """A tokenizer with its chat template: turns examples into tokens, many at once."""

    def __init__(self, tokenizer_json: str, tokenizer_config: Mapping[str, Any], *, places: bool = False) -> None:
        self.config, self.places = dict(tokenizer_config), places
        spec = json.loads(tokenizer_json)
        self._whole = _plain(spec, special_as_text=False)
        # a stretch is read as it would be in the whole: only the first one may get a word mark put before it
        spec["post_processor"] = None  # it would move where tokens begin, and puts nothing into a stretch
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
            places_T = None
            if spoken.places_T is not None:
                ending = [_visible(text)[1]] * len(end)
                places_T = np.concatenate([[-1] * len(begin), spoken.places_T, ending]).astype(np.int64)
                places_T[~learnt_T] = -1
            found.append(Spoken(ids_T, learnt_T, bool(self._special.search(text)), places_T))
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
        read: dict[int, Any] = {}
        for place, reader in self._readers.items():
            mine = [run for run in runs if run.place == place and run.text]
            # the fast way leaves out where tokens begin
            encode = reader.encode_batch if self.places else reader.encode_batch_fast
            for run, encoding in zip(
                mine, encode([readable(r.text) for r in mine], add_special_tokens=False), strict=True
            ):
                read[id(run)] = encoding
        return [self._joined(parts, read, close) for parts in cut]

    def _joined(self, parts: Sequence[_Run | int | None], read: Mapping[int, Any], close: bool) -> Spoken:
        ids: list[int] = []
        learnt: list[bool] = []
        begins = _Begins()
        for part in parts:
            if isinstance(part, _Run):
                encoding = read.get(id(part))
                tokens = encoding.ids if encoding else []
                ids += tokens
                learnt += [part.learnt] * len(tokens)
                if self.places and encoding:
                    begins.run(part, [begin for begin, _ in encoding.offsets])
            elif part is not None:
                ids.append(part if part >= 0 else -1 - part)
                learnt.append(part < 0)
                begins.mark(learnt[-1])
        if close and self._end is not None and learnt and learnt[-1] and ids[-1] not in self._ids.values():
            ids.append(self._end)
            learnt.append(True)
            begins.mark(True)
        learnt[:1] = [False] * len(learnt[:1])
        learnt_T = np.array(learnt, bool)
        places_T = np.where(learnt_T, np.array(begins.places, np.int64), -1) if self.places else None
        return Spoken(np.array(ids, np.int32), learnt_T, None in parts, places_T)


class _Begins:
    """Where each token of a document begins in the text that is learnt, counted anew for each answer."""

    def __init__(self) -> None:
        self.places: list[int] = []
        self.answer, self.at, self.learning = -1, 0, False

    def run(self, run: _Run, begins: Sequence[int]) -> None:
        """Note the tokens of a stretch of text."""
        if not run.learnt:
            self.places += [-1] * len(begins)
            self.learning = False
            return
        before, _ = (0, 0) if self.learning else self._open(run.text)
        here = [self.at + begin - before for begin in begins]
        # of tokens that begin in one character only the first one follows whole text
        whole = [begin != last for begin, last in zip(begins, [None, *begins], strict=False)]
        self.places += [self._place(at) if known else -1 for at, known in zip(here, whole, strict=True)]
        self.at += len(run.text) - before

    def mark(self, learnt: bool) -> None:
        """Note a special token, which has no text of its own."""
        self.places.append(self._place(self.at) if learnt and self.learning else -1)
        self.learning = learnt and self.learning

    def _open(self, text: str) -> tuple[int, int]:
        self.answer, self.at, self.learning = self.answer + 1, 0, True
        return _visible(text)

    def _place(self, at: int) -> int:
        return (self.answer << ANSWER_BITS) + at if at >= 0 else -1


def _visible(text: str) -> tuple[int, int]:
    """White space before a text, which templates cut off or put in, and the length of the rest, in characters."""
    before = len(text) - len(text.lstrip())
    return before, len(text) - before


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
