from pathlib import Path

import numpy as np
import pytest

from clinimm.core.errors import InputRejected
from clinimm.datasets.stain_pairs import read_panels
from clinimm.staining.deformation import IDENTITY
from clinimm.staining.register_pair import Registration, landmark_error_um, register
from tests.staining.registration_toy import UM, as_fluorescence, toy


@pytest.fixture(scope="module")
def found() -> Registration:
    pair = toy()
    return register(pair.source, pair.target, UM, landmarks=(pair.source_points, pair.target_points))


def test_a_shifted_turned_and_bent_stain_is_laid_on_the_source(found: Registration) -> None:
    pair = toy()
    errors = landmark_error_um(found, pair.source_points, pair.target_points)
    before = np.linalg.norm(IDENTITY.apply(pair.source_points) - pair.target_points, axis=-1)
    assert np.median(before) > 15
    assert np.median(errors) < 0.8
    assert np.percentile(errors, 90) < 3.0
    assert found.refused is None


def test_each_stage_comes_nearer(found: Registration) -> None:
    pair = toy()
    affine = np.linalg.norm(found.affine.apply(pair.source_points) - pair.target_points, axis=-1)
    errors = landmark_error_um(found, pair.source_points, pair.target_points)
    assert np.median(errors) < np.median(affine)


def test_the_figures_have_their_n_and_landmarks_are_only_judged(found: Registration) -> None:
    pair = toy()
    assert found.landmarks_after is not None
    assert found.landmarks_before is not None
    errors = landmark_error_um(found, pair.source_points, pair.target_points)
    assert found.landmarks_after.p90_um == pytest.approx(np.percentile(errors, 90))
    assert found.landmarks_after.judged == len(pair.source_points)
    assert found.error_um.scale == "cell"
    assert found.error_um.judged >= 5
    assert found.quality > 0.8
    assert found.least_jacobian > 0.2


def test_the_warped_target_shows_the_sources_nuclei(found: Registration) -> None:
    pair = toy()
    moved, valid = found.warp(pair.target)
    assert moved.shape == pair.source.shape
    red = [image[..., 0][valid].astype(float) for image in (pair.source, moved, pair.target)]
    assert np.corrcoef(red[0], red[1])[0, 1] > 0.7
    assert np.corrcoef(red[0], red[2])[0, 1] < 0.4


def test_the_same_input_gives_the_same_map(found: Registration) -> None:
    pair = toy()
    again = register(pair.source, pair.target, UM)
    assert again.affine == found.affine
    np.testing.assert_array_equal(again.deformation.displacement_um, found.deformation.displacement_um)
    assert again.error_um == found.error_um


def test_a_turned_fluorescence_panel_of_another_resolution_is_laid_on_the_he() -> None:
    pair = toy(shift_um=(6.0, -8.0), degrees=150.0, bend_um=3.0)
    rows = pair.target.shape[0] // 2
    coarse = pair.target.reshape(rows, 2, rows, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8)
    found = register(pair.source, as_fluorescence(coarse), UM, target_resolution_um=2 * UM)
    errors = landmark_error_um(found, pair.source_points, pair.target_points)
    assert found.refused is None
    assert (found.resolution_um, found.target_resolution_um) == (UM, 2 * UM)
    assert np.median(errors) < 1.0


def test_tissue_of_another_patient_is_refused_and_is_not_moved() -> None:
    one, other = toy(seed=0), toy(seed=7)
    found = register(one.source, other.target, UM)
    assert found.refused is not None
    assert found.refused.code in ("registration-failed", "no-overlap")
    with pytest.raises(InputRejected):
        found.warp(other.target)
    moved, _ = found.warp(other.target, even_if_refused=True)
    assert moved.shape == one.source.shape


@pytest.mark.parametrize("which", ["source", "target"])
def test_an_empty_picture_is_refused_by_name(which: str) -> None:
    pair = toy()
    blank = np.full_like(pair.source, 243)
    images = {"source": pair.source, "target": pair.target, which: blank}
    found = register(images["source"], images["target"], UM)
    assert found.refused is not None
    assert found.refused.code == "no-tissue"
    assert found.error_um.p50_um is None


def test_a_wrong_resolution_is_refused_not_stretched() -> None:
    pair = toy(bend_um=0.0, degrees=0.0)
    found = register(pair.source, pair.target, UM, target_resolution_um=UM * 2.2)
    assert found.refused is not None


def test_panels_of_known_shift_come_together(test_data: Path) -> None:
    images = read_panels(test_data / "stains" / "deepliif" / "train").images[0]
    found = register(images.source, images.targets["DAPI"], UM)
    middle = np.array([[128.0, 128.0]])
    moved = (found.deformation.apply(middle) - middle)[0] / UM
    # phase correlation of the whole panels: 2.4 rows up, 10.5 columns (research/pathology.md, 5b)
    assert abs(np.hypot(*moved) - np.hypot(2.4, 10.5)) < 1.5
    assert found.before.p50_um is not None
    assert found.error_um.p90_um is not None
    assert found.before.p50_um > 4
    assert found.error_um.p90_um < 1.0
