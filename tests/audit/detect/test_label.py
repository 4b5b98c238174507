from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LinearRegression

from clinimm.audit.detect.label import adjusted_difference, label_validity
from clinimm.audit.detect.risk import risk_basis
from clinimm.audit.detect.slices import find_slices
from clinimm.audit.engine.rows import Coded, Rows
from tests.audit.detect.conftest import draw_rows


def hidden_illness(n: int, seed: int = 0, lost: float = 0.4) -> tuple[Rows, np.ndarray]:
    """Race b is ill more often, and its illness is coded less often: the label's law is everybody's."""
    generator = np.random.default_rng(seed)
    rows = draw_rows(n, seed)
    member = rows.attributes["race"].code == 1
    ill = rows.probability / np.where(member, 1 - lost, 1.0)
    unseen = generator.random(n) < np.where(
        rows.label == 1, 0.0, (ill - rows.probability) / (1 - rows.probability)
    )
    return rows, ((rows.label == 1) | unseen).astype(float)


def test_a_label_that_understates_one_group_is_seen_by_another_outcome_alone() -> None:
    rows, ill = hidden_illness(6000)
    found = label_validity(rows, ill, "illness", attributes=["race"])
    gap = {one.level: one for one in found.gaps}["b"]
    assert gap.low > 0.05
    assert "race b" in " ".join(found.sentences)
    assert "understates it for them" in " ".join(found.sentences)
    assert not find_slices(rows, 0.3, draws=199).raised


def test_the_adjusted_difference_is_the_coefficient_of_a_regression() -> None:
    rows, ill = hidden_illness(1500)
    member, basis = rows.attributes["race"].code == 1, risk_basis(rows.probability)
    value, low, high = adjusted_difference(ill, member, basis, None, 0.95)
    design = np.column_stack([member, basis])
    expected = LinearRegression(fit_intercept=False).fit(design, ill).coef_[0]
    assert value == pytest.approx(expected, abs=1e-9)
    assert low < value < high


def test_where_risk_is_the_same_for_all_it_is_the_difference_of_means() -> None:
    rows, ill = hidden_illness(2000)
    flat = replace(rows, probability=np.full(rows.n, 0.3))
    gap = label_validity(flat, ill, attributes=["sex"]).gaps[0]
    assert gap.value == pytest.approx(gap.unadjusted, abs=1e-9)
    member = rows.attributes["sex"].code == 0
    welch = np.sqrt(ill[member].var(ddof=1) / member.sum() + ill[~member].var(ddof=1) / (~member).sum())
    level = 0.95**0.5
    from scipy.stats import norm

    assert gap.high - gap.value == pytest.approx(norm.ppf(0.5 + level / 2) * welch, rel=0.01)


def test_sicker_groups_alone_are_no_finding() -> None:
    rows = draw_rows(8000, seed=5, drift=1.2)
    outcome = (np.random.default_rng(1).random(rows.n) < rows.probability).astype(float)
    found = label_validity(rows, outcome, "death", attributes=["age"])
    assert abs(found.gaps[0].unadjusted) > 0.2
    assert not found.raised
    assert len(found.gaps[0].bins) == 5


def test_intervals_hold_for_small_groups_and_rare_outcomes() -> None:
    runs, held = 300, 0
    generator = np.random.default_rng(3)
    for _ in range(runs):
        logit = generator.normal(-2.0, 1.0, 300)
        member = generator.random(300) < expit(0.5 * logit - 1.0)
        outcome = (generator.random(300) < expit(logit)).astype(float)
        _, low, high = adjusted_difference(outcome, member, risk_basis(expit(logit)), None, 0.95)
        held += low <= 0 <= high
    assert held / runs >= 0.93


def test_rows_of_one_subject_count_once() -> None:
    rows, ill = hidden_illness(400)
    member = rows.attributes["sex"].code == 0
    one = adjusted_difference(ill, member, risk_basis(rows.probability), None, 0.95)
    five = adjusted_difference(
        np.repeat(ill, 5),
        np.repeat(member, 5),
        risk_basis(np.repeat(rows.probability, 5)),
        np.repeat(np.arange(400), 5),
        0.95,
    )
    assert five[0] == pytest.approx(one[0], abs=1e-9)
    assert five[2] - five[1] == pytest.approx(one[2] - one[1], rel=0.06)


def test_unknown_outcomes_are_left_out_and_said() -> None:
    rows, ill = hidden_illness(1000)
    ill[:400] = np.nan
    found = label_validity(rows, ill, "illness")
    assert (found.known, found.rows) == (600, 1000)
    assert "known for 600 of 1,000 rows" in found.sentences[-1]
    few = Rows(rows.label, rows.probability, {"site": Coded((np.arange(1000) < 405).astype(int), ("x", "y"))})
    assert np.isnan(label_validity(few, ill).gaps[1].value)
