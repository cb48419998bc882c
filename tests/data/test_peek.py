from __future__ import annotations

import json
from pathlib import Path

import pytest

from minikin.base.errors import DataError
from minikin.data.peek import VALUES_KEPT, example_faults, peek

ROWS = [("hello there", "a"), ("bye now", "b"), ("hello again", "a")]


def written(folder: Path, form: str) -> str:
    path = folder / f"d.{form}"
    if form == "parquet":
        import pyarrow as pa
        import pyarrow.parquet as parquet

        parquet.write_table(pa.table({"text": [t for t, _ in ROWS], "label": [n for _, n in ROWS]}), path)
    elif form == "jsonl":
        path.write_text("\n".join(json.dumps({"text": t, "label": n}) for t, n in ROWS))
    else:
        mark = "\t" if form == "tsv" else ","
        path.write_text(f"text{mark}label\n" + "".join(f"{t}{mark}{n}\n" for t, n in ROWS), encoding="utf-8-sig")
    return str(path)


@pytest.mark.parametrize("form", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_is_seen_alike(tmp_path: Path, form: str) -> None:
    seen = peek(written(tmp_path, form))
    assert seen.rows == 3
    assert [c.name for c in seen.columns] == ["text", "label"]
    assert seen.column("label").values == {"a": 2, "b": 1}
    assert seen.column("text").longest == 11
    assert seen.column("text").mean_length == pytest.approx(29 / 3)


def test_many_values_are_not_kept(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,label\n" + "".join(f"t{i},l{i % 2}\n" for i in range(VALUES_KEPT + 1)))
    seen = peek(str(tmp_path / "d.csv"))
    assert seen.column("text").values is None
    assert seen.column("text").filled == VALUES_KEPT + 1


def test_broken_rows_are_told(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,label\na,b\nonly one\nc,d\n")
    seen = peek(str(tmp_path / "d.csv"))
    assert seen.rows == 2
    assert "row 2" in seen.faults[0]


def test_short_labels_that_repeat_are_duplicates(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("text,label\nhi,1\nHI!,1\nhi,2\n")
    first, second = sorted(example_faults(str(tmp_path / "d.csv"), ("text",), "label"), key=len)
    assert "row 2" in first
    assert "row 3" in second


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"PAR1xx", b"\x1f\x8b", b"text,label\n"])
def test_files_that_hold_nothing_to_see(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "d.csv").write_bytes(content)
    with pytest.raises(DataError):
        peek(str(tmp_path / "d.csv"))


@pytest.mark.parametrize("name", ["nowhere.csv", "."])
def test_paths_that_are_no_files(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError):
        peek(str(tmp_path / name))
