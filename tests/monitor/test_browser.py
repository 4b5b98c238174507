"""The board in a real browser: nothing is requested, nothing runs, and everybody can read it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from clinimm.monitor.page import board
from clinimm.monitor.plan import PACKAGED, MonitoringPlan
from clinimm.monitor.read_table import read_table
from clinimm.monitor.run import content_of, look
from tests.browsing import chromium, listen
from tests.monitor.conftest import draw


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as found:
        yield found


@pytest.fixture
def page_file(tmp_path: Path, plan: MonitoringPlan) -> Path:
    """A board with every kind of section, over two periods."""
    tables = {"before": draw(300, 1), "now": draw(300, 2, "gap", 90, 60)}
    for name, table in tables.items():
        table.to_parquet(tmp_path / f"{name}.parquet", index=False)
    before, now = (read_table(tmp_path / f"{name}.parquet", ["sex"]) for name in tables)
    looked = look(before, now, plan)
    content = content_of(looked, before, now, plan, PACKAGED, tmp_path / "incidents", None, date(2026, 1, 1))
    path = tmp_path / "board.html"
    path.write_text(board(content), encoding="utf-8")
    return path


def test_the_board_requests_nothing_and_everybody_can_read_it(browser: Any, page_file: Path) -> None:
    """WCAG 2.0 to 2.2, A and AA, and axe's own best practices; light and dark, narrow and wide."""
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe is not installed")
    for scheme, width in (("light", 1300), ("dark", 390)):
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, bypass_csp=True
        )
        page = context.new_page()
        heard = listen(page)
        page.goto(page_file.as_uri())
        for summary in page.locator("details > summary").all():
            summary.click()
        assert heard.outside(page_file.as_uri()) == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        assert axe.Axe().run(page).response["violations"] == []
        context.close()
