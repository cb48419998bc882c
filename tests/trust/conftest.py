"""The command line inside this process."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from typer.testing import CliRunner, Result

from minikin.cli import app


@pytest.fixture
def say() -> Callable[..., Result]:
    """Run a command: `say("queue", kin, "list", input=...)`."""
    return lambda *args, **more: CliRunner().invoke(app, [str(a) for a in args], **more)
