import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from minikin.base.errors import DataError
from minikin.base.types import Data
from minikin.data.load import read

Write = Callable[..., str]


def distinct(n: int, labels: int = 2) -> list[tuple[str, str]]:
    """Return n texts without near-duplicates, labels taken in turn."""
    return [
        (f"{chr(97 + i % 26) * 6} number {i * 7919} {chr(97 + i // 26 % 26) * 7}", f"l{i % labels}") for i in range(n)
    ]


def _kinds(data: Data) -> dict[str, tuple[int, ...]]:
    return {fault.kind: fault.rows for fault in data.faults}


def test_splits_are_made_disjoint_and_stratified(write: Write, tmp_path: Path) -> None:
    seen: list[float] = []
    data = read(write(distinct(400, 4)), cache=tmp_path / "c", progress=lambda share, _words: seen.append(share))
    parts = [data.train, data.validation, data.calibration, data.test]
    assert [len(part) for part in parts] == [272, 24, 24, 80]
    assert sorted(np.concatenate([part.rows_N for part in parts])) == list(range(1, 401))
    assert np.bincount(data.test.labels_N).tolist() == [20] * 4
    assert data.labels == ("l0", "l1", "l2", "l3")
    assert data.faults == ()
    assert seen == sorted(seen)
    assert seen[-1] == 1


def test_texts_labels_and_rows_belong_together(write: Write, tmp_path: Path) -> None:
    rows = distinct(200, 3)
    data = read(write(rows), cache=tmp_path / "c")
    for part in (data.train, data.validation, data.calibration, data.test):
        for text, label, row in zip(part.texts, part.labels_N, part.rows_N, strict=True):
            assert rows[row - 1] == (text, data.labels[label])


def test_same_seed_same_digest(write: Write, tmp_path: Path) -> None:
    path = write(distinct(100))
    digests = [read(path, cache=tmp_path / str(k), seed=seed).digest for k, seed in enumerate((0, 0, 1))]
    assert digests[0] == digests[1] != digests[2]
    other = write([*distinct(99), ("something else", "l1")], "other.csv")
    assert read(other, cache=tmp_path / "o").digest != digests[0]


def test_given_splits_are_used_and_leaks_kept_out(write: Write, tmp_path: Path) -> None:
    rows = distinct(60)
    test = [(rows[0][0].upper() + "!", "l0"), ("never seen before", "l1"), ("strange", "L0"), ("x", "other")]
    data = read(
        write(rows),
        test=write(test, "test.csv"),
        validation=write([("valid one", "l0"), ("other thing", "l1")], "valid.csv"),
        unlabelled=write([("more text",), (test[1][0],)], "more.csv", "text"),
        cache=tmp_path / "c",
    )
    assert [len(p) for p in (data.test, data.validation, data.calibration, data.train)] == [2, 2, 4, 55]
    assert list(data.unlabelled.texts) == ["more text"]
    assert data.unlabelled.labels_N.tolist() == [-1]
    assert _kinds(data)["unseen-label"] == (3, 4)
    assert 1 not in data.train.rows_N
    messages = " ".join(fault.message for fault in data.faults)
    assert "train: 1 row equal to a text of test, left out: row 1" in messages
    assert "'other'" in messages


def test_faults_of_rows_are_told_by_number(write: Write, tmp_path: Path) -> None:
    path = Path(write(distinct(60)))
    odd = ["  ,l0", "no label,", "with\x00nul,l1", "too,many,fields", f"{'long ' * 25_000},l0", "lonely,seen once"]
    with path.open("a") as file:
        file.write("\n".join([*odd, "twice told,l0", "Twice told!,l0", "torn,l0", "torn,l1", "bad "]))
    with path.open("ab") as file:
        file.write(b"\xe9 byte,l0\n" + "é".encode() * 3 + b",l0\n")
    data = read(str(path), cache=tmp_path / "c")
    assert _kinds(data) == {
        "empty-text": (61,),
        "missing-label": (62,),
        "nul": (63,),
        "broken-row": (64,),
        "long-text": (65,),
        "rare-label": (66,),
        "duplicate": (68,),
        "conflict": (69, 70),
        "undecodable": (71,),
    }
    texts = {
        row: text
        for part in (data.train, data.validation, data.calibration, data.test)
        for row, text in zip(part.rows_N.tolist(), part.texts, strict=True)
    }
    assert texts[63] == "withnul"
    assert texts[71] == "bad \ufffd byte"
    assert 66 in data.train.rows_N


