"""Progress that a person can follow: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

ItemT = TypeVar("ItemT")
_SECONDS_BETWEEN_LINES = 5.0


class Progress:
    """Where a stage says what it is doing. Output goes to standard error.

    Args:
        quiet: say nothing, for tests and for use as a library.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.quiet = quiet

    def say(self, text: str) -> None:
        """One plain line."""
        if not self.quiet:
            print(text, file=sys.stderr, flush=True)

    def track(self, items: Iterable[ItemT], label: str, total: int | None = None) -> Iterator[ItemT]:
        """Yield ``items`` while showing how many are done and how long the rest will take."""
        if self.quiet:
            yield from items
        elif sys.stderr.isatty():
            yield from self._bar(items, label, total)
        else:
            yield from self._lines(items, label, total)

    def _bar(self, items: Iterable[ItemT], label: str, total: int | None) -> Iterator[ItemT]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress
        from rich.progress import TimeRemainingColumn as Remaining

        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn())
        clocks = (TimeElapsedColumn(), TextColumn("left"), Remaining())
        with RichProgress(*columns, *clocks, console=Console(stderr=True), transient=True) as bar:
            yield from bar.track(items, description=label, total=_length(items, total))

    def _lines(self, items: Iterable[ItemT], label: str, total: int | None) -> Iterator[ItemT]:
        known = _length(items, total)
        began = last = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            now = time.monotonic()
            if now - last > _SECONDS_BETWEEN_LINES:
                last = now
                self.say(f"  {label}: {done}" + _remaining(done, known, now - began))


QUIET = Progress(quiet=True)


def _remaining(done: int, known: int | None, seconds: float) -> str:
    if not known:
        return ""
    left = seconds / done * (known - done)
    return f" of {known}, about {left:.0f} s left"


def _length(items: Iterable[object], total: int | None) -> int | None:
    if total is not None:
        return total
    try:
        return len(items)  # type: ignore[arg-type]  # an iterable without a length says so
    except TypeError:
        return None
