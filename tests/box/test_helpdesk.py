"""The data in the box: enough of it, nothing twice, and not too easy."""

from __future__ import annotations

import csv
from collections import Counter
from importlib import resources

import numpy as np
import pytest

from minikin.base.types import Split
from minikin.data.clean import normal
from minikin.data.near import pairs
from minikin.equations.metrics import accuracy
from minikin.measure.baselines import tfidf
from minikin.recipe.read import read

BOX = resources.files("minikin") / "box" / "helpdesk"


def rows(name: str) -> list[dict[str, str]]:
    with (BOX / name).open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture(scope="module")
def train() -> list[dict[str, str]]:
    return rows("train.csv")


@pytest.fixture(scope="module")
def test() -> list[dict[str, str]]:
    return rows("test.csv")


def test_there_is_enough_of_every_intent(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    learned, held_out = Counter(r["label"] for r in train), Counter(r["label"] for r in test)
    assert len(learned) == 24
    assert set(learned) == set(held_out)
    assert min(learned.values()) >= 60
    assert min(held_out.values()) >= 20
    outside = rows("out_of_scope.csv")
    assert len(outside) >= 200
    assert len(train) + len(test) + len(outside) >= 2400


def test_nothing_stands_twice_or_nearly_twice(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    texts = [r["text"] for r in [*train, *test, *rows("out_of_scope.csv")]]
    assert len({normal(t) for t in texts}) == len(texts)
    near = pairs(texts, threshold=0.6)
    assert [(texts[a], texts[b]) for a, b in near.tolist()] == []


def test_messages_are_clean(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    for row in [*train, *test, *rows("out_of_scope.csv")]:
        assert row["text"] == " ".join(row["text"].split())
        assert 3 <= len(row["text"]) <= 1200


def test_words_alone_do_not_solve_it(train: list[dict[str, str]], test: list[dict[str, str]]) -> None:
    labels = tuple(sorted({r["label"] for r in train}))

    def split(chosen: list[dict[str, str]]) -> Split:
        ids_N = np.array([labels.index(r["label"]) for r in chosen])
        return Split([r["text"] for r in chosen], ids_N, np.arange(1, len(chosen) + 1))

    held_out = split(test)
    lexical = tfidf(split(train), labels, 0, validation=None)
    score = accuracy(held_out.labels_N, lexical.probabilities(held_out.texts).argmax(1))
    assert 0.5 < score < 0.85


def test_its_recipe_reads_and_names_its_files() -> None:
    with resources.as_file(BOX / "recipe.yaml") as path:
        recipe = read(path)
    assert recipe.name == "helpdesk"
    assert recipe.data.train.endswith("train.csv")
