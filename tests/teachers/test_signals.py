"""The signal store: a killed run goes on to the same bytes, and what is read is what was said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from minikin.base.errors import TeacherError
from minikin.base.types import Text
from minikin.teachers import signals as store

TEXTS = [f"{'word ' * (i % 7)}{i}" for i in range(50)]
KINDS = ["logits", "pooled", "hidden", "attention", "relations"]


class Parrot:
    """A teacher that says numbers that follow from the text; it dies at the `dies_at`-th batch."""

    digest = "parrot"

    def __init__(self, dies_at: int = 10**9) -> None:
        self.asked, self.dies_at = 0, dies_at

    def say(self, texts: Sequence[Text], keep: Sequence[str]) -> Mapping[str, Any]:
        self.asked += 1
        if self.asked == self.dies_at:
            raise KeyboardInterrupt
        said: dict[str, Any] = {"logits": np.stack([value(t, 3) for t in texts])}
        if "pooled" in keep:
            said["pooled"] = np.stack([value(t, 4) for t in texts])
        if "hidden" in keep:
            said["hidden"] = {i: [np.tile(value(t, 4), (tokens(t), 1)) + i for t in texts] for i in range(3)}
        if "attention" in keep:
            said["attention"] = {i: [np.full(tokens(t) ** 2, i, np.float16) for t in texts] for i in (1, 2)}
        if "relations" in keep:
            said["relations"] = {k: [np.tile(value(t, 4), (tokens(t), 1)) for t in texts] for k in ("query", "key")}
        return said


def tokens(text: Text) -> int:
    return len(str(text).split()) + 2


def value(text: Text, width: int) -> np.ndarray:
    return (np.arange(width) + hash_of(str(text))).astype(np.float16)


def hash_of(text: str) -> int:
    return sum(map(ord, text)) % 97


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(store, "SHARD", 8)
    monkeypatch.setattr(store, "BATCH", 3)


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def collect(teacher: Parrot, folder: Path, keep: Sequence[str] = KINDS, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    store.collect(teacher, TEXTS, folder, keep=keep, **more)
    return folder


@pytest.mark.parametrize("dies_at", [1, 2, 4, 9, 17])
def test_a_killed_run_goes_on_after_the_last_whole_shard(tmp_path, dies_at):
    whole = collect(Parrot(), tmp_path / "whole", scratch=tmp_path / "a")
    first, second = Parrot(dies_at), Parrot()
    with pytest.raises(KeyboardInterrupt):
        collect(first, tmp_path / "again", scratch=tmp_path / "b")
    collect(second, tmp_path / "again", scratch=tmp_path / "b")
    assert contents(tmp_path / "again") == contents(whole)
    kept = (dies_at - 1) // 3
    assert second.asked == 19 - 3 * kept  # six shards of three batches, and one of a single one


def test_what_is_read_is_what_was_said(tmp_path):
    found = store.read(collect(Parrot(), tmp_path / "store"), TEXTS, np.zeros(50, np.int64))
    assert len(found) == 50
    assert isinstance(found.logits_NC, np.memmap)
    assert (sorted(found.hidden), sorted(found.attention)) == ([0, 1, 2], [1, 2])
    for i, text in enumerate(TEXTS):
        np.testing.assert_array_equal(found.logits_NC[i], value(text, 3))
        np.testing.assert_array_equal(found.pooled_NH[i], value(text, 4))
        np.testing.assert_array_equal(found.hidden[2][i], np.tile(value(text, 4), (tokens(text), 1)) + 2)
        assert found.attention[1][i].shape == (tokens(text) ** 2,)
        assert found.relations["key"][i].shape == (tokens(text), 4)


def test_only_what_was_asked_for_is_kept(tmp_path):
    folder = collect(Parrot(), tmp_path / "store", keep=["logits"])
    assert sorted(contents(folder)) == ["logits.npy", "signals.json"]
    assert [p.name for p in folder.iterdir() if p.is_dir()] == []
    found = store.read(folder, TEXTS, np.zeros(50, np.int64))
    assert [k for k in KINDS if found.can(k)] == ["logits"]


def test_only_the_named_layers_are_kept(tmp_path):
    found = store.read(collect(Parrot(), tmp_path / "store", layers=[0, 2]), TEXTS, np.zeros(50, np.int64))
    assert (sorted(found.hidden), sorted(found.attention)) == ([0, 2], [2])


def test_a_store_of_other_texts_is_refused(tmp_path):
    folder = collect(Parrot(), tmp_path / "store", keep=["logits"])
    with pytest.raises(TeacherError, match="50 texts, not 49"):
        store.read(folder, TEXTS[1:], np.zeros(49, np.int64))


def test_it_is_compact(tmp_path):
    folder = collect(Parrot(), tmp_path / "store", keep=["logits"])
    assert (folder / "logits.npy").stat().st_size == 128 + 50 * 3 * 2
