"""The model card: README.md of a kin, with the Hub's metadata in front. Called by the pipeline when it seals a kin."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from minikin.report import certified, words
from minikin.report.words import Columns, number, part

ROWS = {
    "teacher": "Teacher",
    "student": "**This model**",
    "student_without_teacher": "Same student, no teacher",
    "tfidf": "TF-IDF + logistic regression",
}
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
LABELS_SHOWN = 60
ACCURACY, MACRO_F1 = ("accuracy", "accuracy", "Accuracy"), ("macro_f1", "f1", "Macro-F1")
EXAMPLE = "my card never arrived"


def card(story: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Write the model card of a kin from its story and its manifest (minikin.json)."""
    parts = (_what(story, manifest), _use(story, manifest), _table(story), _limits(story))
    return whole(story, manifest, _metadata, *parts)


def whole(
    story: Mapping[str, Any],
    manifest: Mapping[str, Any],
    metadata: Callable[[str, Mapping[str, Any], Mapping[str, Any]], dict[str, Any]],
    what: str,
    use: str,
    table: str,
    limits: str,
) -> str:
    """Put a card together from what differs between the tasks."""
    name = str(story.get("name") or manifest.get("name") or "kin")
    sections = [
        f"# {flat(name)}",
        what,
        "## Use\n\n" + use,
        "## Measurements\n\n" + table,
        per_gate(story),
        "## When it may answer\n\n" + certified.card(story["certificate"]) if part(story, "certificate") else "",
        "## Limits\n\n" + limits,
        "## Provenance\n\n" + provenance(story, manifest),
    ]
    front = yaml.safe_dump(metadata(name, story, manifest), sort_keys=False, allow_unicode=True, width=1000)
    body = "\n\n".join(section for section in sections if section)
    return UNSAFE.sub("\ufffd", f"---\n{front}---\n\n{body}\n")


def _metadata(name: str, story: Mapping[str, Any], manifest: Mapping[str, Any]) -> dict[str, Any]:
    library, tag = ("transformers", "onnx") if _encoder(manifest) else ("minikin", "static-embeddings")
    task, metrics = ("text-classification", "Text classification"), (ACCURACY, MACRO_F1)
    return front_matter(name, story, about_teacher(manifest), library, tag, task, metrics)


def front_matter(
    name: str,
    story: Mapping[str, Any],
    origin: Mapping[str, str],
    library: str,
    tag: str,
    task: tuple[str, str],
    metrics: Sequence[tuple[str, str, str]],
) -> dict[str, Any]:
    """The front matter that the Hub reads; see https://huggingface.co/docs/hub/model-cards.

    `origin` holds name and licence of what the kin comes from, `task` type and title, `metrics` key, type and title.
    """
    student = part(story, "measurements", "student") or {}
    found = [
        {"type": kind, "name": title, "value": round(value, 6)}
        for key, kind, title in metrics
        if (value := number(student.get(key))) is not None
    ]
    results = {
        "task": {"type": task[0], "name": task[1]},
        "dataset": {"type": slug(name), "name": name, "split": "test"},
        "metrics": found,
    }
    metadata: dict[str, Any] = {
        "license": origin["licence"],
        "pipeline_tag": task[0],
        "library_name": library,
        "tags": ["minikin", "knowledge-distillation", "quantized", tag],
        "base_model": origin["name"] if HUB_NAME.fullmatch(origin["name"]) else None,
        "model-index": [{"name": name, "results": [results]}] if found else None,
    }
    return {key: value for key, value in metadata.items() if value}


