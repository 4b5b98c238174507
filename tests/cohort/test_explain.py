from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

import pytest

from clinimm.cohort.explain import explain_text, flow_svg
from clinimm.cohort.flow import Flow, Step


@pytest.fixture
def flow() -> dict[str, Any]:
    steps = (
        Step("index: first event of modality radiology", "index", 1234, 0),
        Step("adults", "inclusion", 1234, 34, {"age unknown": 4, "younger than 18 years": 30}),
        Step("dialysis <ever> & long words that need more than one line of the box", "exclusion", 1200, 12),
    )
    part = {"name": "held_out", "subjects": 160.4, "classes": {"aki": 40, "not aki": 120.4}}
    value = Flow(
        cohort="early-aki",
        question="Will creatinine rise?",
        subjects=1234,
        events=56789,
        steps=steps,
        label={
            "task": "aki",
            "kind": "binary",
            "labelled": 800,
            "unlabelled": 388,
            "classes": {"aki": 200, "not aki": 600},
        },
        inputs={"ehr": {"subjects": 700, "events": 5000}},
        split={"kind": "folds_file", "repeats": 5, "folds": 5, "parts": [part]},
        warnings=("388 subjects may have been lost.",),
    )
    content: dict[str, Any] = json.loads(value.to_json())
    return content


def test_every_count_is_in_the_text(flow: dict[str, Any]) -> None:
    text = explain_text(flow)
    for words in (
        "early-aki: Will creatinine rise?",
        "subjects in the data                     1,234",
        "├─▶ nobody left",
        "├─▶ 34 left",
        "4 age unknown",
        "30 younger than 18 years",
        "├─▶ 12 left: dialysis <ever> & long words",
        "├─▶ 388 unknown; they stay, unlabelled",
        "with a known label: aki                    800",
        "700 of 1,188 subjects, 5,000 events",
        "5 × 5 folds (means over the 25 fits)",
        "held out       160.4   40 aki, 120.4 not aki",
        "! 388 subjects may have been lost.",
    ):
        assert words in text, words


def test_the_text_fits_a_terminal_and_its_boxes_are_straight(flow: dict[str, Any]) -> None:
    lines = explain_text(flow).splitlines()
    assert max(map(len, lines)) <= 80
    assert {len(line) for line in lines if line and line[0] in "┌│└"} == {50}
    assert not any(line != line.rstrip() for line in lines)


def test_the_svg_is_valid_and_holds_every_count(flow: dict[str, Any]) -> None:
    root = ElementTree.fromstring(flow_svg(flow))
    words = " ".join(root.itertext())
    for part in ("n = 1,234", "n = 1,188", "34 left", "4 age unknown", "dialysis <ever> &", "160.4 held out"):
        assert part in words, part
    height = float(root.attrib["height"])
    tops = [float(node.attrib["y"]) for node in root.iter() if "y" in node.attrib]
    assert max(tops) < height


def test_a_flow_without_a_split_is_drawn_too(flow: dict[str, Any]) -> None:
    early = flow | {"split": {}, "inputs": {}, "warnings": []}
    assert "Split" not in explain_text(early) + flow_svg(early)
