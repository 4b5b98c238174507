from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from clinimm.core.errors import DataError
from clinimm.simulate.artefacts import Artefact, with_artefact
from clinimm.staining.appearance import STATISTICS, Appearance, describe_windows, fit_appearance
from clinimm.staining.optical import optical_density
from tests.staining.safety_toy import draw


@pytest.fixture(scope="module")
def fitted() -> Appearance:
    train, tuning = ([draw(first + index).source for index in range(24)] for first in (0, 100))
    return fit_appearance(train, tuning)


def test_a_window_is_described_by_its_own_pixels() -> None:
    rgb = draw(1).source
    windows = describe_windows(rgb).reshape(7, 7, len(STATISTICS))
    density = optical_density(rgb[32:64, 16:48])
    found = dict(zip(STATISTICS, windows[2, 1], strict=True))
    assert found["red"] == pytest.approx(density[..., 0].mean(), rel=1e-4)
    assert np.exp(found["log_spread_green"]) == pytest.approx(density[..., 1].std() + 1e-3, rel=1e-3)
    expected = np.corrcoef(density[..., 0].ravel(), density[..., 1].ravel())[0, 1]
    assert found["correlation_red_green"] == pytest.approx(expected, abs=1e-3)


def test_windows_do_not_depend_on_where_the_tile_starts() -> None:
    rgb = draw(2).source
    whole = describe_windows(rgb).reshape(7, 7, -1)
    part = describe_windows(rgb[32:, 48:]).reshape(5, 4, -1)
    # Gradients over a window's own pixels reach 4 pixels past it, so rims of the cut differ a little.
    np.testing.assert_allclose(part[1:-1, 1:-1], whole[3:-1, 4:-1], atol=1e-4)


def test_strangeness_is_the_negative_log_density_of_the_mixture(fitted: Appearance) -> None:
    windows = describe_windows(draw(3).source)[:5]
    standard = (windows - fitted.mean) / fitted.scale
    densities = np.zeros(5)
    for centre, whiten, log_weight in zip(fitted.centres, fitted.whiten, fitted.log_weights, strict=True):
        precision = whiten @ whiten.T
        peak = multivariate_normal(centre, np.linalg.inv(precision))
        share = np.exp(log_weight) / np.exp(peak.logpdf(centre))
        densities += share * peak.pdf(standard)
    np.testing.assert_allclose(fitted.strangeness(windows), -np.log(densities), rtol=1e-4)


def test_usual_tiles_lie_below_the_edge_and_small_artefacts_above_it(fitted: Appearance) -> None:
    clean = [draw(index).source for index in range(200, 212)]
    assert np.mean([fitted.score(rgb) > 1 for rgb in clean]) < 0.4
    for kind in ("blur", "pen", "bubble", "scanner"):
        spoiled = [with_artefact(rgb, Artefact(kind, seed=n))[0] for n, rgb in enumerate(clean)]
        assert np.mean([fitted.score(rgb) > 1 for rgb in spoiled]) > 0.9, kind


def test_json_keeps_every_score(fitted: Appearance) -> None:
    again = Appearance.from_json(json.loads(json.dumps(fitted.to_json())))
    rgb = draw(300).source
    assert again.score(rgb) == fitted.score(rgb)


def test_the_same_seed_gives_the_same_mixture(fitted: Appearance) -> None:
    train, tuning = ([draw(first + index).source for index in range(24)] for first in (0, 100))
    assert fit_appearance(train, tuning).to_json() == fitted.to_json()


def test_tiles_too_small_or_too_few_are_refused_by_name() -> None:
    with pytest.raises(DataError, match="31 × 64 is too small"):
        describe_windows(np.zeros((31, 64, 3), np.uint8))
    with pytest.raises(DataError, match="0 tuning"):
        fit_appearance([draw(0).source], [])


def test_a_blank_tile_has_a_finite_description() -> None:
    for value in (0, 255):
        assert np.isfinite(describe_windows(np.full((64, 64, 3), value, np.uint8))).all()
