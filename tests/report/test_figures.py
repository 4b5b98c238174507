from __future__ import annotations

import re
from xml.etree import ElementTree as ET

from clinimm.report import figures


def _rectangles(svg: str) -> list[dict[str, str]]:
    return [element.attrib for element in ET.fromstring(svg).iter("rect")]


def test_bars_are_as_long_as_their_values_and_point_the_right_way() -> None:
    svg = figures.contribution_bars([("a", 2.0), ("b", -1.0)], "what")
    first, second = _rectangles(svg)
    assert float(first["width"]) == 2 * float(second["width"])
    assert float(first["x"]) == float(second["x"]) + float(second["width"]), "both touch zero"
    assert (first["class"], second["class"]) == ("raises", "lowers")
    assert ET.fromstring(svg).attrib["aria-label"] == "what: a +2.00; b −1.00."


def test_overlay_cells_keep_their_place_and_weak_ones_stay_clear() -> None:
    boxes = [((0.0, 0.0, 10.0, 20.0), 1.0), ((10.0, 0.0, 20.0, 20.0), -0.5), ((0.0, 20.0, 10.0, 40.0), 0.001)]
    strong, weak = _rectangles(figures.overlay(boxes, (20, 40), "p", "said"))
    assert (strong["x"], strong["width"], strong["height"], strong["fill-opacity"]) == (
        "0",
        "10",
        "20",
        "0.750",
    )
    assert weak["fill-opacity"] == "0.375"


def test_an_interval_outside_the_scale_is_cut_at_its_end() -> None:
    svg = figures.interval_bar(0.9, 0.1, 1.0, floor=0.3)
    line = next(e for e in ET.fromstring(svg).iter("line") if e.attrib["class"] == "interval")
    assert (line.attrib["x1"], line.attrib["x2"]) == ("0.0", "160.0")


def test_every_figure_is_well_formed_and_escapes_what_it_is_given(xss: tuple[str, ...]) -> None:
    text = " ".join(xss)
    for svg in (
        figures.contribution_bars([(text, 1.0)], text),
        figures.overlay([((0, 0, 1, 1), 1.0)], (1, 1), text, text),
        figures.outlines([((0, 0, 1, 1), 1.0)], (1, 1), text, text),
        figures.original(text, (1, 1), text, text),
        figures.timeline([(0.0, 1.0, text), (5.0, -1.0, text)], text),
        figures.probability_scale(0.5, None),
    ):
        names = {element.tag for element in ET.fromstring(svg).iter()}
        assert names <= {"svg", "g", "rect", "line", "text", "circle", "use", "image", "title"}
        assert not re.search(r"\sstyle=", svg)
