"""Pages in a real browser: nothing is requested, nothing runs, nothing complains."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clinimm.progress import QUIET
from clinimm.report.stage import run as run_report

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if not CHROMIUM.exists():
        pytest.skip("no Chromium: apt-get install chromium")
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with playwright.sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=str(CHROMIUM), args=ARGUMENTS.split())
        yield found
        found.close()


@pytest.mark.parametrize("page_name", ["index.html", "model_card.html", "patients/S000.html"])
def test_hostile_pages_request_nothing_and_run_nothing(
    browser: Any, make_run: Callable, xss: tuple[str, ...], page_name: str
) -> None:
    run = make_run(hostile=" ".join(xss))
    run_report(run.workspace, QUIET)
    address = (run.workspace.root / "report" / page_name).as_uri()
    requested, said = [], []
    page = browser.new_page()
    page.on("request", lambda request: requested.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("dialog", lambda dialog: said.append(dialog.message))
    page.goto(address)
    page.mouse.move(400, 300)
    page.keyboard.press("Tab")
    outside = [url for url in requested if url != address and not url.startswith("data:image/")]
    assert outside == []
    assert said == []
    assert page.evaluate("document.scripts.length") == 0
    page.close()


def test_the_overlay_follows_its_control_without_a_script(browser: Any, run: Any) -> None:
    run_report(run.workspace, QUIET)
    page = browser.new_page()
    page.goto((run.workspace.root / "report" / "patients" / f"{run.subject}.html").as_uri())
    shown = "getComputedStyle(document.querySelector('.map')).opacity"
    assert page.evaluate(shown) == "1"
    page.locator("input[value=off]").first.check()
    assert page.evaluate(shown) == "0"
    page.locator("input[value=faint]").first.check()
    assert page.evaluate(shown) == "0.45"
    page.close()


@pytest.mark.parametrize("width", [390, 1200])
def test_no_page_scrolls_sideways(browser: Any, run: Any, width: int) -> None:
    run_report(run.workspace, QUIET)
    page = browser.new_page(viewport={"width": width, "height": 800})
    for name in ("index.html", "model_card.html", f"patients/{run.subject}.html"):
        page.goto((run.workspace.root / "report" / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(browser: Any, run: Any, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1. Text on plain grounds, measured from what the browser computed."""
    run_report(run.workspace, QUIET)
    page = browser.new_page(color_scheme=scheme)
    page.goto((run.workspace.root / "report" / "patients" / f"{run.subject}.html").as_uri())
    assert page.evaluate(_WORST_CONTRAST) >= 4.5
    page.close()


_WORST_CONTRAST = """() => {
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
