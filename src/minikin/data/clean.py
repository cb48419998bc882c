"""One text at a time: remove what no tokenizer should see, and the normal form under which texts count as equal.

Called by `load` for every row, and by `near` before it cuts texts into character 5-grams.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata

from minikin.base.types import Text

LONG_TEXT_CHARS = 100_000
PAIR_MARK = "\x1f"
"""Stands between the two normalised texts of a pair; no normalised text contains it."""

_SUSPECT = re.compile("[\x00\ud800-\udfff]")
_ESCAPED_BYTE = re.compile("[\udc80-\udcff]")
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Spaces(dict[int, int]):
    """Translation table that turns separators, controls and punctuation into spaces, filled as it is used.

    Categories and not `\\W`: the vowel signs of Indic scripts are no word characters, and emoji carry meaning.
    """

    def __missing__(self, code: int) -> int:
        category = unicodedata.category(chr(code))
        self[code] = 32 if category[0] in "PZ" or category == "Cc" else code
        return self[code]


_SPACES = _Spaces()


def tidy(raw: str) -> tuple[str, tuple[str, ...]]:
    """Return the text without NULs, lone surrogates and outer white space, and the kinds of fault found."""
    if not _SUSPECT.search(raw):
        return raw.strip(), ()
    kinds = []
    if "\x00" in raw:
        kinds.append("nul")
        raw = raw.replace("\x00", "")
    # A file opened with `surrogateescape` marks each byte that is not UTF-8 by a surrogate in DC80 to DCFF.
    if _ESCAPED_BYTE.search(raw):
        kinds.append("undecodable")
        raw = _ESCAPED_BYTE.sub("\ufffd", raw)
    if _SURROGATE.search(raw):
        kinds.append("surrogate")
        raw = _SURROGATE.sub("\ufffd", raw)
    return raw.strip(), tuple(kinds)


def normal(text: Text) -> str:
    """Return the form under which two texts count as equal: NFKC, casefolded, punctuation and space collapsed.

    A text of punctuation only keeps it, so that '?' and ':)' stay different.
    """
    if not isinstance(text, str):
        return PAIR_MARK.join(normal(part) for part in text)
    folded = text.casefold() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
    return " ".join(folded.translate(_SPACES).split()) or folded.replace(PAIR_MARK, " ").strip()


def hash64(text: Text) -> int:
    """Return the 64-bit BLAKE2b hash of the text's normal form."""
    raw = normal(text).encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8).digest(), "little")
