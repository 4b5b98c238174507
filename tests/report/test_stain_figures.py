from __future__ import annotations

import re
import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinimm.report.stain_figures import (
    Frame,
    methods_figure,
    nice,
    refusal_figure,
    registration_figure,
    reliability_figure,
    standalone,
    ticks,
)


def figure(value: float | None, low: float | None = None, high: float | None = None) -> dict:
    return {"value": value, "low": low, "high": high}


@given(st.floats(1e-6, 1e6))
def test_a_nice_number_is_the_next_round_one_and_its_ticks_end_there(value: float) -> None:
    most = nice(value)
    assert value * (1 - 1e-6) <= most <= 2.0001 * value
    assert ticks(most)[0] == 0
    assert ticks(most)[-1] == pytest.approx(most)
    assert len(ticks(most)) <= 6


def test_a_frame_puts_its_corners_at_the_corners() -> None:
    frame = Frame(10, 20, 100, 50, 2.0, 0.5)
    assert (frame.x(0), frame.y(0), frame.x(2), frame.y(0.5)) == (10, 70, 110, 20)


def test_reliability_lies_on_the_dashed_line_where_expected_equals_observed() -> None:
    rows = [{"expected": 0.1, "observed": figure(0.1, 0.05, 0.2)}]
    drawn = str(reliability_figure(rows, "KI67"))
    x, y = (float(re.search(rf'class="marker" .*?{name}="([\d.]+)"', drawn)[1]) for name in ("cx", "cy"))
    frame = Frame(58, 14, 320, 320, 0.2, 0.2)
    assert (x, y) == (pytest.approx(frame.x(0.1), abs=0.1), pytest.approx(frame.y(0.1), abs=0.1))
    assert "expected 10.0\u00a0%, observed 10.0\u00a0%" in drawn


def test_refusal_says_its_numbers_to_a_screen_reader() -> None:
    curve = {
        "share_refused": [0.0, 0.5, 0.95],
        "kept_error": [0.10, 0.06, 0.02],
        "oracle_error": [0.10, 0.05, 0.01],
        "random": figure(0.10),
    }
    drawn = str(refusal_figure(curve, "KI67"))
    said = ET.fromstring(drawn).attrib["aria-label"]
    assert "10.0\u00a0% with nothing refused, 6.0\u00a0% with half" in said
    assert "oracle 5.0\u00a0%" in said


def test_the_model_is_told_from_rivals_by_shape_and_what_is_unknown_is_said() -> None:
    rows = [("unet", figure(0.8, 0.7, 0.9)), ("copy", figure(0.2)), ("quadratic", figure(None))]
    drawn = str(methods_figure(rows, "unet", 0.5, "AUROC"))
    assert drawn.count('class="marker"') == 1
    assert drawn.count('class="rival-marker"') == 1
    assert "not estimable" in drawn
    assert "copy 0.20, no interval" in drawn


def test_registration_marks_what_was_refused_and_survives_what_was_not_measured() -> None:
    rows = [("a", 20.0, 1.0, False), ("b", None, 9.0, True), ("c", 30.0, 8.0, True), ("d", None, None, True)]
    drawn = str(registration_figure(rows, 3.0))
    assert drawn.count('class="kept"') == 1
    assert drawn.count('class="dropped"') == 1
    assert "b not measured to 9.0 µm, refused" in drawn
    assert ">d<" not in drawn


def test_names_stay_text() -> None:
    drawn = str(registration_figure([("<script>&", 3.0, 1.0, False)], 3.0))
    assert "<script>" not in drawn
    ET.fromstring(drawn)


def test_a_figure_of_its_own_carries_its_style() -> None:
    content = standalone(registration_figure([("a", 3.0, 1.0, False)], 3.0))
    root = ET.fromstring(content)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert "stroke" in root[0].text
