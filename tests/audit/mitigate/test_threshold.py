from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import expit, logit

from clinimm.audit.engine.rows import Rows
from clinimm.audit.mitigate.threshold import choose_threshold
from tests.audit.detect.conftest import draw_rows


def lowered_for_b(n: int = 1500) -> Rows:
    rows = draw_rows(n)
    hit = rows.attributes["race"].code == 1
    return replace(rows, probability=np.round(expit(logit(rows.probability) - 1.2 * hit), 1))


def rates(rows: Rows, flagged: np.ndarray) -> list[float]:
    code = rows.attributes["race"].code
    return [float(np.mean(~flagged[(code == place) & (rows.label == 1)])) for place in range(3)]


def benefit(rows: Rows, flagged: np.ndarray, at: float) -> float:
    gain = np.where(rows.label == 1, 1.0, -at / (1 - at))
    return float(np.mean(flagged * gain))


def test_one_threshold_is_the_best_of_all_that_keep_the_ceiling() -> None:
    rows = lowered_for_b()
    chosen = choose_threshold(rows, "race", 0.3, most_missed=0.3)
    assert chosen.met and len(set(chosen.thresholds.values())) == 1
    able = [
        benefit(rows, rows.probability >= cut, 0.3)
        for cut in np.linspace(0.01, 0.99, 99)
        if max(rates(rows, rows.probability >= cut)) <= 0.3
    ]
    assert chosen.net_benefit == pytest.approx(max(able))
    assert chosen.worst == pytest.approx(max(rates(rows, chosen.flagged(rows, "race"))))


def test_thresholds_by_group_are_the_best_of_all_combinations() -> None:
    rows = lowered_for_b()
    chosen = choose_threshold(rows, "race", 0.3, largest_gap=0.05, by_group=True)
    flagged = chosen.flagged(rows, "race")
    assert chosen.met and np.ptp(rates(rows, flagged)) <= 0.05 + 1e-12
    assert chosen.net_benefit == pytest.approx(benefit(rows, flagged, 0.3))
    best, code = -np.inf, rows.attributes["race"].code
    for cuts in itertools.product(np.arange(0.05, 1.1, 0.1), repeat=3):
        decided = rows.probability >= np.array(cuts)[code]
        if np.ptp(rates(rows, decided)) <= 0.05 + 1e-12:
            best = max(best, benefit(rows, decided, 0.3))
    assert chosen.net_benefit == pytest.approx(best)


def test_what_cannot_be_kept_is_said_and_the_nearest_given() -> None:
    rows = lowered_for_b()
    impossible = replace(rows, probability=np.where(rows.label == 1, 0.0, 0.9))
    chosen = choose_threshold(impossible, "race", 0.3, most_missed=0.1)
    assert not chosen.met and "cannot keep" in chosen.sentence
    with pytest.raises(ValueError, match="give most_missed"):
        choose_threshold(rows, "race", 0.3)
