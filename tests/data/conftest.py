"""Small files of every kind, and the public sets if they are there."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Return a function that writes rows of (text, label) to a CSV file and gives back its path."""

    def _write(rows: Sequence[tuple[str, ...]], name: str = "train.csv", header: str = "text,label") -> str:
        lines = [header, *(",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows)]
        path = tmp_path / name
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return str(path)

    return _write


@pytest.fixture
def public() -> Path:
    """Return the folder of the public sets, or skip."""
    for folder in (os.environ.get("MINIKIN_DATA"), Path(__file__).parents[3] / "shared" / "data"):
        if folder and (Path(folder) / "banking77").is_dir():
            return Path(folder)
    pytest.skip("the public sets are not here (set MINIKIN_DATA)")
