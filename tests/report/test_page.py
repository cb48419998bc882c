import copy
import re
from html.parser import HTMLParser

import pytest

from minikin.report.page import page

VOID = {"meta", "link", "br", "img", "wbr"}
SHAPES = {"line", "circle", "rect", "path", "polyline"}


class Checker(HTMLParser):
    """Collects tags and attributes, and whether every element is closed in order."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.faults = [], [], [], []
        self.text = ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes += attributes

    def handle_endtag(self, tag):
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing")

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data


def checked(html):
    checker = Checker()
    checker.feed(html)
    assert not checker.faults
    assert checker.open == []
    checker.text = " ".join(checker.text.split())
    return checker


def test_is_well_formed_and_says_what_matters(story):
    seen = checked(page(story))
    text = seen.text.replace("\u202f", " ")
    for words in (
        "Keeps 99.0 % of the teacher’s accuracy in 0.61 MiB, 58× faster.",
        "Passed",
        "88.8 to 93.6",
        "142× smaller than the teacher",
        "11 candidates measured",
        "1.61 MiB is above the budget of 1 MiB",
        "Of 24 classes",
        "outage_credit taken for refund_request",
        "Fixed yesterday, thanks.",
        "misses its accuracy by 2.4 %",
        "one text carries two labels",
        "rows 37, 991",
        "AMD EPYC",
        "McNemar p < 0.001",
    ):
        assert words in text
    assert len([t for t in seen.tags if t == "section"]) == 8


def test_asks_for_nothing_and_runs_nothing(story):
    html = page(story)
    seen = checked(html)
    assert "script" not in seen.tags
    assert not {"img", "iframe", "object", "form"} & set(seen.tags)
    for name, value in seen.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "action"):
            assert value == "data:,"
    assert not re.search(r"@import|url\(|https?://", html)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html).group(1)
    assert policy == "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


HOSTILE = "<script>alert(1)</script>\"'&<img src=x onerror=y>"


def poison(value):
    """The same value with every text made hostile."""
    if isinstance(value, str):
        return value + HOSTILE
    if isinstance(value, dict):
        return {
            (k + HOSTILE if k in ("near-duplicate", "train", "numpy", "build") else k): poison(v)
            for k, v in value.items()
        }
    return [poison(v) for v in value] if isinstance(value, list) else value


def test_everything_from_outside_is_escaped(story):
    story["verdict"], story["reasons"] = "A verdict", ["a reason"]
    states = [c["state"] for c in story["front"]]
    hostile = poison(story)
    for candidate, state in zip(hostile["front"], states, strict=True):
        candidate["state"] = state
    seen = checked(page(hostile))
    assert "script" not in seen.tags
    assert "img" not in seen.tags
    assert all(not name.startswith("on") for name, _ in seen.attributes)
    assert HOSTILE in seen.text.replace("\u200b", "")


KEYS = [
    "name", "task", "verdict", "passed", "reasons", "labels", "measurements", "gate", "paired", "parity", "front",
    "stages", "per_class", "confusions", "calibration", "differences", "data", "recipe", "seeds", "machine",
    "seconds", "budget",
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("how", ["absent", "null", "empty"])
def test_any_part_may_be_missing(story, key, how):
    if how == "absent":
        del story[key]
    elif how == "null":
        story[key] = None
    else:
        story[key] = type(story[key])() if story[key] is not None else None
    checked(page(story))


def strip_numbers(value):
    if isinstance(value, dict):
        return {k: strip_numbers(v) for k, v in value.items()}
    if isinstance(value, list):
        return [strip_numbers(v) for v in value]
    return None if isinstance(value, float) else value


@pytest.mark.parametrize("part", ["measurements", "gate", "paired", "parity", "front", "stages", "per_class"])
def test_numbers_may_be_missing(story, part):
    story[part] = strip_numbers(story[part])
    text = checked(page(story)).text
    assert "None" not in text
    assert "nan" not in text


def test_an_empty_story_is_still_a_page():
    text = checked(page({})).text
    assert "Not judged" in text
    assert "Not measured yet." in text


def test_without_a_teacher(story):
    for key in ("teacher", "student_without_teacher"):
        del story["measurements"][key]
        del story["paired"][key]
    story["gate"] = {"passed": None, "retention": None, "gap_closed": None, "size_ratio": None, "speed_ratio": None}
    story["passed"] = None
    for row in story["per_class"]:
        row["teacher_recall"] = row["teacher_f1"] = None
    for row in story["confusions"]:
        row["teacher"] = None
    story["differences"] = []
    text = checked(page(story)).text.replace("\u202f", " ")
    assert "Answers 91.2 % of the test rightly in 0.61 MiB, answering in 0.17 ms." in text
    assert "The weakest of 24 classes stand first." in text
    assert "than the teacher" not in text


def test_a_failed_gate_says_why(story):
    story["passed"], story["reasons"] = False, ["keeps 95.1 % of the teacher's accuracy, below the floor of 97 %"]
    seen = checked(page(story))
    assert "Failed" in seen.text
    assert "below the floor of 97 %" in seen.text
    assert ("class", "badge failed") in seen.attributes


def test_pairs_long_texts_and_odd_characters(story):
    story["differences"] = [
        {"text": ["left side", "right side"], "truth": "a", "teacher": "a", "student": "b", "confidence": 0.5},
        {"text": "x" * 100_000, "truth": None, "teacher": "a", "student": "b", "confidence": None},
        {"text": "nul \x00 and half a pair \ud800", "truth": "b", "teacher": "a", "student": "b", "confidence": 1},
    ]
    html = page(story)
    html.encode("utf-8")
    assert "\x00" not in html
    assert "x" * 500 not in html
    assert "left side" in html
    assert "right side" in html


def test_many_classes_fold(story):
    row = story["per_class"][0]
    story["per_class"] = [{**row, "label": f"class {i:03}", "student_recall": i / 150} for i in range(150)]
    text = checked(page(story)).text
    assert "130 more classes" in text
    assert text.index("class 000") < text.index("class 149")


def test_other_work_while_it_was_timed_is_told(story):
    assert "upper bounds" not in page(story)
    story["measurements"]["student"]["core_share"] = 0.5
    assert "latencies are upper bounds" in page(story)


def test_same_story_same_page_and_the_story_is_left_alone(story):
    before = copy.deepcopy(story)
    assert page(story) == page(story)
    assert story == before
