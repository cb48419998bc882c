from __future__ import annotations

from dataclasses import dataclass, field

from minikin.recipe import guess


@dataclass
class Column:
    name: str
    filled: int = 100
    mean_length: float = 5
    values: dict[str, int] | None = field(default_factory=dict)


def few(name: str, count: int, length: float = 5) -> Column:
    return Column(name, 100, length, {str(i): 100 // count for i in range(count)})


def text(name: str, length: float = 60) -> Column:
    return Column(name, 100, length, None)


def test_named_columns_come_first() -> None:
    columns = [few("region", 4), few("intent", 10), text("notes", 200), text("message", 60)]
    assert guess.labels(columns) == ["intent", "region"]
    assert guess.texts(columns, "intent")[0] == ("message",)


def test_without_names_the_longest_is_the_text() -> None:
    columns = [few("c1", 3), text("c2", 20), text("c3", 90)]
    assert guess.texts(columns, "c1") == [("c3",), ("c2",)]
    assert guess.labels(columns) == ["c1"]
    assert guess.is_clear(guess.labels(columns))
    assert not guess.is_clear(guess.texts(columns, "c1"))


def test_pairs_by_name_whatever_the_case() -> None:
    columns = [text("Premise"), text("Hypothesis"), few("label", 3)]
    assert guess.texts(columns, "label")[0] == ("Premise", "Hypothesis")
    assert guess.is_clear(guess.texts(columns, "label"))


def test_what_can_be_no_label() -> None:
    constant, unique = few("same", 1), few("id", 100)
    assert guess.labels([constant, unique, text("label")]) == []
    assert not guess.is_clear([])
