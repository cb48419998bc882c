import pytest

from minikin.base.errors import DataError
from minikin.data.faults import ROW_FAULTS, ROWS_KEPT, Bag, numbers


def test_rows_of_one_kind_become_one_sentence() -> None:
    bag = Bag()
    bag.row("broken-row", "train", 4, "line 5: 3 fields instead of 2")
    bag.row("broken-row", "train", 9)
    bag.row("broken-row", "test", 1)
    assert [fault.message for fault in bag.faults()] == [
        "train: 2 rows broken, left out: rows 4, 9 (line 5: 3 fields instead of 2; …)",
        "test: 1 row broken, left out: row 1",
    ]


def test_memory_is_bounded_and_the_count_is_not() -> None:
    bag = Bag()
    bag.rows("empty-text", "train", range(1, 100_001))
    (fault,) = bag.faults()
    assert len(fault.rows) == ROWS_KEPT
    assert "100,000 rows" in fault.message
    assert len(fault.message) < 150


def test_fatal_faults_raise_with_all_the_others() -> None:
    bag = Bag()
    bag.note("encoding", "first")
    bag.raise_if_fatal()
    bag.fatal("one-class", "second")
    bag.fatal("no-rows", "third")
    with pytest.raises(DataError) as raised:
        bag.raise_if_fatal()
    assert raised.value.faults == ["second", "third", "first"]
    assert bag.fatals == 2


def test_every_kind_makes_a_sentence() -> None:
    for kind in ROW_FAULTS:
        bag = Bag()
        bag.row(kind, "train", 1, other="test")
        assert "{" not in bag.faults()[0].message
    assert numbers(range(20), 20).endswith("…")
