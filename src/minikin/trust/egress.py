"""What may leave the device: nothing unless allowed, and personal data never. Called by `handover` before an endpoint.

Patterns find what looks like personal data; they can't find all of it, and `allow: false` is the only certain answer.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from minikin.base.types import Text

NOT_ALLOWED = "egress is not allowed, so the text stays on this device"

# A run of digits with single separators between them. The length is bounded, so that no text is slow to search.
_DIGITS = r"(?<![\w.])\+?\(?\d(?:[ \-./()]{{0,2}}\d){{{low},{high}}}(?!\w)"
KINDS: Mapping[str, re.Pattern[str]] = {
    "email": re.compile(r"[\w.+%-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}"),
    "iban": re.compile(r"(?<!\w)[A-Za-z]{2}\d{2}(?:[ -]?[A-Za-z0-9]){11,30}(?!\w)"),
    "card": re.compile(_DIGITS.format(low=12, high=18)),
    "phone": re.compile(_DIGITS.format(low=6, high=14)),
    "account": re.compile(r"(?<!\w)(?:[A-Za-z]{0,4}[-]?)\d(?:[ \-./]?\d){5,29}(?!\w)"),
}
"""Searched in this order, so that a card is not called a phone."""


@dataclass(frozen=True)
class Verdict:
    """The text that may leave, or None with the reason; `found` are the kinds that were seen in it."""

    text: Text | None
    found: tuple[str, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Egress:
    """The rule of a hand-over file; as it stands, nothing leaves.

    `never` are kinds of `KINDS`, `fields` names whose values never leave, `patterns` name → regular expression.
    With `redact` what is found is replaced by its kind in brackets; without it the whole text stays.
    """

    allow: bool = False
    never: Sequence[str] = tuple(KINDS)
    fields: Sequence[str] = ()
    patterns: Mapping[str, str] = field(default_factory=dict)
    redact: bool = True

    def __post_init__(self) -> None:
        """Compile the patterns once. Raises KeyError for a kind that does not exist."""
        searches: list[tuple[str, re.Pattern[str]]] = []
        if self.fields:
            names = "|".join(re.escape(_plain(name)) for name in sorted(self.fields, key=len, reverse=True))
            # A name, a sign or a small word, and a value: a quoted one, or the rest up to white space or a comma.
            value = r"""(?:"[^"\n]{0,400}"|'[^'\n]{0,400}'|[^\s,;]{1,400})"""
            searches.append(
                ("field", re.compile(rf"(?i)(?<!\w)(?:{names})\"?\s{{0,3}}(?::|=|\bis\b|\s)\s{{0,3}}{value}"))
            )
        searches += [(name, re.compile(pattern)) for name, pattern in self.patterns.items()]
        searches += [(kind, KINDS[kind]) for kind in KINDS if kind in self.never]
        if unknown := set(self.never) - set(KINDS):
            raise KeyError(f"no kind {sorted(unknown)[0]!r}; the kinds are {', '.join(KINDS)}")
        object.__setattr__(self, "_searches", tuple(searches))

    def verdict(self, text: Text) -> Verdict:
        """Say whether, and as what, a text (or pair) may leave. What leaves is normalized to NFKC."""
        if not self.allow:
            return Verdict(None, (), NOT_ALLOWED)
        parts = (text,) if isinstance(text, str) else text
        found: list[str] = []
        cleaned = [self._cleaned(_plain(part), found) for part in parts]
        kinds = tuple(dict.fromkeys(found))
        if kinds and not self.redact:
            return Verdict(None, kinds, f"it holds what never leaves this device ({', '.join(kinds)})")
        return Verdict(cleaned[0] if isinstance(text, str) else (cleaned[0], cleaned[1]), kinds)

    def _cleaned(self, text: str, found: list[str]) -> str:
        searches: tuple[tuple[str, re.Pattern[str]], ...] = self._searches  # type: ignore[attr-defined]
        for kind, pattern in searches:
            text = pattern.sub(_replacement(kind, found), text)
        return text


def _replacement(kind: str, found: list[str]) -> Callable[[re.Match[str]], str]:
    def of(match: re.Match[str]) -> str:
        whole = match.group()
        low, high = _proved(kind, whole) if kind in _PROOFS else (0, len(whole))
        if low == high:
            return whole
        found.append(kind)
        return f"{whole[:low]}[{kind}]{whole[high:]}"

    return of


def _proved(kind: str, whole: str) -> tuple[int, int]:
    """Return where the longest run of whole groups in a match has the check digits; (0, 0) if none has."""
    shortest, proof = _PROOFS[kind]
    groups = [match.span() for match in re.finditer(r"[A-Za-z0-9]+", whole)]
    runs = [(low, high) for i, (low, _) in enumerate(groups) for _, high in groups[i:]]
    for low, high in sorted(runs, key=lambda run: run[0] - run[1]):
        if sum(c.isalnum() for c in whole[low:high]) >= shortest and proof(whole[low:high]):
            return low, high
    return 0, 0


def luhn(number: str) -> bool:
    """Whether the digits of `number` end in the check digit of H. P. Luhn (ISO/IEC 7812-1)."""
    digits = [int(c) for c in number if c.isdigit()]
    doubled = [sum(divmod(2 * d, 10)) for d in digits[-2::-2]]
    return len(digits) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def iban(number: str) -> bool:
    """Whether `number` has the check digits of an IBAN (ISO 13616: mod 97 = 1)."""
    plain = "".join(c for c in number.upper() if c.isalnum())
    moved = plain[4:] + plain[:4]
    return moved.isascii() and int("".join(str(int(c, 36)) for c in moved)) % 97 == 1


_PROOFS: Mapping[str, tuple[int, Callable[[str], bool]]] = {"card": (13, luhn), "iban": (15, iban)}
"""Kind → fewest letters and digits, and whether the check digits are right."""


def _plain(text: str) -> str:
    """NFKC without invisible format characters, which would hide a number from the patterns."""
    folded = unicodedata.normalize("NFKC", text)
    return folded if folded.isascii() else "".join(c for c in folded if unicodedata.category(c) != "Cf")
