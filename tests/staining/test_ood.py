from __future__ import annotations

import json

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf

from clinimm.core.errors import DataError
from clinimm.staining.ood import Familiarity, fit_cloud, fit_familiarity
from tests.staining.safety_toy import draw


def _values(tiles: int, size: int, seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    return generator.normal(size=(tiles, 4)) @ np.random.default_rng(9).normal(
        size=(4, size)
    ) + generator.normal(size=(tiles, size))


def test_the_distance_is_scikit_learns_shrunken_mahalanobis() -> None:
    train, other = _values(40, 12, 0), _values(15, 12, 1)
    found = fit_cloud(train, other).distance(other)
    mean, scale = train.mean(axis=0), train.std(axis=0)
    peer = LedoitWolf(assume_centered=True).fit((train - mean) / scale)
    np.testing.assert_allclose(found, np.sqrt(peer.mahalanobis((other - mean) / scale)), rtol=1e-6)


def test_many_features_keep_a_small_model_that_still_sees_every_direction() -> None:
    train, other = _values(60, 200, 0), _values(20, 200, 1)
    cloud = fit_cloud(train, other)
    assert cloud.directions.shape == (24, 200)
    usual = cloud.distance(other).max()
    unseen = np.linalg.svd(cloud.directions)[2][-1] * cloud.scale
    assert cloud.distance((cloud.mean + 40 * unseen)[None])[0] > usual


def test_nineteen_in_twenty_tuning_tiles_lie_within_the_edge() -> None:
    train, other = _values(80, 10, 0), _values(100, 10, 1)
    cloud = fit_cloud(train, other)
    assert np.mean(cloud.distance(other) <= cloud.edge) == pytest.approx(0.95, abs=0.01)


def test_a_tile_is_as_strange_as_the_stranger_of_its_two_descriptions() -> None:
    generator = np.random.default_rng(5)
    train, tuning = (
        [(draw(first + n).source, generator.normal(size=6)) for n in range(16)] for first in (0, 50)
    )
    found = fit_familiarity(train, tuning)
    source, usual = draw(90).source, np.zeros(6)
    assert found.score(source, np.full(6, 30.0)) == found.parts(source, np.full(6, 30.0))["latent"] > 3
    black = np.zeros_like(source)
    assert found.score(black, usual) == found.parts(black, usual)["appearance"] > 3
    again = Familiarity.from_json(json.loads(json.dumps(found.to_json())))
    assert again.parts(source, usual) == found.parts(source, usual)


def test_what_cannot_be_fitted_is_refused_by_name() -> None:
    with pytest.raises(DataError, match="3 training"):
        fit_cloud(_values(3, 4, 0), _values(3, 4, 1))
    with pytest.raises(DataError, match="not finite"):
        fit_cloud(np.full((10, 4), np.nan), _values(3, 4, 1))
    with pytest.raises(DataError, match="another stainer"):
        fit_cloud(_values(10, 4, 0), _values(3, 4, 1)).distance(np.zeros((1, 5)))
