"""Which ids a tokenizer.json puts around a text; read by the runtimes and by the writer of kernel files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def framing_ids(spec: Mapping[str, Any], processors: Sequence[str] = ("BertProcessing",)) -> tuple[int, int]:
    """Return the ids that start a text and end each part, or (-1, -1) when the tokenizer adds none like that.

    `processors` are the kinds of post-processor, beside templates, whose `cls` and `sep` count.
    """
    processor = spec.get("post_processor") or {}
    if processor.get("type") in processors:
        return int(processor["cls"][1]), int(processor["sep"][1])
    if processor.get("type") == "TemplateProcessing":
        template = [next(iter(step.values()))["id"] for step in processor["single"]]
        if len(template) == 3 and template[1] == "A":
            named = processor["special_tokens"]
            return int(named[template[0]]["ids"][0]), int(named[template[2]]["ids"][0])
    return -1, -1
