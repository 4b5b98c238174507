from __future__ import annotations

import re
from xml.etree import ElementTree as ET

import numpy as np
import pytest
from skimage.color import rgb2lab

from clinimm.report import figures
from clinimm.report.page import stylesheet, visible

_MISSING_CONES = {
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


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
    text = visible(" ".join(xss))
    for svg in (
        figures.contribution_bars([(text, 1.0)], text),
        figures.overlay([((0, 0, 1, 1), 1.0)], (1, 1), text, text),
        figures.outlines([((0, 0, 1, 1), 1.0)], (1, 1), text, text),
        figures.original(text, (1, 1), text, text),
        figures.waterfall(0.5, [(text, 1.0), (text, -1.0)], text),
        figures.icons(0.3),
        figures.overlay([((0, 0, 1, 1), 1.0)], (1, 1), text, text, struck=True),
        figures.probability_scale(0.5, None),
    ):
        names = {element.tag for element in ET.fromstring(svg).iter()}
        assert names <= {"svg", "g", "rect", "line", "text", "circle", "use", "image", "title"}
        assert not re.search(r"\sstyle=", svg)


def test_the_waterfall_ends_at_the_sum_of_its_steps() -> None:
    svg = figures.waterfall(1.0, [("a", 2.0), ("b", -4.0)], "Budget")
    start, up, down, total = _rectangles(svg)
    assert float(up["x"]) == float(start["x"]) + float(start["width"]), "a starts where the start ends"
    assert [bar["class"] for bar in (start, up, down, total)] == ["total", "raises", "lowers", "total"]
    assert float(down["width"]) == 2 * float(up["width"]) == 4 * float(total["width"])
    assert "logit of the answer −1.00" in ET.fromstring(svg).attrib["aria-label"]


def test_as_many_people_are_filled_as_the_probability_says() -> None:
    for probability, count in ((0.0, 0), (0.234, 23), (1.0, 100)):
        assert figures.icons(probability).count('class="filled"') == count


@pytest.mark.parametrize("cone", _MISSING_CONES)
def test_the_two_colours_of_a_map_differ_without_one_kind_of_cone(cone: str) -> None:
    """Machado, Oliveira and Fernandes (2009), severity 1; a difference of 30 (CIE76) is plain."""
    colours = re.findall(r"svg\.picture \.(?:raises|lowers) \{ fill: #(\w{6})", stylesheet())
    linear = srgb_to_linear(
        np.array([[int(text[i : i + 2], 16) / 255 for i in (0, 2, 4)] for text in colours])
    )
    seen = linear_to_srgb(np.clip(linear @ np.array(_MISSING_CONES[cone]).T, 0, 1))
    raises, lowers = rgb2lab(seen[:, None])[:, 0]
    assert len(colours) == 2 and np.linalg.norm(raises - lowers) > 30


def srgb_to_linear(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(value: np.ndarray) -> np.ndarray:
    return np.where(value <= 0.0031308, value * 12.92, 1.055 * value ** (1 / 2.4) - 0.055)
