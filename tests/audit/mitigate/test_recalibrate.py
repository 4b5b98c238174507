from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss

from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.mitigate.recalibrate import recalibrate, recalibrated
from tests.audit.detect.conftest import draw_rows


def off_for_b(n: int, seed: int = 0) -> Rows:
    rows = draw_rows(n, seed)
    hit = rows.attributes["race"].code == 1
    return replace(rows, probability=np.where(hit, expit(2 * logit(rows.probability) - 1), rows.probability))


def test_large_groups_get_the_curve_of_a_logistic_regression() -> None:
    rows = off_for_b(40_000)
    found = recalibrate(rows, "race")
    for place in range(3):
        own = rows.attributes["race"].code == place
        fit = LogisticRegression(C=np.inf).fit(logit(rows.probability[own])[:, None], rows.label[own])
        assert found.shift[place] == pytest.approx(fit.intercept_[0], abs=0.03)
        assert found.slope[place] == pytest.approx(fit.coef_[0, 0], abs=0.03)


def test_a_handful_of_cases_does_not_get_a_curve_of_its_own() -> None:
    rows = draw_rows(3000)
    code = (np.arange(3000) < 12).astype(np.int64)
    label = np.where(code == 1, 1, rows.label).astype(np.uint8)
    found = recalibrate(Rows(label, rows.probability, {"site": Coded(code, ("old", "new"))}), "site")
    assert found.shift[0] < found.shift[1] < 2.0
    assert np.all((found.slope > 0.4) & (found.slope < 2.0))


def test_those_who_were_off_become_better_and_the_others_stay() -> None:
    rows = off_for_b(6000, 1)
    after = recalibrated(rows, "race")
    hit = rows.attributes["race"].code == 1
    before_b, after_b = (brier_score_loss(rows.label[hit], one[hit]) for one in (rows.probability, after))
    assert after_b < before_b - 0.01
    before_rest, after_rest = (
        brier_score_loss(rows.label[~hit], one[~hit]) for one in (rows.probability, after)
    )
    assert after_rest == pytest.approx(before_rest, abs=0.001)


def test_a_row_does_not_calibrate_itself_nor_its_subject() -> None:
    rows = off_for_b(300, 2)
    subjects = replace(rows, cluster=np.arange(300) // 3)
    turned = replace(subjects, label=subjects.label.copy())
    turned.label[:3] = 1 - turned.label[:3]
    first, second = recalibrated(subjects, "race"), recalibrated(turned, "race")
    assert np.array_equal(first[:3], second[:3])
    assert not np.array_equal(first[3:], second[3:])
