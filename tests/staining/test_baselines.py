"""The four baselines."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import PolynomialFeatures

from clinimm.core.errors import DataError
from clinimm.staining import baselines
from clinimm.staining.optical import EOSIN, HAEMATOXYLIN
from clinimm.staining.pairs import StainPair

GENERATOR = np.random.default_rng(0)


def _unit(dye: tuple[float, ...]) -> np.ndarray:
    return np.array(dye) / np.linalg.norm(dye)


def _light(density: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(255 * 10**-density), 0, 255).astype(np.uint8)


def _pair(source: np.ndarray, target: np.ndarray, valid: np.ndarray | None = None) -> StainPair:
    kept = np.ones(source.shape[:2], dtype=bool) if valid is None else valid
    return StainPair("s", "a", source, {"KI67": target}, kept, 0.5)


def _dyed(haematoxylin: np.ndarray, rest: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return _light(haematoxylin[..., None] * _unit(HAEMATOXYLIN) + rest[..., None] * colour)


def test_quadratic_is_least_squares_on_polynomial_features() -> None:
    source = GENERATOR.integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
    target = GENERATOR.integers(0, 256, size=(40, 40, 3), dtype=np.uint8)
    fitted = baselines.fit_baselines([_pair(source, target)])["quadratic"]
    features = PolynomialFeatures(2).fit_transform(source.reshape(-1, 3) / 255)
    line = LinearRegression(fit_intercept=False).fit(features, target.reshape(-1, 3).astype(float))
    expected = np.clip(line.predict(features), 0, 255).reshape(source.shape)
    assert np.abs(fitted.predict(source, "KI67").astype(float) - expected).max() < 1


def test_quadratic_stands_a_source_of_one_colour() -> None:
    source = np.full((8, 8, 3), 120, np.uint8)
    target = np.full((8, 8, 3), 77, np.uint8)
    fitted = baselines.fit_baselines([_pair(source, target)])
    assert np.abs(fitted["quadratic"].predict(source, "KI67").astype(int) - 77).max() <= 1


def test_mean_colour_and_copy_and_only_valid_pixels_count() -> None:
    source = GENERATOR.integers(60, 200, size=(10, 10, 3), dtype=np.uint8)
    target = np.full((10, 10, 3), 10, np.uint8)
    target[5:] = 250
    valid = np.zeros((10, 10), dtype=bool)
    valid[:5] = True
    fitted = baselines.fit_baselines([_pair(source, target, valid)])
    assert (fitted["mean_colour"].predict(source, "KI67") == 10).all()
    assert np.array_equal(fitted["copy"].predict(source, "KI67"), source)
    assert np.abs(fitted["quadratic"].predict(source, "KI67").astype(int) - 10).max() <= 1


def test_deconvolution_finds_the_second_dye_and_what_it_becomes() -> None:
    brown = _unit((0.27, 0.57, 0.78))
    blue, pink = GENERATOR.uniform(0, 0.5, size=(2, 64, 64))
    blue[:20] = 0  # some pixels hold the second dye alone, as in real tissue
    source, target = _dyed(blue, pink, _unit(EOSIN)), _dyed(blue, 0.5 * pink, brown)
    fitted = baselines.fit_baselines([_pair(source, target)])["deconvolution"]
    error = np.abs(fitted.predict(source, "KI67").astype(float) - target)
    assert error.mean() < 4
    assert error.mean() < 0.2 * np.abs(source.astype(float) - target).mean()


def test_an_unknown_stain_and_no_pairs_are_named() -> None:
    source = GENERATOR.integers(60, 200, size=(10, 10, 3), dtype=np.uint8)
    fitted = baselines.fit_baselines([_pair(source, source)])
    for baseline in fitted.values():
        with pytest.raises(DataError, match="CD31"):
            baseline.predict(source, "CD31")
    with pytest.raises(DataError, match="training pair"):
        baselines.fit_baselines([])
    with pytest.raises(DataError, match="tissue"):
        baselines.fit_baselines([_pair(np.full((9, 9, 3), 255, np.uint8), source[:9, :9])])


def test_bands_of_rows_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    source = GENERATOR.integers(0, 256, size=(31, 17, 3), dtype=np.uint8)
    target = GENERATOR.integers(0, 256, size=(31, 17, 3), dtype=np.uint8)
    whole = baselines.fit_baselines([_pair(source, target)])
    monkeypatch.setattr(baselines, "_BAND_PIXELS", 40)
    banded = baselines.fit_baselines([_pair(source, target)])
    for name, baseline in whole.items():
        assert np.array_equal(baseline.predict(source, "KI67"), banded[name].predict(source, "KI67"))
