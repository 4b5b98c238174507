"""The region pages in a real browser: zoom, swipe and opacity move, and nothing is requested."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from clinimm.progress import QUIET
from clinimm.report.staining import run as run_report
from clinimm.workspace import Workspace
from tests.browsing import WORST_CONTRAST
from tests.report.stain_toy import SIDE, build_stain_run

BOXES = "[...document.querySelectorAll('svg.tissue')].map(one => one.getAttribute('viewBox'))"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = build_stain_run(tmp_path_factory.mktemp("viewer"))
    run_report(workspace, QUIET)
    return workspace


@pytest.fixture
def region(browser: Any, toy: Workspace) -> Iterator[Any]:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address(toy, "regions/3.html"))
    yield page
    page.close()


def address(workspace: Workspace, name: str) -> str:
    return (workspace.root / "report" / name).as_uri()


def boxes(page: Any) -> list[tuple[float, ...]]:
    """The view of each picture; they must be one and the same."""
    return [tuple(float(one) for one in box.split()) for box in page.evaluate(BOXES)]


def test_hostile_pages_request_nothing_and_run_nothing_but_the_viewer(
    browser: Any, tmp_path: Path, xss: tuple[str, ...]
) -> None:
    workspace = build_stain_run(tmp_path, hostile=" ".join(xss), side=128)
    run_report(workspace, QUIET)
    for name, scripts in (("index.html", 0), ("regions/3.html", 1)):
        requested, said = [], []
        page = browser.new_page()
        page.on("request", lambda request, into=requested: into.append(request.url))
        page.on("console", lambda message, into=said: into.append(message.text))
        page.on("pageerror", lambda error, into=said: into.append(str(error)))
        page.on("dialog", lambda dialog, into=said: into.append(dialog.message))
        page.goto(address(workspace, name))
        page.mouse.move(400, 300)
        page.keyboard.press("Tab")
        assert [
            url for url in requested if url != address(workspace, name) and not url.startswith("data:image/")
        ] == []
        assert said == []
        assert page.evaluate("document.scripts.length") == scripts
        page.close()


def test_keys_zoom_and_move_all_pictures_together(region: Any) -> None:
    whole = boxes(region)
    assert set(whole) == {(0, 0, SIDE, SIDE)}
    region.locator(".window").first.focus()
    region.keyboard.press("+")
    (x, y, width, height) = next(iter(set(boxes(region))))
    assert len(set(boxes(region))) == 1
    assert width == height == pytest.approx(SIDE / 1.5)
    assert (x, y) == pytest.approx(((SIDE - width) / 2,) * 2)
    region.keyboard.press("ArrowRight")
    assert boxes(region)[0][0] == pytest.approx(x + width / 8)
    region.keyboard.press("0")
    assert boxes(region) == whole


def test_the_view_never_leaves_the_region(region: Any) -> None:
    region.locator(".window").first.focus()
    for key in ["+"] * 12 + ["ArrowLeft"] * 30 + ["ArrowUp"] * 30:
        region.keyboard.press(key)
    assert boxes(region)[0][:3] == (0, 0, 24)
    for _ in range(12):
        region.keyboard.press("-")
    assert boxes(region)[0] == (0, 0, SIDE, SIDE)


def test_the_wheel_scrolls_the_page_until_a_picture_is_clicked(region: Any) -> None:
    frame = region.locator(".window").first
    box = frame.bounding_box()
    region.mouse.move(box["x"] + 50, box["y"] + 50)
    region.mouse.wheel(0, -200)
    region.wait_for_timeout(100)
    assert boxes(region)[0][2] == SIDE
    frame.click(position={"x": 50, "y": 50})
    region.mouse.wheel(0, -200)
    region.wait_for_function(f"document.querySelector('svg.tissue').viewBox.baseVal.width < {SIDE}")
    x, y, width, _ = boxes(region)[0]
    assert (x, y) == pytest.approx(
        (50 / box["width"] * (SIDE - width),) * 2, rel=0.1
    )  # what is under it stays


def test_dragging_moves_and_a_button_goes_back(region: Any) -> None:
    region.get_by_role("button", name="Zoom in").click()
    frame = region.locator(".window").nth(1)
    frame.scroll_into_view_if_needed()
    box, before = frame.bounding_box(), boxes(region)[0]
    region.mouse.move(box["x"] + 200, box["y"] + 200)
    region.mouse.down()
    region.mouse.move(box["x"] + 150, box["y"] + 180, steps=4)
    region.mouse.up()
    after = boxes(region)[0]
    scale = before[2] / (box["width"] - 2)
    assert after[0] - before[0] == pytest.approx(50 * scale, rel=0.02)
    assert after[1] - before[1] == pytest.approx(20 * scale, rel=0.02)
    region.get_by_role("button", name="Whole region").click()
    assert boxes(region)[0] == (0, 0, SIDE, SIDE)


def test_the_divider_follows_the_keyboard_and_the_pointer(region: Any) -> None:
    cut = "Number(document.querySelector('.cut').getAttribute('width'))"
    assert region.evaluate(cut) == SIDE / 2
    region.locator("[data-divider]").focus()
    for _ in range(10):
        region.keyboard.press("ArrowRight")
    assert region.evaluate(cut) == pytest.approx(0.6 * SIDE)
    frame = region.locator(".swipe .window")
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    region.mouse.move(box["x"] + 0.6 * box["width"], box["y"] + 100)
    region.mouse.down()
    region.mouse.move(box["x"] + 0.2 * box["width"], box["y"] + 100, steps=4)
    region.mouse.up()
    assert region.evaluate(cut) == pytest.approx(0.2 * SIDE, rel=0.03)
    assert boxes(region)[0] == (0, 0, SIDE, SIDE)


def test_any_two_layers_are_compared_and_the_warning_goes_with_the_virtual_one(region: Any) -> None:
    region.locator("select[data-side=left]").select_option("source")
    region.locator("select[data-side=right]").select_option("plain-0")
    assert region.evaluate("document.querySelector('use.right').getAttribute('href')") == "#plain-0"
    assert region.locator(".chip.left").inner_text() == "Source, HE"
    assert "NOT A REAL STAIN" in region.locator(".chip.right").inner_text()
    assert "made" in region.locator(".chip.right").get_attribute("class")
    label = region.locator(".swipe svg.tissue").get_attribute("aria-label")
    assert label == "Source, HE on the left, Virtual KI67, from pixels alone on the right."


def test_the_overlay_follows_its_slider(region: Any) -> None:
    region.locator("[data-opacity]").fill("20")
    assert region.evaluate("document.querySelector('.over').getAttribute('opacity')") == "0.2"


def test_the_expected_error_under_the_pointer_is_the_one_of_the_run(region: Any, toy: Workspace) -> None:
    from clinimm.staining.pair_store import PairStore
    from clinimm.staining.prediction_store import Results

    results = Results(toy.root / "predict", PairStore(toy.root / "encode" / "pairs"))
    safest = next(one for one in results if one.region.pair.subject_id == "S0")
    frame = region.locator(".window").first
    frame.scroll_into_view_if_needed()
    box = frame.bounding_box()
    inside = (box["width"] - 2) / SIDE  # pixels of the screen a pixel of the region
    region.mouse.move(box["x"] + 1 + 100.5 * inside, box["y"] + 1 + 60.5 * inside)
    said = region.locator("[data-where]").inner_text()
    assert said.startswith("x 50 µm, y 30 µm")
    shown = float(said.rpartition("error ")[2].removesuffix(" %"))
    most = float(region.locator(".viewer").get_attribute("data-most"))
    expected = min(float(safest.made["KI67"].expected_error[60, 100]), most)
    assert shown == pytest.approx(100 * expected, abs=100 * most / 255 + 0.05)


def test_a_scale_bar_is_as_long_as_it_says(region: Any) -> None:
    region.locator(".window").first.focus()
    for _ in range(3):
        bar = region.evaluate(
            "(() => { const line = document.querySelector('.scale line');"
            " const words = document.querySelector('.scale text').textContent;"
            " return [line.x2.baseVal.value - line.x1.baseVal.value, words]; })()"
        )
        assert bar[0] * 0.5 == pytest.approx(float(bar[1].split()[0]), rel=1e-3)
        region.keyboard.press("+")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_pages_fit_and_text_has_the_contrast_that_wcag_aa_asks_for(
    browser: Any, toy: Workspace, width: int, scheme: str
) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    page = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    for name in ("index.html", "regions/1.html", "regions/3.html"):
        page.goto(address(toy, name))
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        assert page.evaluate(WORST_CONTRAST) >= 4.5
    page.close()


def test_without_a_script_the_pictures_are_there(browser: Any, toy: Workspace) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address(toy, "regions/3.html"))
    assert page.locator(".window").first.is_visible()
    assert not page.locator(".tools").is_visible()
    context.close()
