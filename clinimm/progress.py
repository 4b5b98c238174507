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
        """Yield ``items`` while showing how many are done."""
        if self.quiet:
            yield from items
        elif sys.stderr.isatty():
            yield from self._bar(items, label, total)
        else:
            yield from self._lines(items, label, total)

    def _bar(self, items: Iterable[ItemT], label: str, total: int | None) -> Iterator[ItemT]:
        from rich.console import Console
        from rich.progress import track

        console = Console(stderr=True)
        yield from track(items, description=label, total=_length(items, total), console=console)

    def _lines(self, items: Iterable[ItemT], label: str, total: int | None) -> Iterator[ItemT]:
        known = _length(items, total)
        last = time.monotonic()
        for done, item in enumerate(items, start=1):
            yield item
            if time.monotonic() - last > _SECONDS_BETWEEN_LINES:
                last = time.monotonic()
                self.say(f"  {label}: {done}" + (f" of {known}" if known else ""))


QUIET = Progress(quiet=True)


def _length(items: Iterable[object], total: int | None) -> int | None:
    if total is not None:
        return total
    try:
        return len(items)  # type: ignore[arg-type]  # an iterable without a length says so
    except TypeError:
        return None
