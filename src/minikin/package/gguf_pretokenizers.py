"""Which of llama.cpp's named pre-tokenizers cuts texts as a byte-level tokenizer.json does; gguf_tokenizer asks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from minikin.package.gguf_spec import steps

_CONTRACTIONS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPELLED_OUT: Final = r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
_WORDS: Final = r"[^\r\n\p{L}\p{N}]?\p{L}+"
_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER: Final = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]"
_LOWER: Final = r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_CASED: Final = rf"[^\r\n\p{{L}}\p{{N}}]?{_UPPER}*{_LOWER}+{{0}}|[^\r\n\p{{L}}\p{{N}}]?{_UPPER}+{_LOWER}*{{0}}"
_CASED_REST: Final = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2: Final = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"

PATTERNS: Final[Mapping[str, str]] = {
    rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}{{1,3}}|{_REST}": "llama-bpe",
    rf"{_CONTRACTIONS}|{_WORDS}|\p{{N}}|{_REST}": "qwen2",
    _CASED.replace("{0}", f"{_CONTRACTIONS}?") + rf"|\p{{N}}{{1,3}}|{_CASED_REST}": "gpt-4o",
    _CASED.replace("{0}", "") + rf"|\p{{N}}|{_CASED_REST}": "tekken",
    GPT2: "gpt-2",
}
"""Expression of a Split step before plain ByteLevel → name.

llama.cpp's own forms of gpt-4o and tekken differ from these where a combining mark stands apart from its letter.
"""

WHOLE_WORDS: Final[Mapping[str, tuple[str | None, str | None]]] = {
    "llama-bpe": ("dbrx", "llama-bpe"),
    "tekken": (None, "tekken"),
}
"""Name → the names for a BPE without and with `ignore_merges`; all others have no form with it."""


def named(spec: Mapping[str, Any]) -> tuple[str | None, str]:
    """Return (llama.cpp's name, "") of a byte-level tokenizer.json's pre-tokenizer, or (None, the reason)."""
    found = steps(spec.get("pre_tokenizer") or {})
    if not found or found[-1]["type"] != "ByteLevel":
        return None, "its last step is not ByteLevel"
    if found[-1].get("add_prefix_space"):
        return None, "it puts a space before each text (add_prefix_space), which llama.cpp does not"
    head, regex = found[:-1], bool(found[-1].get("use_regex", True))
    if not head and regex:
        name: str | None = "gpt-2"
    elif [step["type"] for step in head] == ["Digits"] and head[0].get("individual_digits") and regex:
        name = "smollm"
    elif [step["type"] for step in head] == ["Split"] and not regex:
        name = _of_split(head[0])
    else:
        name = None
    if name is None:
        return None, f"llama.cpp knows no pre-tokenizer made of {', '.join(_words(step) for step in found)}"
    without, whole = WHOLE_WORDS.get(name, (name, None))
    name = whole if spec["model"].get("ignore_merges") else without
    if name is None:
        return None, "llama.cpp has its pattern only with another setting of ignore_merges"
    return name, ""


def _of_split(step: Mapping[str, Any]) -> str | None:
    pattern = step["pattern"].get("Regex")
    removes = step.get("behavior") == "Removed"  # of what does not match: another way to say the same
    if pattern is None or step.get("behavior") not in ("Isolated", "Removed") or removes != bool(step.get("invert")):
        return None
    return PATTERNS.get(pattern.replace(_SPELLED_OUT, _CONTRACTIONS))


def _words(step: Mapping[str, Any]) -> str:
    return f"Split({step['pattern']})" if step["type"] == "Split" else str(step["type"])
