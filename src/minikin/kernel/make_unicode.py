"""Writes unicode_tables.h: what the kernel's tokenizer must know of each character, asked of `tokenizers` itself.

Run `python make_unicode.py` beside the header when the version of `tokenizers` changes. Asking the library, rather
than a Unicode database, gives its answers also where its own databases are of several ages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import tokenizers
from tokenizers import normalizers, pre_tokenizers

HEADER: Final = Path(__file__).with_name("unicode_tables.h")
CODES: Final = 0x110000
SURROGATES: Final = range(0xD800, 0xE000)
HANGUL: Final = range(0xAC00, 0xD7A4)
CHUNK: Final = 1 << 12

FLAGS: Final = ("DROP", "SPACE", "PUNCTUATION", "CJK", "MARK", "BARRIER", "STRIP", "LOWER", "LETTER", "NUMBER")
"""Bits of a kind, the lowest first; the bits above them hold the rank of a character that NFD reorders."""

MEANING: Final = {
    "DROP": "clean_text drops it",
    "SPACE": "words end here",
    "PUNCTUATION": "a word of its own",
    "CJK": "handle_chinese_chars puts spaces around it",
    "MARK": "strip_accents drops it",
    "BARRIER": "a dropped mark that nothing is reordered across",
    "STRIP": "strip_accents maps it: see MK_STRIP",
    "LOWER": "lowercase maps it: see MK_LOWER",
    "LETTER": "\\p{L}",
    "NUMBER": "\\p{N}",
}
BIT: Final = {name: 1 << place for place, name in enumerate(FLAGS)}
RANK_SHIFT: Final = len(FLAGS)

LEAF: Final = 128
MIDDLE: Final = 16
SPAN_BITS: Final = 11
OVERLAY: Final = "\u0334"
"""A mark that NFD brings before most others."""


def _normalizer(**chosen: bool) -> Callable[[str], str]:
    off = {"clean_text": False, "handle_chinese_chars": False, "strip_accents": False, "lowercase": False}
    normalize: Callable[[str], str] = normalizers.BertNormalizer(**off | chosen).normalize_str
    return normalize


def _characters() -> Iterator[list[int]]:
    """All code points that text can hold, in chunks; without the bar, which separates them in questions."""
    codes = [code for code in range(CODES) if code not in SURROGATES and code != ord("|")]
    for start in range(0, len(codes), CHUNK):
        yield codes[start : start + CHUNK]


def _answers(normalize: Callable[[str], str], after: str = "") -> dict[int, str]:
    """What a normaliser makes of each character that it changes; `after` comes behind each of them."""
    changed: dict[int, str] = {}
    for codes in _characters():
        text = "|".join(chr(code) + after for code in codes)
        results = normalize(text).split("|")
        changed |= {code: result for code, result in zip(codes, results, strict=True) if result != chr(code)}
    return changed


def _split(pre_tokenizer: pre_tokenizers.PreTokenizer, before: str, after: str) -> dict[int, list[int]]:
    """The lengths of the pieces that `before` + character + `after` is cut into."""
    cut: dict[int, list[int]] = {}
    for codes in _characters():
        cells = "".join(f"{before}{chr(code)}{after}\n" for code in codes)
        for code in codes:
            cut[code] = []
        for _, (start, end) in pre_tokenizer.pre_tokenize_str(cells):
            if start % 4 != 3:
                cut[codes[start // 4]].append(end - start)
    return cut


def _ranks(kept: Iterable[int]) -> dict[int, int]:
    """The order, from 1, into which NFD brings characters that strip_accents keeps; starters are left out."""
    nfd: Callable[[str], str] = normalizers.NFD().normalize_str
    before = _answers(nfd, OVERLAY)
    movers = [code for code in kept if before[code] == OVERLAY + chr(code)]
    overtaken = {
        code: sum(nfd(f"a{chr(code)}{chr(other)}") == f"a{chr(other)}{chr(code)}" for other in movers)
        for code in movers
    }
    order = sorted(set(overtaken.values()))
    return {code: 1 + order.index(count) for code, count in overtaken.items()}


def read_library() -> tuple[list[int], dict[int, str], dict[int, str]]:
    """Return the kind of every code point, and what strip_accents (without Hangul) and lowercase make of them."""
    clean, chinese = _answers(_normalizer(clean_text=True)), _answers(_normalizer(handle_chinese_chars=True))
    stripped, lower = _answers(_normalizer(strip_accents=True)), _answers(_normalizer(lowercase=True))
    stripped = {code: result for code, result in stripped.items() if code not in HANGUL}
    words = _split(pre_tokenizers.BertPreTokenizer(), "a", "a")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letters, numbers = _split(byte_level, "a", "a"), _split(byte_level, "1", "1")
    kinds = [0] * CODES
    for code in words:
        kinds[code] = (
            BIT["DROP"] * (clean.get(code) == "")
            | BIT["SPACE"] * (words[code] == [1, 1])
            | BIT["PUNCTUATION"] * (words[code] == [1, 1, 1])
            | BIT["CJK"] * (code in chinese)
            | BIT["MARK"] * (stripped.get(code) == "")
            | BIT["STRIP"] * bool(stripped.get(code))
            | BIT["LOWER"] * (code in lower)
            | BIT["LETTER"] * (letters[code] == [3])
            | BIT["NUMBER"] * (numbers[code] == [3])
        )
    kinds[ord("|")] = BIT["PUNCTUATION"]
    strip = _normalizer(strip_accents=True)
    marks = [code for code in range(CODES) if kinds[code] & BIT["MARK"]]
    ranks = _ranks(code for code in words if not kinds[code] & (BIT["MARK"] | BIT["STRIP"]) and code not in HANGUL)
    first, last = (chr(pick(ranks, key=ranks.__getitem__)) for pick in (min, max))
    for code in marks:
        kinds[code] |= BIT["BARRIER"] * (strip(f"a{last}{chr(code)}{first}") == f"a{last}{first}")
    for code, rank in ranks.items():
        kinds[code] |= rank << RANK_SHIFT
    return kinds, {code: result for code, result in stripped.items() if result}, lower


def _stage(values: Sequence[int], size: int) -> tuple[list[int], list[int]]:
    """Cut values into blocks and return the place of each block, and the different blocks one after another."""
    blocks: dict[tuple[int, ...], int] = {}
    places = [blocks.setdefault(tuple(values[i : i + size]), len(blocks)) for i in range(0, len(values), size)]
    return places, [value for block in blocks for value in block]


def _ranges(mapping: dict[int, str], sequences: list[str]) -> list[tuple[int, int]]:
    """Runs of characters, each one or two after the last, that go as far: (code << 11 | span, 2 * shift + step - 1)."""
    runs: list[list[int]] = []
    for code, result in sorted(mapping.items()):
        if len(result) > 1 and result not in sequences:
            sequences.append(result)
        shift = (ord(result) if len(result) == 1 else CODES + sequences.index(result)) - code
        if runs and runs[-1][2] == shift and len(result) == 1:
            first, last, _, step = runs[-1]
            gap = code - last
            if gap in (1, 2) and gap == (step or gap) and code - first < 1 << SPAN_BITS:
                runs[-1][1], runs[-1][3] = code, gap
                continue
        runs.append([code, code, shift, 0])
    return [(first << SPAN_BITS | last - first, 2 * shift + (step == 2)) for first, last, shift, step in runs]


def _array(kind: str, name: str, values: Sequence[int]) -> str:
    lines, line = [], " "
    for value in values:
        if len(line) + len(str(value)) > 116:
            lines.append(line)
            line = " "
        line += f" {value},"
    return f"static const {kind} {name}[{len(values)}] = {{\n" + "\n".join([*lines, line]) + "\n};\n"


def header() -> str:
    """Return the text of unicode_tables.h for the installed `tokenizers`."""
    kinds, stripped, lower = read_library()
    different = sorted(set(kinds))
    middles, leaves = _stage([different.index(kind) for kind in kinds], LEAF)
    tops, middle = _stage(middles, MIDDLE)
    sequences: list[str] = []
    strip_ranges, lower_ranges = _ranges(stripped, sequences), _ranges(lower, sequences)
    parts = [
        "/* Written by make_unicode.py from the answers of tokenizers "
        + tokenizers.__version__
        + "; do not edit. */\n",
        "#ifndef MK_UNICODE_TABLES_H\n#define MK_UNICODE_TABLES_H\n\n#include <stdint.h>\n",
        "\n".join(f"#define MK_{name} {BIT[name]}u /* {MEANING[name]} */" for name in FLAGS)
        + f"\n#define MK_RANK_SHIFT {RANK_SHIFT} /* above: its place in the order of NFD, 0 for none */\n",
        "/* The kind of c: MK_KINDS[leaf], with the leaf found in three steps. Leaf 0 is ASCII. */",
        _array("uint16_t", "MK_KINDS", different),
        _array("uint8_t", "MK_TOPS", tops),
        _array("uint8_t", "MK_MIDDLES", middle),
        _array("uint8_t", "MK_LEAVES", leaves),
        "/* Runs of characters: (first << 11 | last - first), then 2 * shift + (1 when every other one is meant).\n"
        f"   A character that is shifted to {CODES:#x} + i becomes sequence i. */",
        _array("uint32_t", "MK_STRIP_FIRST", [first for first, _ in strip_ranges]),
        _array("int32_t", "MK_STRIP_SHIFT", [shift for _, shift in strip_ranges]),
        _array("uint32_t", "MK_LOWER_FIRST", [first for first, _ in lower_ranges]),
        _array("int32_t", "MK_LOWER_SHIFT", [shift for _, shift in lower_ranges]),
        "/* Three characters each, 0 for none. */",
        _array("uint32_t", "MK_SEQUENCES", [code for text in sequences for code in map(ord, text.ljust(3, "\0"))]),
        "#endif",
    ]
    return "\n".join(parts) + "\n"


if __name__ == "__main__":
    HEADER.write_text(header(), encoding="utf-8")
