import numpy as np
import pytest
from scipy import ndimage

from clinimm.staining.coarse_search import Overview, about_centres, correlation_at, search, turned_onto
from clinimm.staining.deformation import Affine
from clinimm.staining.structure import fit_scale, structure
from tests.staining.registration_toy import toy


def overview(factor: int = 4) -> Overview:
    image = toy().source
    small = ndimage.zoom(
        ndimage.gaussian_filter(structure(image, fit_scale(image)), factor / 2), 1 / factor, order=1
    )
    return Overview(small.astype(np.float32), np.ones(small.shape, bool), 0.5 * factor)


def turned(view: Overview, degrees: float, moved_um: tuple[float, float]) -> tuple[Overview, Affine]:
    """The view under a map, and the map that finds it again: view point -> turned point."""
    back = about_centres(view, view, -degrees)
    back = Affine.of(np.asarray(back.matrix), np.asarray(back.offset_um) - np.asarray(moved_um))
    image, inside = turned_onto(view, back, view.image.shape)
    matrix = np.linalg.inv(np.asarray(back.matrix))
    forth = Affine.of(matrix, -matrix @ np.asarray(back.offset_um))
    return Overview(image, inside, view.resolution_um), forth


@pytest.mark.parametrize(
    ("degrees", "moved_um"), [(0.0, (30.0, -20.0)), (137.0, (10.0, 8.0)), (-95.0, (0.0, 25.0))]
)
def test_any_rotation_and_a_large_shift_are_found(degrees: float, moved_um: tuple[float, float]) -> None:
    view = overview()
    other, truth = turned(view, degrees, moved_um)
    best = search(view, other)[0]
    corners = np.array([[40.0, 40.0], [120.0, 50.0], [80.0, 120.0]])
    assert np.linalg.norm(best.affine.apply(corners) - truth.apply(corners), axis=-1).max() < 5.0
    assert best.correlation > 0.7


def test_the_correlation_is_numpys() -> None:
    view = overview()
    other, truth = turned(view, 0.0, (16.0, 8.0))
    pixels = round(16.0 / view.resolution_um), round(8.0 / view.resolution_um)
    got = correlation_at(view, other, truth)
    assert got == pytest.approx(1.0, abs=1e-3)
    assert pixels == (8, 4)
    plain = np.corrcoef(view.image[:, :-1].ravel(), view.image[:, 1:].ravel())[0, 1]
    one = correlation_at(view, view, Affine(((1.0, 0.0), (0.0, 1.0)), (view.resolution_um, 0.0)))
    assert one == pytest.approx(plain, abs=1e-4)


def test_too_little_overlap_is_no_pose() -> None:
    view = overview()
    away = Affine(((1.0, 0.0), (0.0, 1.0)), (140.0, 0.0))
    assert correlation_at(view, view, away) is None
