"""Chromium for tests of pages: what they ask for, say and run is kept, and what a reader sees is measured."""

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
#: The worst contrast of a text and its ground, after WCAG 2.2, 1.4.3; a script.
WORST_CONTRAST = """() => {
  const numbers = text => (text.match(/[\\d.]+/g) || []).map(Number);
  const light = ([r, g, b]) => {
    const linear = v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
    const [x, y, z] = [r, g, b].map(v => linear(v / 255));
    return .2126 * x + .7152 * y + .0722 * z;
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = numbers(getComputedStyle(at).backgroundColor);
      if (colour.length === 3 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  let worst = 21;
  const texts = 'p, td, th, h1, h2, h3, li, dt, dd, mark, summary, label, a';
  for (const element of document.querySelectorAll(texts)) {
    if (element.classList.contains('skip') || !element.textContent.trim()) continue;
    const ink = light(numbers(getComputedStyle(element).color));
    const pair = [ink, light(ground(element))].sort((a, b) => b - a);
    worst = Math.min(worst, (pair[0] + .05) / (pair[1] + .05));
  }
  return worst;
}"""


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


def complaints(browser: Any, path: Path, scheme: str = "light", width: int = 1280) -> list[tuple[Any, ...]]:
    """What axe says against a file: WCAG 2.0 to 2.2, A and AA, and axe's own best practices.

    The test is skipped where axe is not installed. The file's own policy is set aside for axe's script.
    """
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(path.as_uri())
    found = axe.Axe().run(page).response["violations"]
    context.close()
    return [(one["id"], node["target"], node["failureSummary"]) for one in found for node in one["nodes"]]


def until(page: Any, condition: str) -> None:
    """Wait for a condition; Playwright's own way needs the eval that our policy forbids."""
    for _ in range(200):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(50)
    raise AssertionError(f"never: {condition}")
