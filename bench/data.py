"""Turns the benchmark sets into plain CSV files: `python bench/data.py [NAME ...]` writes them under bench/runs/data.

The sets lie in the folder that MINIKIN_DATA names (default: `../shared/data` beside this repository).
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
RUNS = ROOT / "bench" / "runs"
Rows = Iterator[tuple[str, ...]]


def source(name: str) -> Path:
    """Folder of one set; stops with what to do when it is not there."""
    folder = Path(os.environ.get("MINIKIN_DATA", ROOT.parent / "shared" / "data")) / name
    if not folder.is_dir():
        raise SystemExit(f"There is no {folder}. Set MINIKIN_DATA to the folder that holds {name}/.")
    return folder


def banking77(split: str) -> Rows:
    """Casanueva et al. 2020: 77 intents of bank customers; train and test as published."""
    with (source("banking77") / f"{split}.csv").open(encoding="utf-8", newline="") as handle:
        for row in csv.DictReader(handle):
            yield row["text"], row["category"]


def clinc150(split: str) -> Rows:
    """Larson et al. 2019: 150 intents, in scope only; train, validation and test as published."""
    rows = json.loads((source("clinc150") / "data_full.json").read_text(encoding="utf-8"))
    yield from ((text, label) for text, label in rows["val" if split == "validation" else split])


def clinc150_oos(split: str) -> Rows:
    """The same with its out-of-scope texts as a class; `pool` is everything that is not for training.

    The published split has 100 of them for training, as many as an intent has and very few for everything else that
    people may say: `train` has 2,000 short instructions of Alpaca beside them that resemble no intent.
    """
    rows = json.loads((source("clinc150") / "data_full.json").read_text(encoding="utf-8"))
    parts = {"train": ("train", "oos_train"), "test": ("test", "oos_test")}
    for part in parts.get(split, ("val", "oos_val", "test", "oos_test")):
        yield from ((text, label) for text, label in rows[part])
    if split == "train":
        yield from ((text, "oos") for text in strangers([text for text, _ in rows["train"]], 2_000))


QUESTIONS = ("what", "who", "when", "where", "why", "how", "which", "is", "are", "can", "could", "do", "does", "should")


def strangers(known: list[str], count: int) -> list[str]:
    """Instructions of Alpaca of 4 to 16 words, spelt as the known texts and unlike all of them; questions first."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    said = json.loads((source("alpaca_5000") / "alpaca_5000.json").read_text(encoding="utf-8"))
    asked = [row["instruction"].lower().rstrip(".?!") for row in said if not row["input"]]
    texts = sorted({text for text in asked if 4 <= len(text.split()) <= 16})
    terms = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    nearest = (terms.fit_transform(known) @ terms.transform(texts).T).max(axis=0).toarray()[0]
    apart = [text for text, likeness in zip(texts, nearest, strict=True) if likeness < 0.4]
    drawn = sorted(apart, key=lambda text: hashlib.sha256(text.encode()).digest())
    return sorted(drawn, key=lambda text: text.split()[0] not in QUESTIONS)[:count]


def glue_sst2(split: str) -> Rows:
    """Socher et al. 2013 as GLUE has it; its test split has no labels, so `dev` is the test split."""
    for sentence, label in _tsv(source("glue_sst2") / ("dev.tsv" if split == "test" else "train.tsv")):
        yield sentence.strip(), ("negative", "positive")[int(label)]


def glue_mrpc(split: str) -> Rows:
    """Dolan & Brockett 2005: pairs of sentences that are paraphrases or not; train and test as published."""
    for quality, _, _, left, right in _tsv(source("glue_mrpc") / f"msr_paraphrase_{split}.txt"):
        yield left, right, ("different", "paraphrase")[int(quality)]


def tinystories(split: str) -> Iterator[str]:
    """Eldan & Li 2023: the cased stories, the last 250 for test."""
    whole = (source("tinystories") / "tinystories_b_2MB.txt").read_text(encoding="utf-8")
    stories = [story.strip() for story in whole.split(END) if story.strip()]
    yield from stories[-250:] if split == "test" else stories[:-250]


def wikitext2(split: str) -> Iterator[str]:
    """Merity et al. 2016, whole articles: those of its test split and the first 30 of validation to train on."""
    heading = re.compile(r"^ = [^=].* = $", re.MULTILINE)
    parts = []
    for name in ("test", "valid"):
        whole = (source("wikitext2") / f"{name}.raw.txt").read_text(encoding="utf-8")
        starts = [found.start() for found in heading.finditer(whole)]
        parts.append([whole[a:b].strip() for a, b in zip(starts, [*starts[1:], len(whole)], strict=True)])
    yield from parts[1][-20:] if split == "test" else [*parts[0], *parts[1][:-20]]


END = "<|endoftext|>"
TEXTS: dict[str, Callable[[str], Iterator[str]]] = {"tinystories": tinystories, "wikitext2": wikitext2}
"""Running text, which has no columns; train and test."""

SETS: dict[str, tuple[Callable[[str], Rows], tuple[str, ...]]] = {
    "banking77": (banking77, ("train", "test")),
    "clinc150": (clinc150, ("train", "validation", "test")),
    "clinc150_oos": (clinc150_oos, ("train", "test", "pool")),
    "glue_sst2": (glue_sst2, ("train", "test")),
    "glue_mrpc": (glue_mrpc, ("train", "test")),
}


def prepare(name: str, folder: Path | None = None) -> dict[str, Path]:
    """Write the splits of one set as CSV into `folder` (default: bench/runs/data/NAME); return them by name.

    Columns are `text` and `label`, or `left`, `right` and `label`. What is there already is left alone.
    """
    read, splits = SETS[name]
    folder = folder or RUNS / "data" / name
    folder.mkdir(parents=True, exist_ok=True)
    paths = {split: folder / f"{split}.csv" for split in splits}
    for split, path in paths.items():
        if path.is_file():
            continue
        rows = list(read(split))
        temporary = path.with_suffix(".part")
        with temporary.open("w", encoding="utf-8", newline="") as handle:
            writer = csv.writer(handle)
            writer.writerow(("text", "label") if len(rows[0]) == 2 else ("left", "right", "label"))
            writer.writerows(rows)
        temporary.replace(path)
    return paths


def prepare_texts(name: str) -> dict[str, Path]:
    """Write train and test of a set of running text into bench/runs/data/NAME, unless they are there; return them."""
    paths = {split: RUNS / "data" / name / f"{split}.txt" for split in ("train", "test")}
    for split, path in paths.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_file():
            temporary = path.with_suffix(".part")
            temporary.write_text(f"\n{END}\n".join(TEXTS[name](split)), encoding="utf-8")
            temporary.replace(path)
    return paths


def _tsv(path: Path) -> Rows:
    """Rows under the header of a file of tab-separated values, in which a quotation mark is only that."""
    with path.open(encoding="utf-8-sig", newline="") as handle:
        rows = csv.reader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(rows)
        yield from (tuple(row) for row in rows if row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(SETS)}; default: all")
    for name in parser.parse_args().names or SETS:
        if name not in SETS:
            raise SystemExit(f"There is no set '{name}'. Known: {', '.join(SETS)}.")
        for split, path in prepare(name).items():
            with path.open(encoding="utf-8", newline="") as handle:
                print(f"{name:<10} {split:<10} {sum(1 for _ in csv.reader(handle)) - 1:>6,} rows  {path}")


if __name__ == "__main__":
    main()
