"""Reading a tokenizer.json: its steps, its merges, and what it puts around texts; the GGUF writers read with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tokenizers import Tokenizer

SPACE: Final = "▁"
BYTES: Final = frozenset(f"<0x{byte:02X}>" for byte in range(256))


def steps(spec: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return a tokenizer.json's normalizer or pre-tokenizer as a flat list of its steps."""
    if not spec:
        return []
    if spec["type"] == "Sequence":
        return [step for part in spec.get("pretokenizers") or spec.get("normalizers") or () for step in steps(part)]
    return [spec]


def frame(tokenizer_json: str) -> tuple[int | None, int | None] | None:
    """Return the ids put before and after a text (None: nothing), or None for other frames."""
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    bare, framed = tokenizer.encode("a", add_special_tokens=False).ids, tokenizer.encode("a").ids
    for before in (0, 1):
        for after in (0, 1):
            if framed[before : len(framed) - after] == bare and len(framed) == len(bare) + before + after:
                return framed[0] if before else None, framed[-1] if after else None
    return None


def byte_level(spec: Mapping[str, Any]) -> bool:
    """Whether a tokenizer.json turns bytes into characters, as GPT-2 does."""
    found = steps(spec.get("pre_tokenizer") or {})
    return bool(found) and found[-1]["type"] == "ByteLevel"


def merges(model: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a BPE's merges as pairs, whichever way its file writes them."""
    pairs = [pair.split(" ", 1) if isinstance(pair, str) else pair for pair in model["merges"]]
    return [(left, right) for left, right in pairs]


def prefix(spec: Mapping[str, Any]) -> tuple[bool, bool]:
    """Return whether a space goes before a text, and whether only where there is none yet."""
    for step in [*steps(spec.get("normalizer") or {}), *steps(spec.get("pre_tokenizer") or {})]:
        if step["type"] == "Prepend":
            return True, False
        if step["type"] == "Metaspace":
            scheme = step.get("prepend_scheme", "always" if step.get("add_prefix_space", True) else "never")
            return scheme != "never", scheme != "never"
    return False, False
