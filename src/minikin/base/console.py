"""What people see while something long runs: one line per stage, with its time, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from minikin.base.types import Progress as OnProgress

console = Console(stderr=True, highlight=False)
PLAIN_EVERY_S = 10.0


class Stages:
    """Announces the stages of a build; keeps how long each took for the report."""

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, words: str) -> Iterator[OnProgress]:
        """Show a stage while its block runs; yields the callback that moves its bar."""
        started = time.perf_counter()
        if self.quiet:
            yield lambda _share, _words: None
        elif sys.stderr.isatty():
            with _bar() as bar:
                task = bar.add_task(f"{name:<9} {words}", total=1.0)

                def show(share: float, now: str) -> None:
                    bar.update(task, completed=share, description=f"{name:<9} {now or words}")

                yield show
        else:
            yield _plain(name, words)
        took = time.perf_counter() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        if not self.quiet:
            console.print(f"[green]✓[/] {name:<9} {words} [dim]{took:.1f} s[/]")

    def say(self, words: str) -> None:
        """Print one line under the running stages."""
        if not self.quiet:
            console.print(f"  {words}")


def _bar() -> Progress:
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


def _plain(name: str, words: str) -> OnProgress:
    """Progress for logs: a line at the start, then one at most every ten seconds."""
    console.print(f"… {name:<9} {words}")
    last = time.perf_counter()

    def show(share: float, now: str) -> None:
        nonlocal last
        if time.perf_counter() - last >= PLAIN_EVERY_S:
            last = time.perf_counter()
            console.print(f"  {name:<9} {share:4.0%} {now}")

    return show
