"""What must hold before anything is trained, so that the decoder can ship."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minikin.base import extras
from minikin.base.errors import UserError
from minikin.package import gguf


def refuse_unknown(tokenizer_json: str, config: Mapping[str, Any], whose: str = "teacher") -> None:
    """Raise UserError, before anything is trained, when the model could never become GGUF."""
    extras.need("gguf", "gguf")
    extras.need("xllamacpp", "gguf")
    if reason := gguf.why_not(tokenizer_json, dict(config)):
        raise UserError(f"This {whose} can't become GGUF, which is how decoders ship: {reason}")
