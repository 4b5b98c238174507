"""Pages in a real browser: nothing is requested, nothing strange runs, and everybody can read them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from clinimm.progress import QUIET
from clinimm.report.patient_report import write_patient_report
from clinimm.report.stage import run as run_report
from tests.browsing import WORST_CONTRAST, listen, until
from tests.report.conftest import MockRun

_DRAWN = "document.querySelectorAll('.map-card[data-drawn=yes]').length"


def patient_file(run: MockRun, subject: str | None = None) -> Path:
    return write_patient_report(
        run.workspace, subject or run.subject, run.workspace.root / "report" / "patients" / "page.html"
    )


@pytest.mark.parametrize("page_name", ["index.html", "model_card.html", "patients/S000.html"])
def test_hostile_pages_request_nothing_and_run_nothing(
    browser: Any, make_run: Callable, xss: tuple[str, ...], page_name: str
) -> None:
    run = make_run(hostile=" ".join(xss))
    run_report(run.workspace, QUIET)
    address = (run.workspace.root / "report" / page_name).as_uri()
    page = browser.new_page()
    heard = listen(page)
    page.goto(address)
    page.mouse.move(400, 300)
    for _ in range(12):
        page.keyboard.press("Tab")
    for link in page.locator("details > summary").all():
        link.click()
    assert heard.outside(address) == []
    assert heard.said == []
    assert page.url.split("#")[0] == address, "nothing led away"
    own = 1 if page_name.startswith("patients") else 0
    assert page.evaluate("document.scripts.length") == own
    assert page.evaluate("document.querySelectorAll('iframe, base, object, embed, form, math').length") == 0
    assert page.locator("h1").is_visible()
    page.close()


@pytest.mark.parametrize("place", range(27))
def test_each_hostile_string_alone_stays_text(
    browser: Any, make_run: Callable, xss: tuple[str, ...], place: int
) -> None:
    """One at a time, so that none is disarmed by its neighbour."""
    assert len(xss) == 27
    file = patient_file(make_run(hostile=xss[place], subjects=30))
    page = browser.new_page()
    heard = listen(page)
    page.goto(file.as_uri())
    assert (heard.outside(file.as_uri()), heard.said) == ([], [])
    assert page.evaluate("document.scripts.length") == 1
    page.close()


def test_a_page_with_a_foreign_script_would_be_stopped_by_its_policy(browser: Any, run: MockRun) -> None:
    """The second wall: were something not escaped, the policy would still refuse it."""
    file = patient_file(run)
    broken = file.read_text().replace(
        "</h1>", "</h1><script>alert(1)</script><img src=x onerror=alert(2)><b style='color:red'>x</b>", 1
    )
    file.write_text(broken)
    page = browser.new_page()
    heard = listen(page)
    page.goto(file.as_uri())
    page.wait_for_timeout(200)
    assert len(heard.said) >= 3
    assert all("Content Security Policy" in text for text in heard.said)
    page.close()


def test_the_sliders_change_the_pixels_of_the_canvases(browser: Any, run: MockRun) -> None:
    page = browser.new_page()
    heard = listen(page)
    page.goto(patient_file(run).as_uri())
    until(page, f"{_DRAWN} === 1")
    original, overlay = 0, 1
    before = [_pixels(page, which) for which in (original, overlay)]
    assert not np.array_equal(*before), "one has the map and the other has not"

    page.locator("input[name=opacity]").fill("0")
    assert np.array_equal(_pixels(page, overlay), before[original]), "without its map it is the picture"
    assert page.locator("input[name=opacity] + output").inner_text() == "0 %"
    page.locator("input[name=opacity]").fill("50")
    half = _pixels(page, overlay)
    assert 0 < np.abs(half - before[original]).sum() < np.abs(before[overlay] - before[original]).sum()

    page.locator("input[name=level]").fill("20")
    assert _pixels(page, original).mean() > before[original].mean() + 10, "a lower level is brighter"
    page.locator("input[name=level]").fill("50")
    page.locator("input[name=window]").fill("20")
    assert _pixels(page, original).std() > before[original].std() + 5, "a narrow window has more contrast"
    page.locator("button:has-text('Reset')").click()
    for which in (original, overlay):
        assert np.array_equal(_pixels(page, which), before[which])
    assert heard.said == []
    page.close()


def test_the_window_is_the_one_that_its_formula_says(browser: Any, run: MockRun) -> None:
    page = browser.new_page()
    page.goto(patient_file(run).as_uri())
    until(page, f"{_DRAWN} === 1")
    stored = _pixels(page, 0)
    page.locator("input[name=window]").fill("40")
    page.locator("input[name=level]").fill("70")
    asked = np.clip(np.rint(255 * ((stored / 255 - 0.7) / 0.4 + 0.5)), 0, 255)
    # The canvas is drawn larger than the picture, so between two pixels the window acts before the mean.
    inside = np.abs(_pixels(page, 0) - asked)
    assert np.median(inside) <= 3
    page.close()


def _pixels(page: Any, which: int) -> np.ndarray:
    """Red, green and blue of a canvas of the first map, thinned."""
    values = page.evaluate(
        """which => {
          const canvas = document.querySelectorAll('.map-card canvas')[which];
          const all = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
          return Array.from(all).filter((_, at) => at % 4 < 3 && Math.floor(at / 4) % 97 === 0);
        }""",
        which,
    )
    return np.asarray(values, dtype=float)


def test_sliders_are_reached_and_moved_by_the_keyboard(browser: Any, run: MockRun) -> None:
    page = browser.new_page()
    page.goto(patient_file(run).as_uri())
    until(page, f"{_DRAWN} === 1")
    named = "document.activeElement.name || ''"
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate(named) == "opacity":
            break
    assert page.evaluate(named) == "opacity"
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.value") == "99"
    page.close()


def test_passages_are_marked_in_the_note(browser: Any, run: MockRun) -> None:
    page = browser.new_page()
    page.goto(patient_file(run).as_uri())
    mark = page.locator("mark.raises").first
    assert "needs oxygen at 4 litres" in mark.inner_text()
    plain = page.evaluate("getComputedStyle(document.querySelector('blockquote.note')).backgroundColor")
    assert mark.evaluate("e => getComputedStyle(e).backgroundColor") != plain
    page.close()


def test_a_struck_out_map_is_crossed_on_the_canvas(browser: Any, run: MockRun) -> None:
    path = run.workspace.root / "explain" / "standings.parquet"
    shown = pd.read_parquet(path)
    shown.assign(state="struck_out", failed='["deletion"]', sentence="Struck out: it failed.").to_parquet(
        path
    )
    page = browser.new_page()
    page.goto(patient_file(run).as_uri())
    until(page, f"{_DRAWN} === 1")
    middle = """() => {
      const canvas = document.querySelectorAll('.map-card canvas')[1];
      const at = canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1);
      return Array.from(at.data);
    }"""
    page.locator("input[name=opacity]").fill("100")
    assert page.evaluate(middle)[:3] == [255, 255, 255], "the two strokes cross in the middle"
    assert "Do not read this map" in page.locator(".map-card").first.inner_text()
    assert "line-through" in page.locator(".map-card td.figure").first.evaluate(
        "e => getComputedStyle(e).textDecorationLine"
    )
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_axe_finds_nothing_to_complain_about(browser: Any, run: MockRun, scheme: str, width: int) -> None:
    """WCAG 2.0 to 2.2, A and AA, and axe's own best practices."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    context = browser.new_context(
        viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
    )
    page = context.new_page()
    page.goto(patient_file(run).as_uri())
    until(page, f"{_DRAWN} === 1")
    for summary in page.locator("details > summary").all():
        summary.click()
    assert axe.Axe().run(page).response["violations"] == []
    context.close()


