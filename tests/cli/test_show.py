"""The table at the end of a build, for both tasks."""

import io

import pytest
from rich.console import Console

from minikin.commands import show

ROW = {"accuracy": 0.9, "accuracy_interval": [0.88, 0.92], "size_mib": 80.0, "perplexity": 3.4017}


@pytest.mark.parametrize(
    ("task", "lexical", "titles"),
    [
        ("classify", "TF-IDF + logistic regression", "with typos"),
        ("generate", "answer of the nearest prompt", "perplexity"),
    ],
)
def test_what_is_not_known_is_a_dash(task, lexical, titles):
    out = Console(width=140, file=io.StringIO())
    found = {"teacher": None, "student": ROW, "student_without_teacher": ROW, "tfidf": {"accuracy": 0.5}}
    out.print(show.measurements(found, task))
    text = out.file.getvalue()
    assert titles in text
    assert "teacher  " not in text.replace("without teacher", "")
    (line,) = (line for line in text.splitlines() if lexical in line)
    assert line.replace(lexical, "").split("50.0")[1].count("–") == (5 if task == "classify" else 6)
    student = next(line for line in text.splitlines() if "student (the kin)" in line)
    assert ("3.402" in student) == (task == "generate")
    assert "88.0–92.0" in student
