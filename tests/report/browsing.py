"""Chromium for pages in files: what they ask for, say and run is kept."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@dataclass
class Heard:
    """What a page did beside showing itself."""

    requested: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def outside(self, address: str) -> list[str]:
        """Addresses other than the page's own and pictures inside it."""
        return [url for url in self.requested if url != address and not url.startswith("data:image/")]


@contextmanager
def chromium() -> Iterator[Any]:
    """A browser; the test is skipped where there is none."""
    if not CHROMIUM.exists():
        pytest.skip("no Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS.split())
        yield found
        found.close()


def listen(page: Any) -> Heard:
    """Keep what a page requests, logs, asks and throws; from now on."""
    heard = Heard()
    page.on("request", lambda request: heard.requested.append(request.url))
    page.on("console", lambda message: heard.said.append(message.text))
    page.on("pageerror", lambda error: heard.said.append(str(error)))
    page.on("dialog", lambda dialog: (heard.said.append(dialog.message), dialog.dismiss()))
    return heard
