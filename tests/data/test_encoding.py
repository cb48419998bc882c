from pathlib import Path

import pytest

from minikin.data.encoding import encoding, on_error, shape

TABLE = "text,label\nçà et là,café\n"


@pytest.mark.parametrize(
    ("codec", "found"),
    [
        ("utf-8", "utf-8"),
        ("utf-8-sig", "utf-8-sig"),
        ("utf-16", "utf-16"),
        ("utf-16-le", "utf-16-le"),
        ("utf-16-be", "utf-16-be"),
        ("utf-32", "utf-32"),
        ("cp1252", "cp1252"),
    ],
)
def test_encoding_is_found_and_reads_back(tmp_path: Path, codec: str, found: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TABLE.encode(codec))
    assert encoding(path) == found
    assert path.read_bytes().decode(found) == TABLE


def test_one_broken_byte_doesnt_turn_utf8_into_something_else(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(TABLE.encode() + b"caf\xe9,x\n")
    assert encoding(path) == "utf-8"
    assert on_error("utf-8") == "surrogateescape"


@pytest.mark.parametrize("delimiter", [",", "\t", ";", "|"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.txt"])
def test_delimiter_is_found_by_the_wanted_columns(tmp_path: Path, delimiter: str, name: str) -> None:
    path = tmp_path / name
    path.write_text(f"id{delimiter}text{delimiter}label\n" + f'1{delimiter}"a, b; c"{delimiter}x\n' * 3)
    found = shape(path, "utf-8", ["text", "label"])
    assert (found.delimiter, found.quoting, found.columns) == (delimiter, True, ("id", "text", "label"))


def test_tsv_with_loose_quotation_marks_is_read_without_quoting(tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    path.write_text('text\tlabel\n"no, he said\tx\nfine\ty\n"again\tx\n')
    assert not shape(path, "utf-8", ["text", "label"]).quoting
