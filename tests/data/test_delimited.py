import csv
import io

from hypothesis import given, settings
from hypothesis import strategies as st

from minikin.data.delimited import records
from minikin.data.encoding import Shape
from minikin.data.faults import Bag

SHAPE = Shape(",", True, ("text", "label"))
CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), min_size=1, max_size=8)


def _read(text: str, shape: Shape = SHAPE) -> tuple[list[tuple[int, list[str]]], dict[str, tuple[int, ...]]]:
    bag = Bag()
    rows = list(records(io.StringIO(text, newline=""), shape, "train", bag))
    return rows, {fault.kind: fault.rows for fault in bag.faults()}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), max_size=8))
def test_what_csv_writes_is_read_back(rows: list[tuple[str, str]]) -> None:
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("text", "label"), *rows])
    found, faults = _read(file.getvalue())
    assert found == [(i, list(row)) for i, row in enumerate(rows, 1)]
    assert not faults


def test_quoted_newlines_are_one_row() -> None:
    assert _read('text,label\n"a\nb\r\n\nc",x\n\nd,y\n')[0] == [(1, ["a\nb\r\n\nc", "x"]), (2, ["d", "y"])]


def test_too_many_and_too_few_fields_are_told_and_others_kept() -> None:
    rows, faults = _read("text,label\na,x\nb\nc,x,y\nd,x,,\ne,y\n")
    assert rows == [(1, ["a", "x"]), (4, ["d", "x"]), (5, ["e", "y"])]
    assert faults == {"broken-row": (2, 3)}


def test_a_stray_quotation_mark_swallows_nothing() -> None:
    rows, faults = _read('text,label\n"open,x\nb,y\n"closed" late,x\nd,y\n')
    assert [fields[0] for _, fields in rows] == ['"open', "b", '"closed" late', "d"]
    assert faults == {"stray-quote": (1, 3)}


def test_a_quotation_that_never_ends_loses_only_its_own_row() -> None:
    rows, faults = _read("text,label\n" + '"a,b,c\n' + "d,x\n" * 25_000)
    assert len(rows) == 25_000
    assert faults == {"broken-row": (1,)}


def test_very_long_fields_are_read() -> None:
    assert len(_read(f'text,label\n"{"a" * 300_000}",x\n')[0][0][1][0]) == 300_000
