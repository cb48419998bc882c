"""What a tokenizer's family asks of a smaller vocabulary: its fallback, the parts of a piece, its model rewritten.

One class per family; `vocabulary.trim` picks it by the type that the tokenizer states.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final, Literal, TypeAlias

from minikin.base.errors import UserError

Fallback: TypeAlias = Literal["all", "scripts", "none"]
"""Single characters that are always kept: all that there are, those of the scripts seen in the texts, or none."""

BYTES: Final = tuple(f"<0x{b:02X}>" for b in range(256))
MARK: Final = "\u2581"


class WordPiece:
    """WordPiece takes the longest piece that matches at each position.

    A smaller vocabulary that still holds the pieces of a word therefore cuts that word in the same way: the longest
    match was kept, and no new one appeared. Words that lose a piece fall back to shorter ones, at last to single
    characters.
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        self.spec = spec
        self.model: dict[str, Any] = dict(spec["model"])
        self.pieces: dict[int, str] = {int(i): piece for piece, i in self._numbered().items()}
        self.ids = {piece: i for i, piece in self.pieces.items()}

    def _numbered(self) -> Mapping[str, int]:
        numbered: Mapping[str, int] = self.model["vocab"]
        return numbered

    def named(self) -> set[int]:
        """Ids that the model names."""
        unknown = self.model.get("unk_token")
        return {self.ids[unknown]} if unknown in self.ids else set()

    def fallback(self, mode: Fallback, used: set[str]) -> set[int]:
        """Ids that spell what no kept piece covers."""
        return _characters(self.pieces, self.model.get("continuing_subword_prefix") or "", mode, used)

    def parts(self, i: int) -> set[int]:
        """Ids without which the piece `i` can't come about, itself included."""
        return {i}

    def rewritten(self, place: Mapping[int, int]) -> dict[str, Any]:
        """The model with the pieces that have a place."""
        return self.model | {"vocab": {self.pieces[old]: new for old, new in place.items() if old in self.pieces}}


class Bpe(WordPiece):
    """Byte pair encoding applies its merges in order of rank, to the bytes or characters of a word.

    What merges inside a piece is the same in every word that it is cut from, and for the piece alone. So a piece
    needs the results of its own merges, down to its characters; merges with a part or a result that is gone go too.
    Those that stay keep their order, and kept text is cut as before (Sennrich et al. 2016, algorithm 1).
    """

    def __init__(self, spec: Mapping[str, Any]) -> None:
        super().__init__(spec)
        affixes = [key for key in ("continuing_subword_prefix", "end_of_word_suffix") if self.model.get(key)]
        if affixes:
            raise UserError(f"This byte pair encoding marks its pieces ({', '.join(affixes)}): it can't be trimmed.")
        pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in self.model["merges"]]
        self._ranks: dict[tuple[str, ...], int] = {pair: rank for rank, pair in enumerate(pairs)}

    def fallback(self, mode: Fallback, used: set[str]) -> set[int]:
        """All bytes, where the vocabulary has them; else single characters as `mode` says."""
        if self.model.get("byte_fallback") and all(piece in self.ids for piece in BYTES):
            return {self.ids[piece] for piece in (*BYTES, MARK) if piece in self.ids}
        if '"ByteLevel"' in json.dumps([self.spec.get("pre_tokenizer"), self.spec.get("decoder")]):
            return {i for i, piece in self.pieces.items() if len(piece) == 1}
        return super().fallback(mode, used)

    def parts(self, i: int) -> set[int]:
        """The piece and the results of all merges that lead to it, down to its characters."""
        piece = self.pieces.get(i)
        if piece is None:
            return {i}
        held = list(piece)
        found = {i} | {self.ids[c] for c in held if c in self.ids}
        while len(held) > 1:
            ranks = [self._ranks.get(pair, len(self._ranks)) for pair in pairwise(held)]
            best = min(ranks)
            if best == len(self._ranks):
                break  # a piece that is only ever taken whole, or an added token
            at = ranks.index(best)
            held[at : at + 2] = [held[at] + held[at + 1]]
            found.add(self.ids[held[at]])
        return found

    def rewritten(self, place: Mapping[int, int]) -> dict[str, Any]:
        """The model with the pieces that have a place, and the merges among them."""
        new = super().rewritten(place)
        kept = new["vocab"]
        pairs = [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in self.model["merges"]]
        alive = [all(part in kept for part in (*pair, "".join(pair))) for pair in pairs]
        new["merges"] = [merge for merge, stays in zip(self.model["merges"], alive, strict=True) if stays]
        return new


class Unigram(WordPiece):
    """A unigram model takes the cut of largest total score (Kudo 2018, eq. 1).

    With fewer pieces there are fewer cuts, and the best one of a text whose pieces all stay is still there. What an
    unknown character costs depends on the smallest score, so the piece that has it stays.
    """

    def _numbered(self) -> Mapping[str, int]:
        return {piece: i for i, (piece, _score) in enumerate(self.model["vocab"])}

    def named(self) -> set[int]:
        """The unknown piece, and the one of the smallest score."""
        scores = [score for _piece, score in self.model["vocab"]]
        unknown = self.model.get("unk_id")
        return {scores.index(min(scores)), *([] if unknown is None else [int(unknown)])}

    def fallback(self, mode: Fallback, used: set[str]) -> set[int]:
        """All bytes, where the model falls back on them; else single characters as `mode` says."""
        if self.model.get("byte_fallback") and all(piece in self.ids for piece in BYTES):
            return {self.ids[piece] for piece in (*BYTES, MARK) if piece in self.ids}
        return _characters(self.pieces, "", mode, used) | ({self.ids[MARK]} if MARK in self.ids else set())

    def rewritten(self, place: Mapping[int, int]) -> dict[str, Any]:
        """The model with the pieces that have a place, in its order."""
        kept = [self.model["vocab"][old] for old in sorted(place) if old < len(self.model["vocab"])]
        unknown = self.model.get("unk_id")
        return self.model | {"vocab": kept, "unk_id": None if unknown is None else place[int(unknown)]}


FAMILIES: Final[Mapping[str, type[WordPiece]]] = {"WordPiece": WordPiece, "BPE": Bpe, "Unigram": Unigram}


def _characters(pieces: Mapping[int, str], prefix: str, mode: Fallback, used: set[str]) -> set[int]:
    """Return the ids of the fallback: single characters, at the start of a word and inside it."""
    if mode == "none":
        return set()
    bare = {i: piece.removeprefix(prefix) if piece != prefix else piece for i, piece in pieces.items()}
    single = {i: piece for i, piece in bare.items() if len(piece) == 1}
    if mode == "scripts":
        seen = {_script(c) for piece in used for c in piece.removeprefix(prefix)} | {"", "LATIN"}
        return {i for i, c in single.items() if c.isascii() or _script(c) in seen}
    starts = {c for i, c in single.items() if pieces[i] == c}
    insides = {c for i, c in single.items() if pieces[i] != c} or starts
    covered = starts & insides
    # A piece with a character that has no piece of its own can't be spelt out, so it stays.
    stuck = {i for i, piece in bare.items() if len(piece) > 1 and not set(piece) <= covered and _plain(pieces[i])}
    return set(single) | stuck


def _plain(piece: str) -> bool:
    """Whether a piece can come from text: not a reserved one like [unused1]."""
    return not (piece.startswith("[") and piece.endswith("]"))


def _script(character: str) -> str:
    """Return the script of a letter by its Unicode name, or "" for what is no letter."""
    if unicodedata.category(character)[0] not in "LM":
        return ""
    return unicodedata.name(character, "UNKNOWN").split()[0]
