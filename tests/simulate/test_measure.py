from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import ks_2samp
from sklearn.metrics import roc_auc_score

from clinimm.simulate.identity import SITES
from clinimm.simulate.measure import (
    CRP,
    LABS,
    PROCALCITONIN,
    TEMPERATURE,
    VITALS,
    Measurement,
    draw_measurements,
)
from clinimm.simulate.scenario import SCENARIOS
from clinimm.simulate.subject import Subject, draw_subject

# pint would need its own registry of clinical units; these factors are from the units' definitions
# and the molar masses of glucose (180.156 g/mol) and creatinine (113.12 g/mol).
_TO_USUAL = {
    ("mg/dL", "mg/L"): lambda v: v * 10,
    ("g/L", "g/dL"): lambda v: v / 10,
    ("umol/L", "mg/dL"): lambda v: v * 113.12 / 1e4,
    ("mmol/L", "mg/dL"): lambda v: v * 180.156 / 10,
    ("[degF]", "Cel"): lambda v: (v - 32) * 5 / 9,
    ("[lb_av]", "kg"): lambda v: v * 0.45359237,
}


def _subjects(scenario: str, count: int = 160) -> list[Subject]:
    return [draw_subject(SCENARIOS[scenario], 21, number) for number in range(count)]


def _last_values(subject: Subject) -> dict[str, float]:
    """Code -> the last value that was known at the index film."""
    items = [i for i in draw_measurements(subject, True).items if i.issued <= subject.index]
    return {i.analyte.code: i.usual_unit_value for i in items if i.status == "final"}


def _known_before(subject: Subject, code: str, late: bool = False) -> list[Measurement]:
    items = draw_measurements(subject, late).items
    return [i for i in items if i.analyte.code == code and i.issued <= subject.index and i.status == "final"]


def test_other_units_mean_the_same_amount():
    seen = set()
    for subject in _subjects("mixed", 60):
        for item in draw_measurements(subject, False).items:
            if item.unit == item.analyte.unit:
                continue
            usual = _TO_USUAL[item.unit, item.analyte.unit](item.value)
            assert usual == pytest.approx(item.usual_unit_value, rel=0.002)
            seen.add(item.unit)
    assert seen == {unit for unit, _ in _TO_USUAL}


def test_every_site_that_uses_another_unit_names_a_known_analyte():
    with_other = {a.code for a in (*LABS, *VITALS) if a.other_unit} | {"29463-7"}
    assert {code for site in SITES for code in site.other_units} <= with_other


def test_crp_before_the_film_carries_the_factor_and_after_it_does_not():
    before, after, factor = [], [], []
    for subject in _subjects("mixed"):
        known = _known_before(subject, CRP)
        if not known:
            continue
        later = [
            i for i in draw_measurements(subject, False).items if i.analyte.code == CRP and i not in known
        ]
        before.append(known[-1].usual_unit_value)
        after.append([i for i in later if i.status == "final"][-1].usual_unit_value)
        factor.append(subject.hidden.factors["inflamed"])
    assert roc_auc_score(factor, before) > 0.99
    assert ks_2samp(np.array(after)[factor], np.array(after)[~np.array(factor)]).pvalue > 0.01


def test_a_missing_crp_is_missing_before_the_film_only():
    missing = [s for s in _subjects("mixed") if not s.hidden.present["crp"]]
    assert missing
    for subject in missing:
        assert not _known_before(subject, CRP)
        assert any(i.analyte.code == CRP for i in draw_measurements(subject, False).items)


def test_late_procalcitonin_is_never_known_at_the_film_although_some_blood_was_drawn_before():
    drawn_before, value, factor = 0, [], []
    for subject in _subjects("late_signal", 120):
        assert not _known_before(subject, PROCALCITONIN, late=True)
        late = [i for i in draw_measurements(subject, True).items if i.analyte.code == PROCALCITONIN]
        drawn_before += late[0].effective < subject.index
        value.append(late[0].usual_unit_value)
        factor.append(subject.hidden.factors["late"])
    assert drawn_before > 30
    assert roc_auc_score(factor, value) > 0.99


def test_late_signal_has_nothing_before_the_film_that_tells_the_outcome():
    """Values and counts of everything known at the film are alike in both outcomes."""
    subjects = _subjects("late_signal", 160)
    label = np.array([s.hidden.label for s in subjects])
    codes = sorted({a.code for a in (*LABS, *VITALS)})
    known = [_last_values(subject) for subject in subjects]
    smallest = 1.0
    for code in codes:
        last = np.array([values.get(code, np.nan) for values in known])
        found = ~np.isnan(last)
        smallest = min(smallest, ks_2samp(last[found & label], last[found & ~label]).pvalue)
    assert smallest > 0.01 / len(codes)


def test_late_facts_change_nothing_before_the_film():
    subject = draw_subject(SCENARIOS["late_signal"], 3, 1)
    with_late = [i for i in draw_measurements(subject, True).items if i.issued <= subject.index]
    without = [i for i in draw_measurements(subject, False).items if i.issued <= subject.index]
    strip = [replace(i, status="final") for i in with_late if i.status == "final"]
    assert strip == [i for i in without if i.status == "final"]


def test_a_lost_decimal_point_keeps_its_true_size_in_the_truth():
    items = [i for s in _subjects("mixed", 300) for i in draw_measurements(s, False).items]
    absurd = [i for i in items if i.analyte.code == TEMPERATURE and i.usual_unit_value > 50]
    assert absurd
    assert all(i.value > 300 for i in absurd)
