"""`minikin new --task generate`: a recipe for a kin that writes, from what the columns of a file are called."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from minikin.base import atomic
from minikin.base.console import console
from minikin.base.errors import DataError
from minikin.commands.new import ABSENT, NO_TEACHER, TESTED, Wishes, line, refuse_taken, relative, scalar, show
from minikin.data.peek import Peek, peek
from minikin.recipe.read import of_values

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


def new(wishes: Wishes, out: Path, *, force: bool) -> None:
    """Write the recipe `out`. Raises UserError when it is there already, DataError when no column can be told."""
    refuse_taken(out, force)
    seen = peek(wishes.data)
    show(wishes.data, seen)
    values = values_of(wishes, seen, out.absolute().parent)
    of_values(values)
    atomic.write_text(out, written(values, seen))
    console.print(f"Wrote {out}. Next: minikin check {out}", markup=False, soft_wrap=True)


def values_of(wishes: Wishes, seen: Peek, folder: Path) -> dict[str, Any]:
    """The recipe's values; paths of files relative to the recipe's own folder."""
    names = [column.name for column in seen.columns]
    kind, columns = told(names, wishes)
    data: dict[str, Any] = {"train": relative(wishes.data, folder)}
    for key in ("test", "unlabelled"):
        if source := getattr(wishes, key):
            data[key] = relative(source, folder)
    data |= {"kind": kind, **columns}
    prompts_only = kind == "pairs" and "completion" not in columns
    longest = sum(seen.column(name).longest for name in columns.values()) + (ANSWER_CHARS if prompts_only else 0)
    wanted = longest / CHARS_PER_TOKEN
    data["max_length"] = next((length for length in LENGTHS if length >= wanted), LENGTHS[-1])
    teacher: Any = wishes.teacher
    if teacher is not None and teacher.startswith(URLS):
        teacher = {**ENDPOINT, "endpoint": teacher}
    elif prompts_only:
        teacher = ENDPOINT
    elif teacher is None:
        teacher = {"size": GROWN}
    elif teacher.lower() in NO_TEACHER:
        teacher = None
    elif Path(teacher).expanduser().is_dir():
        teacher = relative(teacher, folder)
    keys = ("size_mib", "latency_ms_p95", "keep")
    budget = {key: value for key in keys if (value := getattr(wishes, key)) is not None}
    named = {"name": wishes.name} if wishes.name else {}
    return {"task": "generate", **named, "data": data, "teacher": teacher, "budget": budget}


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
    remote = wishes.teacher is not None and wishes.teacher.startswith(URLS)
    if prompt and (remote or (wishes.teacher is None and prompt.lower() in PROMPTS)):
        return "pairs", {"prompt": prompt}
    if text := prompt or _first(TEXTS, lower):
        return "text", {"text": text}
    shown = ", ".join(map(repr, names))
    raise DataError(
        f"Which columns hold prompt and answer? There are {shown}. Say it with --text NAME (the prompt) and "
        "--label NAME (the answer)."
    )


def _first(known: Sequence[str], lower: dict[str, str]) -> str:
    return next((lower[name] for name in known if name in lower), "")


def written(values: dict[str, Any], seen: Peek) -> str:
    """The recipe as YAML with comments: what was seen, and what else could be set."""
    data, budget, teacher = values["data"], values["budget"], values["teacher"]
    columns = [f"  {key}: {scalar(data[key])}" for key in ("prompt", "completion", "messages", "text") if key in data]
    about = ""
    if isinstance(teacher, dict):
        about = "grown on this data: give a checkpoint where you have one"
    if isinstance(teacher, dict) and "endpoint" in teacher:
        about = "it answers the prompts; its model's name there; key_env, price_in, price_out and limit if it costs"
    lines = [
        f"# Written by minikin new: {seen.rows:,} rows of {data['kind']}.",
        "# `minikin check` shows everything that can be set, and a forecast.",
        "task: generate",
        *([f"name: {scalar(values['name'])}"] if "name" in values else []),
        "data:",
        f"  train: {scalar(data['train'])}",
        *line(data, "test", "test.csv", ABSENT, TESTED),
        *line(data, "unlabelled", "more.csv", "more prompts, which the teacher will answer"),
        f"  kind: {data['kind']}",
        *columns,
        f"  max_length: {data['max_length']}   # tokens of prompt and answer together",
        f"teacher: {scalar(teacher)}" + (f"   # {about}" if about else "" if teacher else "   # gold text alone"),
        "budget:" + ("" if budget else "   # no limit given"),
        *line(budget, "size_mib", "3", "the GGUF file and the tokenizer, in MiB (1,048,576 bytes)"),
        *line(budget, "latency_ms_p95", "30", "a whole answer on one thread, in ms"),
        *line(budget, "keep", "0.95", "exact answers (or likelihood), as a share of the teacher's"),
    ]
    return "\n".join(lines) + "\n"
