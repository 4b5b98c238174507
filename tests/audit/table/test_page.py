"""What a reviewer sees first, on the screen and on paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clinimm.audit.table.run import audit_table
from clinimm.audit.table.write import evidence
from tests.audit.table.conftest import draw_table, policy_of
from tests.browsing import WORST_CONTRAST, chromium

ASKED = ("What was tested", "On whom", "Worst group", "What is not known")
RULE = {"id": "missed", "metric": "fnr", "stat": "difference", "attribute": ["race*sex"], "margin": 0.05}


@pytest.fixture(scope="module")
def browser() -> Any:
    with chromium() as opened:
        yield opened


@pytest.fixture
def files(write: Callable[..., Path]) -> Callable[..., dict[str, bytes]]:
    def make(**drawn: Any) -> dict[str, bytes]:
        policy = policy_of(RULE)
        return evidence(audit_table(write(draw_table(**drawn)), policy), policy)

    return make


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_first_screen_answers_what_a_reviewer_asks(
    browser: Any, files: Callable[..., dict[str, bytes]], tmp_path: Path, scheme: str
) -> None:
    path = tmp_path / "audit.html"
    path.write_bytes(files(bias=2.0)["audit.html"])
    page = browser.new_page(viewport={"width": 1280, "height": 800}, color_scheme=scheme)
    page.goto(path.as_uri())
    assert "Worse than allowed: race × sex: b × female" in page.locator(".verdict").inner_text()
    for title in ASKED:
        box = page.locator(".cards section", has=page.get_by_role("heading", name=title)).bounding_box()
        assert box["y"] + box["height"] <= 800, title
    assert "b × female" in page.locator(".cards section").nth(2).inner_text()
    assert page.evaluate(WORST_CONTRAST) >= 4.5
    page.set_viewport_size({"width": 390, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.close()


def test_a_published_view_that_hides_all_says_so_and_what_to_do(
    files: Callable[..., dict[str, bytes]],
) -> None:
    page = files(n=60)["published/audit.html"].decode()
    assert "No figure of any group is shown here" in page and "join levels" in " ".join(page.split())
    assert "No figure of any group is shown here" not in files(n=4000)["published/audit.html"].decode()
