from dataclasses import dataclass

import numpy as np
import pytest

from minikin.base.errors import DataError, MinikinError
from minikin.base.types import Runtime, Split
from minikin.measure.quality import quality


@dataclass
class Fixed:
    """Answers each text with the class that its last character names, with confidence 0.8."""

    labels: tuple[str, ...] = ("a", "b", "c")
    broken: object = None

    def probabilities(self, texts):
        if self.broken is not None:
            return self.broken
        p = np.full((len(texts), 3), 0.1)
        p[np.arange(len(texts)), [int(t[-1]) for t in texts]] = 0.8
        return p


def split(answers, labels):
    texts = [f"text {a}" for a in answers]
    return Split(texts, np.array(labels), np.arange(1, len(texts) + 1))


def test_measures_what_was_answered():
    seen = []
    case = split([0, 1, 2, 2] * 100, [0, 1, 2, 0] * 100)
    measured = quality(
        Fixed(),
        case,
        teacher_predictions_N=np.array([0, 1, 2, 1] * 100),
        progress=lambda share, _: seen.append(share),
    )
    assert measured.predictions_N.tolist() == [0, 1, 2, 2] * 100
    assert measured.accuracy == 0.75
    assert measured.agreement_with_teacher == 0.75
    assert measured.ece == pytest.approx(0.05)
    low, high = measured.accuracy_interval
    assert 0.68 < low < 0.75 < high < 0.82
    assert measured.macro_f1_interval[0] < measured.macro_f1 < measured.macro_f1_interval[1]
    assert seen[-1] == 1.0
    assert seen == sorted(seen)
    assert measured.summary()["accuracy_interval"] == [low, high]
    assert isinstance(Fixed(), Runtime)


def test_unknown_labels_count_as_wrong():
    assert quality(Fixed(), split([0, 1], [0, -1])).accuracy == 0.5


@pytest.mark.parametrize("labels", [[], [-1, -1]])
def test_nothing_labelled_is_refused(labels):
    with pytest.raises(DataError, match="no labelled text"):
        quality(Fixed(), split([0] * len(labels), labels))


@pytest.mark.parametrize("broken", [np.ones((1, 3)), np.full((2, 3), np.nan), np.ones(2)])
def test_a_runtime_that_answers_nonsense_is_named(broken):
    with pytest.raises(MinikinError, match="answered 2 texts"):
        quality(Fixed(broken=broken), split([0, 1], [0, 1]))
