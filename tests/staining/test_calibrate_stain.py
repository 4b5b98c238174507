from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.isotonic import IsotonicRegression

from clinimm.core.errors import DataError
from clinimm.staining.calibrate_stain import ErrorMap, PixelErrors, fit_error_map


def laplace_subjects(count: int, wrong_by: float, first: int = 0, pixels: int = 4000) -> list[PixelErrors]:
    """Laplace errors whose true mean is ``wrong_by`` times what was expected."""
    found = []
    for index in range(first, first + count):
        generator = np.random.default_rng(index)
        expected = generator.uniform(0.01, 0.1, pixels)
        observed = np.abs(generator.laplace(0, 1, (pixels, 3))) * (wrong_by * expected)[:, None]
        found.append(PixelErrors(f"s{index:02d}", expected, observed))
    return found


def test_the_map_undoes_a_wrong_scale() -> None:
    found = fit_error_map(laplace_subjects(8, wrong_by=2.5))
    raw = np.array([0.02, 0.05, 0.09])
    np.testing.assert_allclose(found(raw), 2.5 * raw, rtol=0.1)


def test_the_map_is_scikit_learns_isotonic_regression_where_expectations_are_few() -> None:
    generator = np.random.default_rng(3)
    expected = np.repeat(np.linspace(0.01, 0.06, 16), 64)
    observed = np.abs(generator.normal(0.05, 0.05, (len(expected), 3)))
    found = fit_error_map([PixelErrors("a", expected, observed)])
    peer = IsotonicRegression().fit(expected, observed.mean(axis=1))
    np.testing.assert_allclose(found(np.unique(expected)), peer.predict(np.unique(expected)), rtol=1e-4)


def test_every_subject_counts_the_same_whatever_its_size() -> None:
    small = PixelErrors("small", np.full(100, 0.05), np.full((100, 3), 0.02))
    large = PixelErrors("large", np.full(9900, 0.05), np.full((9900, 3), 0.10))
    assert fit_error_map([small, large])(np.array([0.05]))[0] == pytest.approx(0.06, rel=1e-4)


def test_past_the_tuning_pairs_the_expectation_keeps_growing() -> None:
    found = fit_error_map(laplace_subjects(4, wrong_by=2.0))
    assert found(np.array([0.4]))[0] == pytest.approx(0.8, rel=0.1)
    grid = np.linspace(0, 0.5, 400)
    assert (np.diff(found(grid)) >= -1e-7).all()


def test_json_keeps_the_map() -> None:
    found = fit_error_map(laplace_subjects(3, wrong_by=1.4))
    assert ErrorMap.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_broken_or_missing_errors_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="no pixel"):
        fit_error_map([PixelErrors("a", np.zeros(0), np.zeros((0, 3)))])
    with pytest.raises(DataError, match="not finite"):
        fit_error_map([PixelErrors("a", np.array([np.nan]), np.zeros((1, 3)))])
    with pytest.raises(DataError, match="fitted are"):
        fit_error_map(laplace_subjects(2, 1.0)).half_width(np.ones(1), 0.123)
