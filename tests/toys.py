"""A toy teacher and toy data that any test can use: two layers of 32, a WordPiece tokenizer, four labels.

`toy_checkpoint(folder)` and `toy_csv(folder)` write files and return their paths; the same bytes every time.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

LABELS = ("billing", "delivery", "outage", "praise")
_WORDS: Mapping[str, str] = {
    "billing": "invoice charge refund paid price twice fee card bill money account overcharged",
    "delivery": "parcel router box courier arrived late address shipped package door tracking post",
    "outage": "down offline slow broken internet dropped signal disconnected buffering lights red dead",
    "praise": "thanks great lovely happy wonderful kind helpful brilliant quick friendly superb best",
}
TOPICS = {label: words.split() for label, words in _WORDS.items()}
COMMON = "my the is it please today again since week you help with still and for this why was your service"
MAX_LENGTH = 24


def sentences(rows: int, seed: int = 0, labels: Sequence[str] = LABELS) -> Iterator[tuple[str, str]]:
    """Yield (text, label): seven to ten words, three or four of them from the label's own list."""
    rng = np.random.default_rng(seed)
    for i in range(rows):
        label = labels[i % len(labels)]
        words = [*rng.choice(COMMON.split(), int(rng.integers(4, 7)), replace=False)]
        for topic in rng.choice(TOPICS[label], int(rng.integers(3, 5)), replace=False):
            words.insert(int(rng.integers(len(words) + 1)), topic)
        yield " ".join(map(str, words)), label


def toy_csv(
    folder: Path, rows: int = 200, labels: Sequence[str] = LABELS, *, pair: bool = False, seed: int = 0
) -> Path:
    """Write `data.csv` (or `pairs.csv` with columns `left`, `right`): small, and easy to learn."""
    path = folder / ("pairs.csv" if pair else "data.csv")
    folder.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["left", "right", "label"] if pair else ["text", "label"])
        for text, label in sentences(rows, seed, labels):
            if pair:
                words = text.split()
                writer.writerow([" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :]), label])
            else:
                writer.writerow([text, label])
    return path


@cache
def toy_tokenizer() -> str:
    """A WordPiece tokenizer learned from fixed text, about 250 pieces."""
    from minikin.students.tokenizer import learn

    return learn((text for text, _ in sentences(400, seed=99)), 400)


def toy_checkpoint(
    folder: Path,
    *,
    labels: Sequence[str] = (),
    layers: int = 2,
    hidden: int = 32,
    initializer: float = 0.02,
    seed: int = 0,
) -> Path:
    """Write a BERT of `layers` × `hidden` (2 heads, 64 neurons) with its fast tokenizer; a classifier with `labels`."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification, BertModel

    names = {"id2label": dict(enumerate(labels)), "label2id": {v: i for i, v in enumerate(labels)}} if labels else {}
    settings = BertConfig(
        vocab_size=len(json.loads(toy_tokenizer())["model"]["vocab"]),
        num_hidden_layers=layers,
        hidden_size=hidden,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=64,
        initializer_range=initializer,
        **names,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertForSequenceClassification(settings) if labels else BertModel(settings)
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(toy_tokenizer(), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "pad_token": "[PAD]", "unk_token": "[UNK]"})
    )
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# A toy\n", encoding="utf-8")
    return folder


def toy_recipe(folder: Path, **changes: Any) -> Any:
    """A recipe over `toy_csv` and `toy_checkpoint` with everything minimal; `changes` are top-level keys."""
    from minikin.recipe.read import of_values

    values: dict[str, Any] = {
        "name": "toy",
        "data": {"train": str(folder / "data.csv"), "max_length": MAX_LENGTH},
        "teacher": {
            "model": str(folder / "teacher"),
            "epochs": 2,
            "learning_rate": 5e-3,
            "batch": 16,
            "freeze_embeddings": False,
        },
        "student": {"family": "encoder", "start": "cut", "layers": 1, "hidden": 32, "feed_forward": 32},
        "distil": {"epochs": 4, "augment": 1},
        "quantize": "int8",
        "train": {"batch": 16, "learning_rate": 5e-3, "threads": 1},
        "gate": {"max_flips": 0.25},
    }
    return of_values({**values, **changes})


def toy_project(folder: Path, **checkpoint: Any) -> Path:
    """`data.csv` and `teacher/` side by side in `folder`."""
    toy_csv(folder)
    toy_checkpoint(folder / "teacher", **checkpoint)
    return folder
