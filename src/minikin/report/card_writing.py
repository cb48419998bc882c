"""The model card of a kin that writes: README.md with the Hub's metadata in front. Called by report/files.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from minikin.report import words
from minikin.report.card import ROWS as WHO
from minikin.report.card import about_teacher, flat, front_matter, interval, side_by_side, whole
from minikin.report.words import Columns, number, part

ROWS = {**WHO, "tfidf": "Answer of the nearest prompt"}
COLUMNS: Columns = (
    ("exact", "accuracy", words.percent),
    ("95 % interval", "accuracy_interval", interval),
    ("ROUGE-L", "rouge_l", words.percent),
    ("chrF", "chrf", words.percent),
    ("perplexity", "perplexity", words.significant),
    ("bits/byte", "bits_per_byte", words.significant),
    ("size", "size_mib", words.mib),
    ("p50", "latency_ms_p50", words.ms),
    ("tokens/s", "decode_tokens_per_s", words.significant),
)
METRICS = (("accuracy", "exact_match", "Exact match"), ("perplexity", "perplexity", "Perplexity"))
EXAMPLE = "turn the hall lights down a bit"


def card(story: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Write the model card of a kin from its story and its manifest (minikin.json)."""
    parts = (_what(story, manifest), _use(story), _table(story), _limits(story))
    return whole(story, manifest, _metadata, *parts)


def _metadata(name: str, story: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    # weights of a checkpoint stay its own, and so does its licence
    origin = about_teacher(manifest, "base" if manifest.get("base") else "teacher")
    return front_matter(name, story, origin, "transformers", "gguf", ("text-generation", "Text generation"), METRICS)


def _what(story: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What it is, in a paragraph: the verdict, the kind of model, where it comes from."""
    teacher = about_teacher(manifest)["name"]
    origin = f"distilled from {flat(teacher)}" if teacher else "trained from gold text alone"
    kind = {"pairs": "answers prompts", "chat": "answers in a chat", "text": "continues texts"}
    does = kind.get(str(story.get("kind")), "writes")
    size = words.count(int(manifest.get("parameters") or 0), "weight")
    return (
        f"{flat(str(story.get('verdict') or words.verdict(story)))}\n\n"
        f"A small language model of {size} that {does}, {origin} with minikin. It reads and writes up to "
        f"{manifest.get('max_length')} tokens."
    )


def _use(story: Mapping[str, Any]) -> str:
    """How to ask it, with minikin and with what else reads it."""
    differences = part(story, "differences") or []
    prompt = flat(str(differences[0].get("text"))) if differences else EXAMPLE
    own = f'```python\nimport minikin as mk\n\nkin = mk.load("path/to/this/folder")\nprint(kin("{prompt}").text)\n```'
    return (
        f'{own}\n\nOr `minikin run path/to/this/folder "{prompt}"`; `minikin chat` for a conversation.\n\n'
        "`model.gguf` runs in llama.cpp, and in Ollama with `ollama create NAME -f Modelfile`; "
        "`AutoModelForCausalLM.from_pretrained` opens the folder in transformers. Both take the prompt as the chat "
        "template, or `Modelfile`, writes it."
    )


def _table(story: Mapping[str, Any]) -> str:
    """Teacher, student and baselines side by side."""
    whose = "the teacher's" if story.get("agreement") else "people's"
    how = (
        f"Exact: the same JSON value as {whose} answer, or the same text. ROUGE-L: the share of words in common, in "
        f"order; chrF, of runs of characters. Perplexity and bits per byte are of {whose} answers. This model as the "
        "packaged file answers in llama.cpp, one prompt at a time, one thread"
    )
    return side_by_side(story, ROWS, COLUMNS, how)


def _flaws(story: Mapping[str, Any]) -> list[str]:
    """How much of what it wrote for the test repeats itself, or stands in the training texts."""
    student = part(story, "measurements", "student") or {}
    if number(student.get("looping")) is None:
        return []
    looping, memorised = words.percent(student["looping"]), words.percent(student.get("memorised"))
    return [
        f"- Of what it wrote for the test, {looping} ends in a loop, and {memorised} holds 200 characters or more of a "
        "training text that neither the prompt nor the reference has."
    ]


def _limits(story: Mapping[str, Any]) -> str:
    alone = "- Nobody wrote answers to the test prompts: the figures are agreement with the teacher, not correctness."
    lines = [
        *([alone] if story.get("agreement") else []),
        *_flaws(story),
        "- It writes what looks like its training answers, also to prompts that are unlike any of them: check what "
        "it writes before acting on it, or bind it with a JSON Schema.",
        "- The figures hold for prompts like those of the test split; other domains and languages were not measured.",
    ]
    return "\n".join(lines)
