"""What a reviewer sees first, on the screen and on paper."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from clinimm.audit.detect_settings import DetectSettings
from clinimm.audit.policy import Policy
from clinimm.audit.table.run import audit_table
from clinimm.audit.table.signals import signal_files, table_signals, with_signals
from clinimm.audit.table.write import evidence
from tests.audit.table.conftest import draw_table, policy_of, rule
from tests.browsing import WORST_CONTRAST, chromium, complaints

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


def test_an_attribute_recorded_of_nobody_is_called_so(write: Callable[..., Path]) -> None:
    policy = policy_of({**RULE, "attribute": ["race", "sex"]})
    page = evidence(audit_table(write(draw_table().assign(race=None)), policy), policy)["audit.html"].decode()
    told = [line for line in page.splitlines() if line.startswith("<li><b>race</b>")]
    assert told == ["<li><b>race</b>: recorded of nobody</li>"]


def many_rules() -> Policy:
    """More than forty rules, on several attributes and their crossings."""
    names = ("fnr", "fpr", "ppv", "npv", "auroc", "selection_rate", "brier")
    groups = ("race", "sex", "age", "race*sex", "sex*age", "race*age")
    rules = [
        rule(name, 0.05, id=f"{name}-by-{group}".replace("*", "-and-"), attribute=[group])
        for name in names
        for group in groups
    ]
    return policy_of(*rules, attributes={"age": {"bins": [40, 65]}, "race": {"source": "self_report"}})


@pytest.fixture(scope="module")
def long_pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an audit by many rules, its published view, and what detectors found."""
    folder = tmp_path_factory.mktemp("long")
    draw_table(4000, bias=2.0).to_parquet(folder / "table.parquet")
    policy = many_rules()
    table = policy.table.model_copy(update={"detect": DetectSettings(slices=True)})
    audit = audit_table(folder / "table.parquet", policy)
    ((name, study),) = audit.studies.items()
    signals = {name: table_signals(folder / "table.parquet", study.rows, table)}
    files = evidence(with_signals(audit, signals), policy) | signal_files(signals, "table.parquet")
    (folder / "published").mkdir()
    for path, content in files.items():
        (folder / path).write_bytes(content)
    return folder


@pytest.mark.parametrize(("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 390)])
@pytest.mark.parametrize("name", ["audit.html", "published/audit.html", "signals.html"])
def test_axe_finds_nothing_to_complain_about(
    browser: Any, long_pages: Path, name: str, scheme: str, width: int
) -> None:
    assert complaints(browser, long_pages / name, scheme, width) == []


def test_a_page_of_forty_rules_has_a_list_of_them_and_every_link_leads_somewhere(
    browser: Any, long_pages: Path
) -> None:
    page = browser.new_page(viewport={"width": 390, "height": 844})
    page.goto((long_pages / "audit.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    listed = page.get_by_role("region", name="All rules").locator("tbody tr")
    assert listed.count() == len(many_rules().rules) == 42
    failing = [int(row.locator("td").nth(2).inner_text()) for row in listed.all()]
    assert failing[0] > 0 and failing == sorted(failing, reverse=True)
    lost = "[...document.querySelectorAll('a[href^=\"#\"]')].filter(a => !document.querySelector(a.hash))"
    assert page.evaluate(f"{lost}.length") == 0
    names = page.locator("[role=region]").evaluate_all("all => all.map(one => one.ariaLabel)")
    assert len(names) == len(set(names))
    page.close()


def test_the_worst_group_is_the_one_most_margins_beyond_what_is_tolerated(
    browser: Any, long_pages: Path
) -> None:
    page = browser.new_page()
    page.goto((long_pages / "audit.html").as_uri())
    worst = page.locator(".cards section", has=page.get_by_role("heading", name="Worst group"))
    assert worst.locator("b").first.inner_text() == "race × sex: b × female"
    asked = page.locator(".cards section li").first.inner_text()
    assert asked.startswith("Missed (false negative rate): no group by race, sex, age, race × sex")
    page.close()


@pytest.mark.parametrize("backgrounds", [True, False])
def test_the_first_printed_page_has_verdict_worst_group_and_what_is_not_known(
    browser: Any, long_pages: Path, backgrounds: bool
) -> None:
    """The outline of the PDF says on which page a heading lies; each has its text whole on that page."""
    page = browser.new_page()
    page.goto((long_pages / "audit.html").as_uri())
    pdf = page.pdf(format="A4", print_background=backgrounds, tagged=True, outline=True)
    on_page = headings_of(pdf)
    assert [on_page[title] for title in ("Audit of table.parquet", *ASKED)] == [1] * 5
    assert on_page["How it was made"] == max(on_page.values()) > 5
    page.emulate_media(media="print")
    page.set_viewport_size({"width": PRINTED[0], "height": PRINTED[1]})
    for part in (".verdict", *[f".cards section:nth-of-type({place})" for place in range(1, 5)]):
        box = page.locator(part).first.bounding_box()
        assert box["y"] + box["height"] <= PRINTED[1], part
    page.close()


#: Within the margins of A4, 14 mm each, at 96 pixels an inch.
PRINTED = (round((210 - 28) / 25.4 * 96), round((297 - 28) / 25.4 * 96))


def headings_of(pdf: bytes) -> dict[str, int]:
    """Heading -> page, from the outline that Chromium writes; its objects are not compressed."""
    text = pdf.decode("latin-1")
    objects = {int(number): body for number, body in re.findall(r"(\d+) 0 obj\n(.*?)\nendobj", text, re.S)}
    leaves = [number for number, body in sorted(objects.items()) if re.search(r"/Type /Page\b", body)]
    found: dict[str, int] = {}
    for body in objects.values():
        title = re.search(r"/Title \((.*?)\)\s", body)
        place = re.search(r"/Dest \[(\d+) 0 R", body)
        if title and place:
            found.setdefault(title[1], leaves.index(int(place[1])) + 1)
    return found


def test_a_published_view_that_hides_all_says_so_and_what_to_do(
    files: Callable[..., dict[str, bytes]],
) -> None:
    page = files(n=60)["published/audit.html"].decode()
    assert "No figure of any group is shown here" in page and "join levels" in " ".join(page.split())
    assert "No figure of any group is shown here" not in files(n=4000)["published/audit.html"].decode()
