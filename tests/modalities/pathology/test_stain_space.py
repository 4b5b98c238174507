"""Optical density and amounts, against scikit-image and scipy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import nnls

from clinimm.modalities.pathology.stain_space import (
    HAEMATOXYLIN_EOSIN,
    WHITE,
    StainFailureError,
    amounts,
    angle_degrees,
    in_order,
    optical_density,
    to_rgb,
)

UNIT = HAEMATOXYLIN_EOSIN / np.linalg.norm(HAEMATOXYLIN_EOSIN, axis=1, keepdims=True)


@given(level=st.integers(1, 255))
def test_density_and_colour_are_inverses(level: int) -> None:
    rgb = np.full((2, 3, 3), level, np.uint8)
    np.testing.assert_array_equal(to_rgb(optical_density(rgb)), rgb)


def test_amounts_are_scikit_image_s_where_none_is_negative() -> None:
    from skimage.color import separate_stains

    amount = np.random.default_rng(0).uniform(0.1, 0.6, (40, 50, 2))
    picture = 10.0 ** -(amount @ UNIT)  # transmitted light, not rounded
    third = np.cross(UNIT[0], UNIT[1])
    inverse = np.linalg.inv(np.vstack([UNIT, third / np.linalg.norm(third)]))
    # scikit-image counts in units of log(1e-6), and so leaves the base of the logarithm to the user.
    expected = separate_stains(picture, inverse)[..., :2] * 6

    found = amounts(-np.log10(picture), UNIT)

    np.testing.assert_allclose(found, expected, atol=2e-3)
    np.testing.assert_allclose(found, amount, atol=1e-9)


@given(density=st.lists(st.floats(-1, 3), min_size=3, max_size=3), turn=st.floats(0.1, 1.4))
def test_amounts_are_non_negative_least_squares(density: list[float], turn: float) -> None:
    vectors = np.array([[np.cos(turn), np.sin(turn), 0.0], [0.6, 0.0, 0.8]])
    expected, distance = nnls(vectors.T, np.array(density))
    found = amounts(np.array(density), vectors)

    assert (found >= 0).all()
    assert np.linalg.norm(density - found @ vectors) == pytest.approx(distance, abs=1e-7)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_haematoxylin_comes_first_whatever_came_in() -> None:
    np.testing.assert_allclose(in_order(3 * UNIT[::-1]), UNIT)
    np.testing.assert_allclose(in_order(UNIT), UNIT)
    with pytest.raises(StainFailureError, match="not finite") as error:
        in_order(np.array([[np.nan, 0, 0], [0, 0, 1]]))
    assert error.value.code == "not-finite"
    with pytest.raises(StainFailureError, match="zero"):
        in_order(np.array([[0.0, 0, 0], [0, 0, 1]]))


def test_the_angle_of_known_vectors() -> None:
    assert angle_degrees(np.array([1.0, 0, 0]), np.array([1.0, 1.0, 0])) == pytest.approx(45)
    assert optical_density(np.zeros((1, 3), np.uint8)).max() == pytest.approx(np.log10(WHITE[0]))
