from __future__ import annotations

import json
from xml.etree import ElementTree as ET

import pandas as pd

from clinimm.report.labs import lab_chart, labs_of
from clinimm.report.page import visible

START = pd.Timestamp("2024-03-01T06:00:00Z")
RANGE = json.dumps({"reference_low": 0.6, "reference_high": 1.2, "display": "Creatinine"})


def _events(*rows: tuple[str, int, float, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"code": code, "time": START + pd.Timedelta(hours=hours), "numeric_value": value, "unit": unit,
             "attributes": RANGE if code == "LOINC//2160-0" else None}
            for code, hours, value, unit in rows
        ]
    )  # fmt: skip


def test_series_are_ordered_by_what_they_moved_and_split_by_unit() -> None:
    events = _events(
        ("LOINC//2160-0", 30, 1.9, "mg/dL"), ("LOINC//2160-0", 0, 1.0, "mg/dL"),
        ("LOINC//2160-0", 5, 90.0, "umol/L"), ("LOINC//8867-4", 1, 72.0, "/min"),
        ("DEMOGRAPHIC//age_years", 0, 61.0, "a"),
    )  # fmt: skip
    attributions = pd.DataFrame({"text": ["LOINC//8867-4 = 72 /min"], "score": [-3.0]})
    labs = labs_of(events, attributions)
    assert [(lab.name, lab.unit, len(lab.values)) for lab in labs] == [
        ("Heart rate (LOINC 8867-4)", "/min", 1),
        ("Creatinine (LOINC 2160-0)", "mg/dL", 2),
        ("Creatinine (LOINC 2160-0)", "umol/L", 1),
    ]
    assert [one.value for one in labs[1].values] == [1.0, 1.9], "oldest first"
    assert labs[1].latest.flag == "high" and labs[1].reference == "0.6 to 1.2"


def test_the_chart_says_date_value_unit_and_range() -> None:
    lab = labs_of(
        _events(("LOINC//2160-0", 0, 1.0, "mg/dL"), ("LOINC//2160-0", 30, 1.9, "mg/dL")), pd.DataFrame()
    )[0]
    svg = ET.fromstring(lab_chart(lab))
    assert svg.attrib["aria-label"] == (
        "Creatinine (LOINC 2160-0): 2024-03-01 06:00 UTC 1 mg/dL; 2024-03-02 12:00 UTC 1.9 mg/dL (high); "
        "reference 0.6 to 1.2."
    )
    (band,) = svg.iter("rect")
    low, high = (circle for circle in svg.iter("circle"))
    assert (low.attrib["class"], high.attrib["class"]) == ("inside", "outside")
    top, height = float(band.attrib["y"]), float(band.attrib["height"])
    assert top < float(low.attrib["cy"]) < top + height, "inside the range, inside the band"
    assert float(high.attrib["cy"]) < top, "above the range, above the band"


def test_a_constant_series_and_hostile_words_still_draw(xss: tuple[str, ...]) -> None:
    text = visible(" ".join(xss))
    events = _events(*[("LOINC//1", hours, 5.0, text) for hours in range(8)])
    (lab,) = labs_of(events, pd.DataFrame())
    svg = ET.fromstring(lab_chart(lab))
    assert {element.tag for element in svg.iter()} <= {"svg", "text", "circle", "polyline"}
    assert "3 earlier values" in svg.attrib["aria-label"]