def _what(story: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """What it is, in a paragraph: the verdict, the task, the labels."""
    labels = [str(label) for label in story.get("labels") or manifest.get("labels") or ()]
    shown = ", ".join(f"`{flat(label)}`" for label in labels[:LABELS_SHOWN])
    more = f" and {len(labels) - LABELS_SHOWN} more" if len(labels) > LABELS_SHOWN else ""
    teacher = about_teacher(manifest)["name"]
    origin = f"distilled from {flat(teacher)}" if teacher else "trained from gold labels alone"
    kind = "small transformer encoder" if _encoder(manifest) else "static-embedding model"
    paragraphs = [
        flat(str(story.get("verdict") or words.verdict(story))),
        f"A {kind} that sorts texts into {words.count(len(labels), 'label')}, {origin} with minikin.",
        f"Labels: {shown}{more}." if labels else "",
    ]
    return "\n\n".join(p for p in paragraphs if p)


def _use(story: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """How to ask it, with minikin and with what else reads it."""
    differences = part(story, "differences") or []
    first = differences[0].get("text") if differences else EXAMPLE
    pair = isinstance(first, list | tuple)
    argument = '("first text", "second text")' if pair else f'"{EXAMPLE}"'
    own = f'```python\nimport minikin as mk\n\nkin = mk.load("path/to/this/folder")\nprint(kin({argument}))\n```'
    if not _encoder(manifest):
        return own + "\n\nIt runs with numpy and tokenizers alone; no torch is needed."
    ask = '{"text": "first text", "text_pair": "second text"}' if pair else argument
    transformers = (
        "```python\nfrom transformers import pipeline\n\n"
        f'classify = pipeline("text-classification", model="path/to/this/folder")\nprint(classify({ask}))\n```'
    )
    encode = '"first text", "second text"' if pair else argument
    onnx = (
        "```python\nimport numpy as np\nimport onnxruntime as ort\nfrom tokenizers import Tokenizer\n\n"
        'tokenizer = Tokenizer.from_file("tokenizer.json")\n'
        'session = ort.InferenceSession("onnx/model_quantized.onnx")\n'
        f"encoding = tokenizer.encode({encode})\n"
        'fields = {"input_ids": encoding.ids, "attention_mask": encoding.attention_mask, '
        '"token_type_ids": encoding.type_ids}\n'
        "wanted = {i.name for i in session.get_inputs()}\n"
        "inputs = {k: np.array([v], np.int64) for k, v in fields.items() if k in wanted}\n"
        "print(session.run(None, inputs)[0].argmax())\n```"
    )
    return f"{own}\n\nIn transformers:\n\n{transformers}\n\nIn ONNX Runtime alone:\n\n{onnx}"


def interval(pair: Any) -> str:
    """From one share to another, in per cent."""
    low, high = pair or (None, None)
    return f"{words.percent(low)} to {words.percent(high)}" if number(low) is not None else words.NONE


COLUMNS: Columns = (
    ("accuracy", "accuracy", words.percent),
    ("95 % interval", "accuracy_interval", interval),
    ("macro-F1", "macro_f1", words.percent),
    ("ECE", "ece", words.percent),
    ("size", "size_mib", words.mib),
    *words.LATENCY,
)


def side_by_side(story: Mapping[str, Any], rows: Mapping[str, str], columns: Columns, how: str) -> str:
    """A table of what was measured, a row for each of `rows` (its key and its title) that was; and `how` it was."""
    measured = part(story, "measurements") or {}
    lines = ["| | " + " | ".join(heading for heading, _, _ in columns) + " |", "|---" + "|---:" * len(columns) + "|"]
    for who, title in rows.items():
        if isinstance(m := measured.get(who), Mapping):
            lines.append(f"| {title} | " + " | ".join(shown(m.get(key)) for _, key, shown in columns) + " |")
    if len(lines) == 2:
        return "Not measured yet."
    processor = part(story, "machine", "processor")
    where = f" on {flat(str(processor))}" if processor else ""
    return "\n".join(lines) + f"\n\n{how}{where}.{words.busy(measured)} The whole story is in `report.html`."


def _table(story: Mapping[str, Any]) -> str:
    """Teacher, student and baselines side by side."""
    how = (
        "All on the same test texts; this model as the packaged file answers, in the runtime that ships. "
        "Latency is from raw text to answer, one text at a time, one thread"
    )
    return side_by_side(story, ROWS, COLUMNS, how)


def per_gate(story: Mapping[str, Any]) -> str:
    """The gate's answer, and the paired differences."""
    lines = []
    lexical = "the nearest prompt's answer" if story.get("task") == "generate" else "TF-IDF"
    passed = story.get("passed")
    if passed is not None:
        reasons = [flat(str(r)) for r in story.get("reasons") or part(story, "gate", "reasons") or ()]
        lines.append(f"- Gate: {'passed' if passed else 'failed'}{': ' + '; '.join(reasons) if reasons else ''}")
    gap = number(part(story, "gate", "gap_closed"))
    if gap is not None:
        lines.append(f"- Share of the gap from {lexical} to the teacher that is closed: {words.percent(gap, 0)}")
    names = {"teacher": "the teacher", "student_without_teacher": "the same student without it", "tfidf": lexical}
    for who, title in names.items():
        pair = part(story, "paired", who)
        if isinstance(pair, Mapping) and number(pair.get("difference")) is not None:
            low, high = pair.get("interval") or (None, None)
            lines.append(
                f"- Against {title}: {words.points(pair['difference'])} points "
                f"({words.points(low)} to {words.points(high)}; McNemar p {words.p_value(pair.get('mcnemar_p'))})"
            )
    return "\n".join(lines)


def _limits(story: Mapping[str, Any]) -> str:
    """What it can't do, from what was measured."""
    lines = [
        "- It always answers with one of its labels, also to texts that belong to none of them.",
        "- The figures hold for texts like those of the test split; other domains and languages were not measured.",
    ]
    typo = number(part(story, "measurements", "student", "typo_accuracy"))
    if typo is not None:
        lines.append(f"- With one typo in each text its accuracy is {words.percent(typo)}.")
    weakest = sorted(
        (recall, str(row.get("label")))
        for row in part(story, "per_class") or []
        if (recall := number(row.get("student_recall"))) is not None
    )[:3]
    if weakest:
        listed = words.join([f"`{flat(label)}` ({words.percent(recall, 0)})" for recall, label in weakest])
        lines.append(f"- Weakest classes, by recall: {listed}.")
    return "\n".join(lines)


def provenance(story: Mapping[str, Any], manifest: Mapping[str, Any]) -> str:
    """Where it comes from: teacher with licence, data, recipe, seeds."""
    teacher, counts = about_teacher(manifest), part(story, "data", "counts") or {}
    licence = f", licence {flat(teacher['licence'])}" if teacher["licence"] else ""
    base = about_teacher(manifest, "base")
    its_licence = f", licence {flat(base['licence'])}" if base["licence"] else ""
    trained = words.join([f"{n:,} {name}" for name, n in counts.items() if number(n)])
    facts = [
        ("Teacher", f"{flat(teacher['name'])}{licence}" if teacher["name"] else "none; trained from gold labels"),
        ("Began as", f"{flat(base['name'])}{its_licence}" if base["name"] else ""),
        ("Texts", trained),
        ("Seeds", ", ".join(f"{k} {v}" for k, v in (part(story, "seeds") or {}).items())),
        ("Recipe SHA-256", f"`{manifest['recipe_sha256']}`" if manifest.get("recipe_sha256") else ""),
        ("Every file", "with size and SHA-256 in `minikin.json`; the recipe as resolved in `recipe.yaml`"),
    ]
    return "\n".join(f"- {name}: {value}" for name, value in facts if value)


def about_teacher(manifest: Mapping[str, Any], key: str = "teacher") -> dict[str, str]:
    """Name and licence of the teacher (or of the `base` that a student began as), empty where unknown.

    The manifest holds a mapping, a name or None.
    """
    teacher = manifest.get(key)
    if isinstance(teacher, str):
        return {"name": teacher, "licence": ""}
    if not isinstance(teacher, Mapping):
        return {"name": "", "licence": ""}
    licence = teacher.get("licence") or teacher.get("license") or ""
    return {"name": str(teacher.get("name") or ""), "licence": str(licence)}


def _encoder(manifest: Mapping[str, Any]) -> bool:
    """Whether transformers can read the kin."""
    family = manifest.get("family")
    files = manifest.get("files") or {}
    return family == "encoder" if family else any(str(name).endswith(".onnx") for name in files)


def flat(text: str) -> str:
    """Text that stays on one line and is no markup: for names and labels that users chose."""
    one_line = " ".join(text.split())
    return one_line.replace("&", "&amp;").replace("<", "&lt;").replace("`", "ʼ").replace("|", "\\|")


def slug(name: str) -> str:
    """A name as the Hub's metadata takes it."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "data"
