import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from minikin.data.faults import Bag
from minikin.data.formats import batches


def _read(path: Path, wanted: tuple[str, ...] = ("text", "label")) -> tuple[list[tuple[Any, ...]], Bag]:
    bag = Bag()
    found = [row for b in batches(str(path), wanted, "train", bag) for row in zip(b.rows, *b.columns, strict=True)]
    return found, bag


def _fatal(bag: Bag) -> list[tuple[str, str]]:
    return [(fault.kind, fault.message) for fault in bag.faults() if fault.fatal]


ROWS = [(1, "a", "x"), (2, "b\nc", "y")]


def test_every_format_gives_the_same_rows(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('\ufefftext,label\na,x\n"b\nc",y\n', encoding="utf-8")
    (tmp_path / "a.tsv").write_text('label\ttext\nx\ta\ny\t"b\nc"\n', encoding="utf-16")
    lines = [json.dumps({"text": text, "label": label, "more": [1]}) for _, text, label in ROWS]
    (tmp_path / "a.jsonl").write_text("\n\n".join(lines))
    pq.write_table(pa.table({"label": ["x", "y"], "text": ["a", "b\nc"]}), tmp_path / "a.parquet")
    for name in ("a.csv", "a.tsv", "a.jsonl", "a.parquet"):
        found, bag = _read(tmp_path / name)
        assert found == ROWS, name
        assert not bag.faults()


def test_format_is_found_by_content_where_the_name_lies(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"], "label": ["x"]}), tmp_path / "a.csv")
    (tmp_path / "b").write_text('{"text": "a", "label": "x"}\n')
    assert _read(tmp_path / "a.csv")[0] == _read(tmp_path / "b")[0] == ROWS[:1]


def test_class_labels_of_datasets_get_their_names(tmp_path: Path) -> None:
    features = {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}, "text": {"dtype": "string", "_type": "Value"}}
    table = pa.table({"text": ["a", "b", "c"], "label": [1, 0, -1]})
    table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    pq.write_table(table, tmp_path / "a.parquet")
    assert [row[2] for row in _read(tmp_path / "a.parquet")[0]] == ["yes", "no", None]


def test_plain_lines_are_texts_without_labels(tmp_path: Path) -> None:
    (tmp_path / "more.txt").write_text("one, and a half\ntwo\n")
    assert _read(tmp_path / "more.txt", ("text",))[0] == [(1, "one, and a half"), (2, "two")]


def test_broken_json_lines_are_told_by_row_and_line(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "a", "label": "x"}\n\n{"text": \n[1]\n{"text": "d"}\n')
    found, bag = _read(tmp_path / "a.jsonl")
    assert found == [(1, "a", "x"), (4, "d", None)]
    assert bag.faults()[0].rows == (2, 3)
    assert "line 3" in bag.faults()[0].message


@pytest.mark.parametrize(
    ("name", "content", "kind", "words"),
    [
        ("a.csv", b"", "empty-file", "is empty"),
        ("a.csv", b" \n\n", "empty-file", "white space"),
        ("a.csv", b"txt,label\na,x\n", "missing-column", "did you mean 'txt'?"),
        (
            "a.csv",
            b"hello there,greeting\n",
            "missing-column",
            "only 'hello there', 'greeting'; is the first line data",
        ),
        ("a.jsonl", b'{"Text": "a", "label": 1}\n', "missing-column", "did you mean 'Text'?"),
        ("a.json", b'[{"text": "a"}]', "format", "one object per line"),
        ("a.jsonl", b"nonsense\n", "format", "no line that is a JSON object"),
        ("a.xlsx", b"PK\x03\x04....", "format", "spreadsheet"),
        ("a.parquet", b"PAR1 but not really", "unreadable", "not a whole Parquet file"),
    ],
)
def test_unusable_files_say_why(tmp_path: Path, name: str, content: bytes, kind: str, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    found, bag = _read(tmp_path / name)
    assert found == []
    assert _fatal(bag)[0][0] == kind
    assert words in _fatal(bag)[0][1]


def test_missing_files_and_folders_name_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text,label\n")
    assert "did you mean 'train.csv'?" in _fatal(_read(tmp_path / "trian.csv")[1])[0][1]
    assert "holds train.csv" in _fatal(_read(tmp_path)[1])[0][1]


def test_unreadable_file_is_a_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.csv").write_text("text,label\n")

    def refuse(*_args: Any, **_kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    assert "Permission denied" in _fatal(_read(tmp_path / "a.csv")[1])[0][1]
