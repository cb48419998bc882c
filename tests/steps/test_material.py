import numpy as np

from minikin.base.types import Data, Split
from minikin.data.clean import hash64
from minikin.steps.material import learned_from


def test_every_row_is_remembered_but_the_test_split():
    def split(*texts):
        return Split(texts, np.zeros(len(texts), int), np.arange(len(texts)))

    data = Data(split("a", "b"), split("c"), split("d"), split("e"), split("f"), ("x", "y"))
    assert sorted(learned_from(data)) == sorted(hash64(text) for text in "abcdf")
