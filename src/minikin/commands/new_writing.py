"""`minikin new --task generate`: a recipe for a kin that writes, from what the columns of a file are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from minikin.base.errors import DataError
from minikin.commands.new import Wishes, looked, values_of, write
from minikin.data.peek import peek_writing
from minikin.teachers.resolve import is_encoder_decoder

PROMPTS: Final = ("prompt", "instruction", "input", "question", "command", "utterance", "request", "source", "query")
ANSWERS: Final = ("completion", "output", "response", "answer", "call", "target", "reply", "translation")
CHATS: Final = ("messages", "conversations", "conversation", "chat", "dialogue")
TEXTS: Final = ("text", "content", "document", "story")
CHARS_PER_TOKEN: Final = 2.0
"""Fewer than usual: a vocabulary of one's own is small, and what is longer than the context is left out."""

LENGTHS: Final = (64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048)
GROWN: Final = "tiny"
URLS: Final = ("http://", "https://")
ENDPOINT: Final = {"endpoint": "http://localhost:8000/v1", "model": "NAME", "max_tokens": 128}
"""Proposed for prompts alone, which only a teacher that writes can answer."""

ANSWER_CHARS: Final = 512
"""What an answer of so many tokens is expected to have at most."""


MEANS: Final = {
    "unlabelled": ("more.csv", "more prompts, which the teacher will answer"),
    "max_length": ("", "tokens of prompt and answer together"),
    "size_mib": ("3", "the GGUF file and the tokenizer, in MiB (1,048,576 bytes)"),
    "latency_ms_p95": ("30", "a whole answer on one thread, in ms"),
    "keep": ("0.95", "exact answers (or likelihood), as a share of the teacher's"),
}


def new(wishes: Wishes, out: Path, *, force: bool) -> None:
    """Write the recipe `out`. Raises UserError when it is there already, DataError when no column can be told."""
    telling = (
        *PROMPTS,
        *ANSWERS,
        *CHATS,
        *TEXTS,
        *(name.lower() for name in (*wishes.text, *filter(None, (wishes.label,)))),
    )
    seen = looked(wishes.data, out, force, lambda source: peek_writing(source, telling, prompts=_answers(wishes)))
    kind, columns = told([column.name for column in seen.columns], wishes)
    prompts_only = kind == "pairs" and "completion" not in columns
    longest = sum(seen.column(name).longest for name in columns.values()) + (ANSWER_CHARS if prompts_only else 0)
    length = next((length for length in LENGTHS if length >= longest / CHARS_PER_TOKEN), LENGTHS[-1])
    holds = {"kind": kind, **columns, "max_length": length}
    values = values_of(wishes, out, "generate", holds, _teacher(wishes.teacher, prompts_only))
    teacher = values["teacher"]
    about = "" if teacher else "gold text alone"
    if isinstance(teacher, dict):
        about = "grown on this data: give a checkpoint where you have one"
    if isinstance(teacher, dict) and "endpoint" in teacher:
        about = "it answers the prompts; its model's name there; key_env, price_in, price_out and limit if it costs"
    write(out, values, f"{seen.rows:,} rows of {kind}", MEANS, about, "no limit given")


def _teacher(wanted: str | None, prompts_only: bool) -> Any:
    """What is proposed as a teacher: an endpoint for prompts alone, and a decoder grown on the data elsewhere."""
    if wanted is not None and wanted.startswith(URLS):
        return {**ENDPOINT, "endpoint": wanted}
    if prompts_only and wanted is None:
        return ENDPOINT
    return {"size": GROWN} if wanted is None else wanted


def told(names: Sequence[str], wishes: Wishes) -> tuple[str, dict[str, str]]:
    """The kind of examples, and which column holds what. Raises DataError when names don't tell."""
    lower = {name.lower(): name for name in names}
    for name in (*wishes.text, *((wishes.label,) if wishes.label else ())):
        if name not in names:
            raise DataError(f"{wishes.data} has no column '{name}', only {', '.join(map(repr, names))}.")
    prompt = wishes.text[0] if wishes.text else _first(PROMPTS, lower)
    answer = wishes.label or _first(ANSWERS, lower)
    if prompt and answer:
        return "pairs", {"prompt": prompt, "completion": answer}
    if chat := _first(CHATS, lower):
        return "chat", {"messages": chat}
    if prompt and (_answers(wishes) or (wishes.teacher is None and prompt.lower() in PROMPTS)):
        return "pairs", {"prompt": prompt}
    if text := prompt or _first(TEXTS, lower):
        return "text", {"text": text}
    shown = ", ".join(map(repr, names))
    raise DataError(
        f"Which columns hold prompt and answer? There are {shown}. Say it with --text NAME (the prompt) and "
        "--label NAME (the answer)."
    )


def _answers(wishes: Wishes) -> bool:
    """Whether the teacher that was named answers prompts: an endpoint, or a folder with an encoder-decoder."""
    teacher = wishes.teacher
    return teacher is not None and (teacher.startswith(URLS) or is_encoder_decoder(Path(teacher).expanduser()))


def _first(known: Sequence[str], lower: dict[str, str]) -> str:
    return next((lower[name] for name in known if name in lower), "")
