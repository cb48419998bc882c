"""The store of next-token signals: what the teacher said, in few bytes, resumed to the same ones, checked when read."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from minikin.base.errors import TeacherError
from minikin.equations import sequence
from minikin.feed.align import matched
from minikin.feed.decoder import Asked
from minikin.feed.rows import tokens
from minikin.teachers import token_signals as store
from minikin.teachers.token_signals import Kept
from toy_decoders import VOCABULARY, decoder, many

ROWS = many(24)
ALL = np.arange(24)
TEACHER = Asked(decoder(seed=5), digest="five")
COUNT = int(ROWS.learnt_NT.sum())


@pytest.fixture(autouse=True)
def small_shards(monkeypatch):
    monkeypatch.setattr(store, "SHARD_TOKENS", 20)
    monkeypatch.setattr(store, "BATCH_TOKENS", 48)
    monkeypatch.setattr(store, "CHUNK_BYTES", 7 * 4 * VOCABULARY)


def said(temperature: float = 1.0) -> torch.Tensor:
    batch = tokens(ROWS, ALL)
    return TEACHER.head.logits(batch.before_learnt(TEACHER.states(batch)[0])) / temperature


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_what_is_read_is_what_the_teacher_said(tmp_path, temperature):
    store.collect(TEACHER, ROWS, tmp_path / "store", Kept(k=6, temperature=temperature))
    found = store.read(tmp_path / "store", ROWS)
    assert len(found.shards) > 3
    assert all(isinstance(shard, np.memmap) for shard in found.shards)
    expected_ids, expected = sequence.top(said(temperature), 6)
    ids_MK, values_MK, rest_M = found.of_rows(ALL)
    assert (ids_MK == expected_ids.numpy()).mean() > 0.99  # near ties may swap between batches of other sizes
    np.testing.assert_allclose(values_MK, expected[:, :-1], atol=0.01)
    np.testing.assert_allclose(rest_M, expected[:, -1], atol=0.01)
    np.testing.assert_allclose(np.exp(values_MK).sum(1) + np.exp(rest_M), 1.0, atol=0.01)
    assert (found.kind, found.vocabulary, found.temperature, found.digest) == ("top", VOCABULARY, temperature, "five")


def test_any_rows_in_any_order_are_read(tmp_path):
    store.collect(TEACHER, ROWS, tmp_path / "store", Kept(k=4))
    found = store.read(tmp_path / "store", ROWS)
    chosen = np.array([17, 3, 3, 0, 23])
    parts = [found.of_rows(np.array([row])) for row in chosen]
    for together, apart in zip(found.of_rows(chosen), zip(*parts, strict=True), strict=True):
        np.testing.assert_array_equal(together, np.concatenate(apart))
    assert [len(x) for x in found.of_rows(np.zeros(0, int))] == [0, 0, 0]


def test_draws_are_stored_with_weights_and_entropy(tmp_path):
    store.collect(TEACHER, ROWS, tmp_path / "store", Kept("sampled", k=2000))
    ids_MK, weights_MK, entropy_M = store.read(tmp_path / "store", ROWS).of_rows(ALL)
    mean_MV = np.zeros((COUNT, VOCABULARY))
    np.add.at(mean_MV, (np.arange(COUNT)[:, None], ids_MK), weights_MK)
    np.testing.assert_allclose(mean_MV, said().softmax(-1), atol=0.07)
    np.testing.assert_allclose(entropy_M, sequence.entropy(said()), atol=0.01)


@pytest.mark.parametrize(("vocabulary", "k", "size"), [(32_000, 28, 114), (65_537, 28, 170), (128_000, 49, 296)])
def test_a_token_takes_few_bytes(vocabulary, k, size):
    assert Kept(k=k).record(vocabulary).itemsize == size


def test_the_files_take_what_is_said(tmp_path):
    store.collect(TEACHER, ROWS, tmp_path / "store", Kept(k=6))
    meta = json.loads((tmp_path / "store" / "signals.json").read_text())
    assert meta["bytes_per_token"] == 26
    sizes = [p.stat().st_size for p in (tmp_path / "store").glob("*.npy")]
    assert sum(sizes) - COUNT * 26 < 256 * len(sizes)  # the headers
    assert meta["kept"]["k"] == 6


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir())}


@pytest.mark.parametrize("kind", ["top", "sampled"])
@pytest.mark.parametrize("dies_at", [1, 3])
def test_a_killed_run_goes_on_after_the_last_whole_shard(tmp_path, monkeypatch, kind, dies_at):
    kept = Kept(kind, k=3)
    store.collect(TEACHER, ROWS, tmp_path / "whole", kept)
    asked, records = [], store._records

    def dies(teacher, packed, rows, kept):
        asked.append(rows[0])
        if len(asked) == dies_at + 1:
            raise KeyboardInterrupt
        return records(teacher, packed, rows, kept)

    monkeypatch.setattr(store, "_records", dies)
    with pytest.raises(KeyboardInterrupt):
        store.collect(TEACHER, ROWS, tmp_path / "again", kept, scratch=tmp_path / "scratch")
    assert not (tmp_path / "again").exists()
    before = len(asked)
    store.collect(TEACHER, ROWS, tmp_path / "again", kept, scratch=tmp_path / "scratch")
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    assert len(asked) - before == len(list((tmp_path / "whole").glob("*.npy"))) - dies_at
    assert not (tmp_path / "scratch").exists()


def test_shards_of_other_settings_are_not_gone_on_from(tmp_path, monkeypatch):
    def stop(share: float, _words: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.collect(TEACHER, ROWS, tmp_path / "store", Kept(k=3), progress=stop)
    store.collect(TEACHER, ROWS, tmp_path / "store", Kept(k=5))
    assert store.read(tmp_path / "store", ROWS).of_rows(ALL)[0].shape == (COUNT, 5)


def change_a_byte(folder: Path) -> None:
    path = folder / "000001.npy"
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (change_a_byte, "000001.npy was changed"),
        (lambda folder: (folder / "000002.npy").unlink(), "no whole token signals"),
        (lambda folder: (folder / "signals.json").write_text("{"), "no whole token signals"),
        (lambda folder: (folder / "signals.json").unlink(), "no whole token signals"),
        (lambda folder: (folder / "signals.json").write_text("[]"), "no whole token signals"),
    ],
)
def test_a_damaged_store_is_refused(tmp_path, spoil, words):
    store.collect(TEACHER, ROWS, tmp_path / "store", Kept(k=3))
    spoil(tmp_path / "store")
    with pytest.raises(TeacherError, match=words):
        store.read(tmp_path / "store", ROWS)


def test_a_store_of_other_rows_is_refused(tmp_path):
    store.collect(TEACHER, ROWS, tmp_path / "store", Kept(k=3))
    with pytest.raises(TeacherError, match="other rows"):
        store.read(tmp_path / "store", replace(ROWS, ids_NT=ROWS.ids_NT + 1))


@pytest.mark.parametrize("k", [0, VOCABULARY + 1])
def test_an_impossible_k_is_refused(tmp_path, k):
    with pytest.raises(TeacherError, match=f"k = {k}"):
        store.collect(TEACHER, ROWS, tmp_path / "store", Kept(k=k))


def test_rows_with_a_token_that_the_teacher_lacks_are_refused(tmp_path):
    rows = replace(ROWS, ids_NT=ROWS.ids_NT + VOCABULARY)
    with pytest.raises(TeacherError, match=f"and the teacher has {VOCABULARY}"):
        store.collect(TEACHER, rows, tmp_path / "store", Kept(k=3))
    assert list(tmp_path.iterdir()) == []


def test_another_tokenizers_signals_are_put_beside_the_students_tokens(tmp_path):
    store.collect(TEACHER, ROWS, tmp_path / "store", Kept(k=3))
    found, student = store.read(tmp_path / "store", ROWS), many(5, seed=9)
    learnt = int(student.learnt_NT.sum())
    match_M = np.full(learnt, -1)
    match_M[:4] = [8, 2, 2, COUNT - 1]
    beside = store.realigned(found, student, match_M)
    assert not beside.shared
    assert beside.known(np.arange(5)).sum() == 4
    ids_MK, _, _ = beside.of_rows(np.arange(5))
    np.testing.assert_array_equal(ids_MK[:4], found.of_rows(ALL)[0][[8, 2, 2, COUNT - 1]])
    with pytest.raises(TeacherError, match="at no place in common"):
        store.realigned(found, student, np.full(learnt, -1))
    with pytest.raises(TeacherError, match="3 matches"):
        store.realigned(found, student, np.zeros(3, int))


def test_tokens_match_where_both_begin_after_the_same_text():
    student, teacher = np.array([2, 5, -1, 9, 101]), np.array([102, 5, 101, -1, 1])
    assert matched(student, teacher).tolist() == [-1, 1, -1, -1, 2]
    assert matched(student, teacher[:0]).tolist() == [-1] * 5
