import pytest

from minikin.recipe import ladder


def test_points_grow_and_heads_divide() -> None:
    shapes = list(ladder.ENCODERS.values())
    weights = [shape.weights for shape in shapes]
    assert weights == sorted(weights)
    assert len(set(weights)) == len(weights)
    assert all(shape.hidden % shape.heads == 0 for shape in shapes)
    assert list(ladder.STATIC) == list(ladder.ENCODERS)
    assert list(ladder.STATIC.values()) == sorted(set(ladder.STATIC.values()))
    assert (min(ladder.STATIC.values()), max(ladder.STATIC.values())) == (32, 256)


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("tiny", (2, 128, 2, 512)),
        ("mini", (4, 256, 4, 1024)),
        ("small", (4, 512, 8, 2048)),
        ("medium", (8, 512, 8, 2048)),
    ],
)
def test_published_berts_are_points(name: str, shape: tuple[int, ...]) -> None:
    assert ladder.shape(name) == shape


def test_weights_are_those_of_the_layers() -> None:
    assert ladder.shape("tiny").weights == 2 * (4 * 128 * 128 + 2 * 128 * 512)


def test_unknown_point_names_the_nearest() -> None:
    with pytest.raises(KeyError, match="did you mean 'tiny'"):
        ladder.shape("tinny")
    with pytest.raises(KeyError, match="The sizes are pico"):
        ladder.width("")
