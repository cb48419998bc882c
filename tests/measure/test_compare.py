import numpy as np
import pytest

from minikin.measure import compare
from minikin.measure.quality import score


def measured(predictions, confidence=0.8):
    p = np.full((len(predictions), 3), (1 - confidence) / 2)
    p[np.arange(len(predictions)), predictions] = confidence
    return p


LABELS = np.array([0, 0, 1, 1, 2, 2])


def test_paired_counts_only_where_they_part():
    a, b = score(measured([0, 0, 1, 1, 0, 0]), LABELS), score(measured([0, 1, 0, 0, 0, 2]), LABELS)
    result = compare.paired(a, b, LABELS)
    assert result.difference == pytest.approx(2 / 6)
    assert (result.only_a.tolist(), result.only_b.tolist()) == ([1, 2, 3], [5])
    assert result.mcnemar_p == pytest.approx(10 / 16)
    assert result.interval[0] <= result.difference <= result.interval[1]
    assert compare.paired(b, a, LABELS).difference == -result.difference
    assert result.summary()["only_b"] == 1


def test_rows_of_the_report():
    student, teacher = score(measured([0, 1, 1, 1, 1, 1]), LABELS), score(measured([0, 0, 1, 1, 1, 2]), LABELS)
    rows = compare.per_class(student, teacher, LABELS, ["a", "b", "c"])
    assert [(r["label"], r["n"], r["teacher_recall"], r["student_recall"]) for r in rows] == [
        ("a", 2, 1.0, 0.5),
        ("b", 2, 1.0, 1.0),
        ("c", 2, 0.5, 0.0),
    ]
    assert compare.confusions(student, teacher, LABELS, ["a", "b", "c"]) == [
        {"truth": "c", "answer": "b", "student": 2, "teacher": 1},
        {"truth": "a", "answer": "b", "student": 1, "teacher": 0},
    ]
    texts = ["0", "1", ("2", "x"), "3", "4", "5"]
    parted = compare.differences(student, teacher, texts, LABELS, ["a", "b", "c"])
    assert [(d["text"], d["truth"], d["teacher"], d["student"]) for d in parted] == [
        ("1", "a", "a", "b"),
        ("5", "c", "c", "b"),
    ]


def test_rows_without_a_teacher_and_with_absent_classes():
    student = score(measured([0, 1, 1, 1]), LABELS[:4])
    rows = compare.per_class(student, None, LABELS[:4], ["a", "b", "c"])
    assert [r["label"] for r in rows] == ["a", "b"]
    assert rows[0]["teacher_recall"] is None
    assert compare.confusions(student, None, LABELS[:4], ["a", "b", "c"]) == [
        {"truth": "a", "answer": "b", "student": 1, "teacher": None}
    ]
    bins = compare.calibration(student, LABELS[:4], 1.5)
    assert bins["bins"] == [{"confidence": pytest.approx(0.8), "accuracy": 0.75, "n": 4}]
    assert bins["temperature"] == 1.5