def test_on_paper_controls_are_gone_and_pictures_stay_whole(browser: Any, run: MockRun) -> None:
    page = browser.new_page()
    page.goto(patient_file(run).as_uri())
    until(page, f"{_DRAWN} === 1")
    page.emulate_media(media="print")
    assert not page.locator(".controls").first.is_visible()
    assert page.locator("canvas.picture").first.is_visible()
    whole = "e => getComputedStyle(e).breakInside"
    assert page.locator("canvas.picture").first.evaluate(whole) == "avoid"
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.close()


@pytest.mark.parametrize("width", [390, 1200])
def test_no_page_scrolls_sideways(browser: Any, run: MockRun, width: int) -> None:
    run_report(run.workspace, QUIET)
    page = browser.new_page(viewport={"width": width, "height": 800})
    for name in ("index.html", "model_card.html", f"patients/{run.subject}.html"):
        page.goto((run.workspace.root / "report" / name).as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()


def test_the_first_screen_holds_all_that_must_be_known_first(browser: Any, run: MockRun) -> None:
    """At 1400 by 900: answer, interval, operating point, sources, groups, audit and familiarity."""
    page = browser.new_page(viewport={"width": 1400, "height": 900})
    page.goto(patient_file(run).as_uri())
    for selector in (
        ".banner",
        "h1",
        ".lead",
        "p.answer",
        ".interval-words",
        "text=operating point of",
        "#sources",
        "#performance",
        "text=Audit: inconclusive",
        "text=Like the patients it",
    ):
        box = page.locator(selector).first.bounding_box()
        assert box is not None and box["y"] + box["height"] <= 900, selector
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_the_contrast_that_wcag_aa_asks_for(browser: Any, run: MockRun, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1. Text on plain grounds, measured from what the browser computed."""
    page = browser.new_page(color_scheme=scheme)
    page.goto(patient_file(run).as_uri())
    assert page.evaluate(WORST_CONTRAST) >= 4.5
    page.close()
