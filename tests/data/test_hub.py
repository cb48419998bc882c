import json
from pathlib import Path
from typing import Any

import pytest

from minikin.data.faults import Bag
from minikin.data.formats import batches


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Lay out a data set as the Hub does, and keep the library's cache in the temporary folder."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    (tmp_path / "set").mkdir()
    for split, texts in {"train": ["a", "b", "c"], "test": ["d"]}.items():
        lines = [json.dumps({"text": text, "label": k % 2, "id": k}) for k, text in enumerate(texts)]
        (tmp_path / "set" / f"{split}.jsonl").write_text("\n".join(lines))
    return tmp_path / "set"


def _read(source: str, role: str) -> tuple[list[tuple[Any, ...]], Bag]:
    bag = Bag()
    return [row for b in batches(source, ("text", "label"), role, bag) for row in zip(*b.columns, strict=True)], bag


def test_split_is_the_one_named_or_the_roles_own(folder: Path) -> None:
    assert _read(f"hf:{folder}", "train")[0] == [("a", 0), ("b", 1), ("c", 0)]
    assert _read(f"hf:{folder}", "test")[0] == [("d", 0)]
    assert _read(f"hf:{folder}:test", "train")[0] == [("d", 0)]
    assert _read(f"hf:{folder}:default:test", "train")[0] == [("d", 0)]


@pytest.mark.parametrize(
    ("suffix", "role", "words"),
    [
        ("", "validation", "has no split 'validation'; it has train, test"),
        (":a:b:c", "train", "owner/name:config:split"),
        ("-that-is-not-there", "train", "can't be loaded"),
    ],
)
def test_what_is_not_there_is_said(folder: Path, suffix: str, role: str, words: str) -> None:
    found, bag = _read(f"hf:{folder}{suffix}", role)
    assert found == []
    assert words in bag.faults()[0].message


def test_missing_column_of_a_hub_set(folder: Path) -> None:
    bag = Bag()
    assert list(batches(f"hf:{folder}", ("txt", "label"), "train", bag)) == []
    assert "did you mean 'text'?" in bag.faults()[0].message
