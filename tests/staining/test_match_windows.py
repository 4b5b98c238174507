import numpy as np
import pytest
from scipy import ndimage
from skimage.feature import match_template

from clinimm.staining.match_windows import Matcher

SHAPES = [((30, 30), (46, 46)), ((17, 24), (40, 31))]


def textures(count: int, shape: tuple[int, int], seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [
        ndimage.gaussian_filter(generator.normal(3.0, 1.0, shape), 1.5).astype(np.float32)
        for _ in range(count)
    ]


@pytest.mark.parametrize(("side", "place"), SHAPES)
def test_the_surface_is_scikit_images(side: tuple[int, int], place: tuple[int, int]) -> None:
    windows, places = textures(3, side), textures(3, place, seed=1)
    matcher = Matcher(windows, places)
    for i, window in enumerate(windows):
        for j, other in enumerate(places):
            expected = match_template(other.astype(np.float64), window.astype(np.float64))
            np.testing.assert_allclose(matcher.surface(i, j), expected, atol=2e-5)


@pytest.mark.parametrize(("right", "down"), [(0, 0), (3, -2), (-5, 4)])
def test_a_window_is_found_where_it_was_cut(right: int, down: int) -> None:
    [place] = textures(1, (46, 46))
    window = place[8 + down : 38 + down, 8 + right : 38 + right]
    match = Matcher([window], [place]).match(0, 0)
    assert match.correlation == pytest.approx(1.0, abs=1e-4)
    np.testing.assert_allclose(match.shift, (right, down), atol=0.1)
    assert (match.in_place < 0.9) == ((right, down) != (0, 0))


def test_a_shift_of_part_of_a_pixel_is_measured() -> None:
    [place] = textures(1, (46, 46))
    window = ndimage.shift(place, (0.0, -0.4), order=3, mode="nearest")[8:38, 8:38]
    np.testing.assert_allclose(Matcher([window], [place]).match(0, 0).shift, (0.4, 0.0), atol=0.06)


def test_neither_brightness_nor_contrast_matters_and_emptiness_matches_nothing() -> None:
    [place] = textures(1, (46, 46))
    window = place[8:38, 8:38]
    flat = np.full_like(place, 0.3)
    matcher = Matcher([window * 0.2 + 5, flat[8:38, 8:38]], [place, flat])
    assert matcher.match(0, 0).correlation == pytest.approx(1.0, abs=1e-4)
    for window_at, place_at in ((0, 1), (1, 0), (1, 1)):
        assert np.abs(matcher.surface(window_at, place_at)).max() < 1e-3
