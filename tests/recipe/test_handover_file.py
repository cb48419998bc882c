from __future__ import annotations

from pathlib import Path

import pytest

from minikin.base.errors import RecipeError
from minikin.recipe.handover import read

GOOD = """\
large:
  - kin: bigger            # on this device
    answers: all
  - url: https://models.example/v1
    model: big
    key_from: BIG_KEY
    price_in: 0.15
    price_out: 0.6
    cost_per_day: 5
egress:
  allow: true
  never: [email, card]
  fields: [password]
  patterns: {ticket: 'TCK-\\d+'}
  found: keep
queue: {at: requests.db, lease_s: 60}
people: {labels: [fraud], seconds_each: 30, cost_per_hour: 40}
audit: {share: 0.02}
"""


def _read(folder: Path, text: str):
    (folder / "handover.yaml").write_text(text, encoding="utf-8")
    return read(folder / "handover.yaml")


def _faults(folder: Path, text: str) -> list[str]:
    with pytest.raises(RecipeError) as raised:
        _read(folder, text)
    assert "hand-over file" in str(raised.value)
    return raised.value.faults


def test_a_good_file(tmp_path: Path) -> None:
    found = _read(tmp_path, GOOD)
    kin, endpoint = found.large
    assert (kin.kin, kin.answers) == (str(tmp_path / "bigger"), "all")
    assert (endpoint.model, endpoint.timeout_s, endpoint.cost_per_day) == ("big", 20, 5)
    assert found.queue.at == str(tmp_path / "requests.db")
    assert (found.egress.allow, found.egress.found) == (True, "keep")


def test_nothing_leaves_and_everything_waits_unless_it_is_said(tmp_path: Path) -> None:
    found = _read(tmp_path, "queue:\n")
    assert found.large == []
    assert found.egress.allow is False
    assert "email" in found.egress.never
    assert _read(tmp_path, "queue: {at: 'postgresql://x/y'}").queue.at == "postgresql://x/y"
    assert _read(tmp_path, "queue: {at: 'env:QUEUE'}").queue.at == "env:QUEUE"


def test_one_large_model_needs_no_list(tmp_path: Path) -> None:
    assert _read(tmp_path, "large: {kin: bigger}").large[0].answers == "certified"


def test_every_fault_at_once_with_its_line_and_the_nearest_key(tmp_path: Path) -> None:
    faults = _faults(
        tmp_path,
        "large:\n  url: ftp://x\n  modle: big\negres: {allow: true}\negress: {alow: true, never: [shoes]}\n"
        "queue: {lease: 5}\naudit: {share: 2, alarm: no}\n",
    )
    assert [fault.split(":")[0] for fault in faults] == [f"line {n}" for n in (3, 4, 5, 5, 6, 7, 7)]
    for words in ("did you mean 'model'", "did you mean 'egress'", "did you mean 'allow'", "did you mean 'lease_s'"):
        assert any(words in fault for fault in faults), words
    assert any("'shoes' is none of email" in fault for fault in faults)
    assert any("audit.alarm: expected a number" in fault for fault in faults)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("large: {answers: all}", "line 1: large.0.kin: give either the folder of a kin or the url of an endpoint"),
        ("large: {kin: a, url: http://b/v1, model: c}", "give either the folder of a kin or the url"),
        ("large: {url: 'localhost:80', model: a}", "large.0.url: must start with http"),
        ("large: {url: 'http://b/v1'}", "large.0.model: is missing"),
        ("large: {url: 'http://b/v1', model: c, cost_per_day: 1}", "limits nothing without price_in"),
        ("large: {url: 'http://b/v1', model: c, key_from: sk-123}", "large.0.key_from"),
        ("egress: {patterns: {x: '('}}", "line 1: egress.patterns.x: is no regular expression"),
        ("queue: {at: ''}", "queue.at"),
        ("queue: a\nqueue: b", "stands on line 1 already"),
    ],
)
def test_faults(tmp_path: Path, text: str, fault: str) -> None:
    assert any(fault in found for found in _faults(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "words"),
    [("", "is empty"), ("- a", "is a list; it must be keys with values, such as 'queue:"), ("a: [", "not valid YAML")],
)
def test_files_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError, match="hand-over file") as raised:
        _read(tmp_path, text)
    assert words in str(raised.value)
    assert "minikin new" not in str(raised.value)
    with pytest.raises(RecipeError, match="There is no hand-over file"):
        read(tmp_path / "nope.yaml")


def test_the_example_in_the_docs_is_a_good_file(tmp_path: Path) -> None:
    page = (Path(__file__).parents[2] / "docs" / "hand-over.md").read_text(encoding="utf-8")
    found = _read(tmp_path, page.split("```yaml\n")[1].split("```")[0])
    assert [one.kin is None for one in found.large] == [False, True]
    assert found.egress.patterns == {"ticket": r"TCK-\d+"}
