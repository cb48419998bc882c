import pytest

from minikin.report import words


def plain(text):
    return text.replace("\u202f", " ")


@pytest.mark.parametrize(
    ("made", "expected"),
    [
        (words.percent(0.9119), "91.2 %"),
        (words.percent(-0.01), "−1.0 %"),
        (words.percent(None), "–"),
        (words.percent(float("nan")), "–"),
        (words.percent(True), "–"),
        (words.points(0.0403), "+4.0"),
        (words.points(-0.0096), "−1.0"),
        (words.points(-0.0001), "0.0"),
        (words.mib(87.123), "87.1 MiB"),
        (words.mib(0.00412), "0.00412 MiB"),
        (words.mib(1234.5), "1,234 MiB"),
        (words.ms(0.1712, 2), "0.17 ms"),
        (words.plain_mib(1), "1 MiB"),
        (words.share(0.985), "98.5 %"),
        (words.times(58.1), "58×"),
        (words.times(1.44), "1.4×"),
        (words.times(1423.4), "1,423×"),
        (words.duration(0.83), "0.8 s"),
        (words.duration(74.2), "74 s"),
        (words.duration(306), "5 min 6 s"),
        (words.duration(7300), "2 h 1 min"),
        (words.p_value(1e-9), "< 0.001"),
        (words.p_value(0.0421), "0.042"),
        (words.p_value(0.359), "0.36"),
        (words.fixed(1284.3), "1,284"),
        (words.fixed(3.4017, 3), "3.402"),
        (words.fixed(None), "–"),
        (words.significant(0), "0"),
        (words.significant("x"), "–"),
        (words.join(["a", "b", "c"]), "a, b and c"),
        (words.join([]), ""),
        (words.count(1, "class", "classes"), "1 class"),
        (words.count(2, "class", "classes"), "2 classes"),
    ],
)
def test_numbers_in_words(made, expected):
    assert plain(made) == expected


def test_other_work_is_told_of(story):
    assert words.busy(None) == words.busy(story["measurements"]) == ""
    assert words.busy({"teacher": {"core_share": 0.97}, "student": None}) == ""
    found = plain(words.busy({"teacher": {"core_share": 0.97}, "student": {"core_share": 0.624}}))
    assert "the timed thread had one for 62 % of the time" in found


def test_verdicts(story):
    assert plain(words.verdict(story)) == "Keeps 99.0 % of the teacher’s accuracy in 0.61 MiB, 58× faster."
    story["gate"]["speed_ratio"] = 0.7
    assert plain(words.verdict(story)).endswith("answering in 0.17 ms.")
    assert words.verdict({}) == "Not measured yet."
    assert words.verdict({"gate": None, "measurements": {"student": None}}) == "Not measured yet."


def test_finding_names_the_class_that_lost_most(story):
    found = plain(words.finding_classes(story["per_class"]))
    worst = min(story["per_class"], key=lambda r: r["student_recall"] - r["teacher_recall"])
    assert worst["label"] in found
    gained = [{"label": "a", "teacher_recall": 0.5, "student_recall": 0.6}]
    assert words.finding_classes(gained) == "No class lost recall; 1 gained."


def test_finding_of_stages_and_calibration(story):
    assert plain(words.finding_stages(story["stages"])) == (
        "The greatest cut in size came at “distil”: 21× smaller, for −0.6 points of accuracy."
    )
    assert words.finding_stages([]) == "What each step did to accuracy, size and latency."
    sure = {"ece": 0.1, "bins": [{"confidence": 0.9, "accuracy": 0.8, "n": 10}]}
    assert "too sure" in words.finding_calibration(sure)
    assert words.finding_calibration({}) == "How often it is right when it says how sure it is."