def test_lone_surrogates_in_jsonl(tmp_path: Path) -> None:
    lines = [f'{{"text": "{text}", "label": {k % 2}}}' for k, (text, _) in enumerate(distinct(30))]
    (tmp_path / "a.jsonl").write_text(
        "\n".join(
            [
                *lines,
                r'{"text": "half \ud83d smile", "label": true}',
                r'{"text": ["a"], "label": 1}',
                r'{"text": null, "label": 1}',
            ]
        )
    )
    data = read(str(tmp_path / "a.jsonl"), cache=tmp_path / "c")
    assert _kinds(data)["surrogate"] == (31,)
    assert _kinds(data)["broken-row"] == (32,)
    assert _kinds(data)["empty-text"] == (33,)
    assert data.labels == ("0", "1", "true")


def test_windows_encoding_is_read_and_said(tmp_path: Path) -> None:
    rows = "\n".join(f"{text} café,{label}" for text, label in distinct(30))
    (tmp_path / "a.csv").write_bytes(f"text,label\n{rows}\n".encode("cp1252"))
    data = read(str(tmp_path / "a.csv"), cache=tmp_path / "c")
    assert "encoding" in _kinds(data)
    assert all(str(text).endswith("café") for text in data.train.texts)


def test_pairs(write: Write, tmp_path: Path) -> None:
    rows = [(text, f"the other side {text}", label) for text, label in distinct(40)]
    data = read(write(rows, header="first,second,label"), text=["first", "second"], cache=tmp_path / "c")
    assert data.pair
    assert all(second == f"the other side {first}" for first, second in data.train.texts)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([("a", "x"), ("b", "x")], "every row has the label 'x'"),
        ([("a", "x"), ("b", "y"), ("c", "z")], "a label of its own"),
        ([(" ", "x"), ("", "y")], "no row that can be used"),
        ([], "no row that can be used"),
    ],
)
def test_unlearnable_training_data_is_refused(
    write: Write, tmp_path: Path, rows: list[tuple[str, str]], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        read(write(rows), cache=tmp_path / "c")


def test_fewer_rows_than_classes(write: Write, tmp_path: Path) -> None:
    test = write([(f"t{k}", f"l{k}") for k in range(6)], "test.csv")
    with pytest.raises(DataError, match="3 rows for 6 labels"):
        read(write([("a", "l0"), ("b", "l0"), ("c", "l1")]), test=test, cache=tmp_path / "c")


def test_everything_fatal_is_told_at_once(write: Write, tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        read(
            write([("a", "x"), ("b", "x"), ("", "x")]),
            test=str(tmp_path / "tset.csv"),
            validation=str(tmp_path),
            unlabelled=write([("a",)], "more.csv", "txt"),
            cache=tmp_path / "c",
        )
    faults = " ".join(raised.value.faults)
    for words in ("every row has the label", "no file", "is a folder", "no column 'text'", "1 row without text"):
        assert words in faults


def test_a_class_lost_to_the_test_split_is_refused(write: Write, tmp_path: Path) -> None:
    rows = [("same text", "b"), *((text, "a") for text, _ in distinct(10))]
    with pytest.raises(DataError, match="once repeated and leaked rows are left out"):
        read(write(rows), test=write([("same text", "b")], "test.csv"), cache=tmp_path / "c")


def test_importing_the_stage_loads_nothing_heavy() -> None:
    code = "import sys, minikin.data.load; print([m for m in ('pyarrow', 'datasets', 'torch') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_banking77_reads_fast(public: Path, tmp_path: Path) -> None:
    folder = public / "banking77"
    started = time.process_time()
    data = read(str(folder / "train.csv"), test=str(folder / "test.csv"), label="category", cache=tmp_path)
    assert time.process_time() - started < 10
    assert len(data.test) == 3080
    assert len(data.labels) == 77
    assert 9_700 < sum(map(len, (data.train, data.validation, data.calibration))) < 9_900


def test_pairs_of_glue_with_loose_quotation_marks(public: Path, tmp_path: Path) -> None:
    path = public / "glue_mrpc" / "msr_paraphrase_test.txt"
    data = read(str(path), text=["#1 String", "#2 String"], label="Quality", cache=tmp_path)
    assert sum(map(len, (data.train, data.validation, data.calibration, data.test))) == 1725
    assert data.labels == ("0", "1")
