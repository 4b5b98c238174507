from __future__ import annotations

import json

import numpy as np
import pytest

from clinimm.staining.calibrate_stain import fit_error_map
from clinimm.staining.reliability import reliability
from tests.staining.test_calibrate_stain import laplace_subjects


def test_intervals_hold_their_level_on_otherlaplace_subjects() -> None:
    found = fit_error_map(laplace_subjects(8, wrong_by=1.7))
    judged = reliability(laplace_subjects(8, wrong_by=1.7, first=50), found)
    for level, share in judged.coverage.items():
        assert share.value == pytest.approx(level, abs=0.01)
    # |x| of a Laplace distribution with mean m exceeds -m ln(1 - level) with chance 1 - level.
    assert dict(found.half_widths)[0.9] == pytest.approx(-np.log(0.1), rel=0.05)


def test_an_expectation_that_is_right_has_a_small_calibration_error_and_a_wrong_one_a_large() -> None:
    error_map = fit_error_map(laplace_subjects(8, wrong_by=1.0))
    right = reliability(laplace_subjects(10, wrong_by=1.0, first=20), error_map)
    wrong = reliability(laplace_subjects(10, wrong_by=2.0, first=20), error_map)
    assert right.calibration_error.value < 0.002
    assert wrong.calibration_error.low > 0.03
    assert len(right.rows) == 10
    assert sum(row.pixels for row in right.rows) == right.pixels == 40_000


def test_rows_are_means_of_their_pixels() -> None:
    samples = laplace_subjects(5, wrong_by=1.3)
    error_map = fit_error_map(samples)
    judged = reliability(samples, error_map)
    expected = error_map(np.concatenate([one.expected for one in samples])).astype(float)
    observed = np.concatenate([one.observed for one in samples]).mean(axis=1)
    row = judged.rows[-1]
    inside = expected >= row.low
    assert row.pixels == inside.sum()
    assert row.observed.value == pytest.approx(observed[inside].mean())
    assert row.expected == pytest.approx(expected[inside].mean())


def test_each_fold_is_judged_by_its_own_map_and_widths() -> None:
    one, other = laplace_subjects(4, wrong_by=1.0), laplace_subjects(4, wrong_by=3.0, first=40)
    maps = [fit_error_map(one)] * len(one) + [fit_error_map(other)] * len(other)
    own = reliability([*one, *other], maps)
    shared = reliability([*one, *other], maps[0])
    for level in (0.5, 0.9):
        assert own.coverage[level].value == pytest.approx(level, abs=0.03)
        assert abs(shared.coverage[level].value - level) > 0.1
    assert own.calibration_error.value < 0.01 < shared.calibration_error.value
    assert reliability(one, maps[:4]) == reliability(one, maps[0])


def test_figures_are_plain_json() -> None:
    found = reliability(laplace_subjects(5, 1.0), fit_error_map(laplace_subjects(3, wrong_by=1.4)))
    json.dumps(found.to_json(), allow_nan=False)
