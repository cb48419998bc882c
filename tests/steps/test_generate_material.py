import numpy as np
import pytest

from minikin.base.writing import Packed
from minikin.steps.generate.material import Rows, within


def ten_rows() -> Rows:
    """Ten rows of 7 tokens and one of padding."""
    documents_NT = np.ones((10, 8), np.int32)
    documents_NT[:, -1] = 0
    packed = Packed(np.arange(80).reshape(10, 8), documents_NT, documents_NT > 0)
    return Rows(packed, packed, packed, packed, "of ten")


@pytest.mark.parametrize(
    ("tokens", "rows", "passes"),
    [(1, 1, 1), (7, 1, 1), (35, 5, 1), (70, 10, 1), (71, 5, 2), (105, 8, 2), (140, 10, 2), (700, 10, 10)],
)
def test_a_budget_of_tokens_is_spent_in_whole_passes(tokens, rows, passes):
    found, epochs = within(ten_rows(), tokens)
    assert (len(found.train.ids_NT), epochs) == (rows, passes)
    assert np.array_equal(found.train.ids_NT, ten_rows().train.ids_NT[:rows])
    # nearest to the budget, to half a row of 7 tokens a pass
    assert abs(7 * rows * epochs - tokens) <= max(3.5 * epochs, 6)


def test_other_rows_are_told_apart():
    half, whole = within(ten_rows(), 35)[0], within(ten_rows(), 70)[0]
    assert len({half.digest, whole.digest, "of ten"}) == 3
