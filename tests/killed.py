"""Builds that die: what test_end_to_end.py runs in processes of their own, which import it by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

import minikin as mk
from minikin.base.console import Stages
from toys import toy_recipe


def be_quick(patch: pytest.MonkeyPatch) -> None:
    """Time with a few calls: no test here is about how fast something is."""
    from minikin.measure import speed

    latency, throughput = speed.latency, speed.throughput
    # collecting garbage first takes longer than anything here
    patch.setattr(speed, "_no_collection", nullcontext)
    few = {"warmup": 1, "repeats": 5}
    patch.setattr(speed, "latency", lambda runtime, texts, **more: latency(runtime, texts, **{**more, **few}))
    patch.setattr(speed, "throughput", lambda runtime, texts, **_: throughput(runtime, texts, seconds=0.01))


def build_until(project: Path, out: Path, at: str | None, share: float | str) -> None:
    """Build, and die without a word in the stage `at`; runs in a process of its own."""
    be_quick(pytest.MonkeyPatch())
    stage = Stages.stage

    @contextmanager
    def deadly(self: Stages, name: str, words: str) -> Iterator[Any]:
        with stage(self, name, words) as show:

            def progress(now: float, said: str) -> None:
                if name == at and isinstance(share, float) and now >= share:
                    os.kill(os.getpid(), signal.SIGKILL)
                show(now, said)

            yield progress
            if name == at:
                os.kill(os.getpid(), signal.SIGKILL)

    Stages.stage = deadly  # type: ignore[method-assign]
    mk.build(toy_recipe(project), out, quiet=True)
