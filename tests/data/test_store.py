import pickle
from pathlib import Path

import numpy as np
import pytest

from minikin.data.store import Texts, Writer


def _stored(path: Path, columns: int = 1) -> Texts:
    with Writer(path, columns) as writer:
        for start in range(0, 100, 10):
            rows = [f"text {i} ü" for i in range(start, start + 10)]
            writer.write([rows, [row[::-1] for row in rows]][:columns])
        writer.write([[]] * columns)
    return Texts(path)


def test_reads_like_a_list(tmp_path: Path) -> None:
    texts, plain = _stored(tmp_path / "a.arrow"), [f"text {i} ü" for i in range(100)]
    assert list(texts) == plain
    assert len(texts) == 100
    assert (texts[0], texts[57], texts[-1]) == (plain[0], plain[57], plain[-1])
    assert list(texts[5:50:7]) == plain[5:50:7]
    with pytest.raises(IndexError):
        texts[100]


def test_views_of_views(tmp_path: Path) -> None:
    view = _stored(tmp_path / "a.arrow").take(np.array([99, 3, 3, 40])).take(np.array([1, 0, 3]))
    assert list(view) == [view[i] for i in range(3)] == ["text 3 ü", "text 99 ü", "text 40 ü"]
    assert list(view.take(np.zeros(0, int))) == []
    assert list(pickle.loads(pickle.dumps(view))) == list(view)


def test_pairs(tmp_path: Path) -> None:
    texts = _stored(tmp_path / "a.arrow", 2)
    assert texts[3] == ("text 3 ü", "ü 3 txet")
    assert list(texts)[3] == texts[3]


def _interrupted(path: Path) -> None:
    with Writer(path, 1) as writer:
        writer.write([["x"]])
        raise RuntimeError


def test_a_failed_write_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        _interrupted(tmp_path / "a.arrow")
    assert list(tmp_path.iterdir()) == []
