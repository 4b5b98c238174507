from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import open_slide
from clinimm.staining.deformation import IDENTITY, Affine, Deformation
from clinimm.staining.picture import ArrayPicture, SlidePicture, warp_block
from tests.staining.registration_toy import toy


def test_a_warped_pixel_is_that_of_scipys_affine_transform() -> None:
    image = toy().source
    angle = np.radians(20)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = Affine.of(turn, np.array([40.0, -10.0]))
    got, inside = warp_block(
        ArrayPicture(image, 0.5), Deformation.still(affine, (160, 160), 10.0), (0, 0, 320, 320), 0.5
    )
    flip = turn[::-1, ::-1]
    offset = flip @ np.full(2, 0.5) + np.array([-10.0, 40.0]) / 0.5 - 0.5
    expected = ndimage.affine_transform(image[..., 1].astype(float), flip, offset, order=1, mode="nearest")
    assert inside.mean() > 0.3
    assert np.abs(got[..., 1].astype(float) - expected)[inside].max() <= 0.51
    assert (got[~inside] == 255).all()


def test_blocks_put_together_are_the_whole() -> None:
    picture = ArrayPicture(toy().source, 0.5)
    still = Deformation.still(Affine(((0.9, 0.1), (-0.1, 1.0)), (3.3, 4.4)), (160, 160), 10.0)
    bent = still.followed_by_shift(3 * np.sin(still.nodes_um() / 20).reshape(still.displacement_um.shape))
    whole, inside = warp_block(picture, bent, (0, 0, 200, 200), 0.5)
    for top, left in ((0, 0), (0, 100), (100, 0), (100, 100)):
        part, within = warp_block(picture, bent, (top, left, 100, 100), 0.5)
        np.testing.assert_array_equal(part, whole[top : top + 100, left : left + 100])
        np.testing.assert_array_equal(within, inside[top : top + 100, left : left + 100])


def test_a_block_beside_the_target_is_white_and_reads_nothing() -> None:
    away = Deformation.still(Affine(((1.0, 0.0), (0.0, 1.0)), (5000.0, 0.0)), (160, 160), 10.0)
    got, inside = warp_block(ArrayPicture(toy().source, 0.5), away, (0, 0, 32, 32), 0.5)
    assert not inside.any()
    assert (got == 255).all()


def test_nearest_keeps_labels() -> None:
    labels = np.zeros((64, 64, 3), dtype=np.uint8)
    labels[20:40, 20:40] = 200
    still = Deformation.still(Affine(((1.0, 0.0), (0.0, 1.0)), (0.23, 0.0)), (32, 32), 10.0)
    got, _ = warp_block(ArrayPicture(labels, 0.5), still, (0, 0, 60, 60), 0.5, nearest=True)
    assert set(np.unique(got)) == {0, 200}


def test_resolutions_may_differ() -> None:
    image = toy().source
    coarse = ArrayPicture(image, 0.5).coarser(2)
    assert (coarse.shape, coarse.resolution_um) == ((160, 160), 1.0)
    np.testing.assert_allclose(
        coarse.pixels[3, 5].astype(float), image[6:8, 10:12].reshape(-1, 3).mean(axis=0), atol=0.76
    )
    still = Deformation.still(IDENTITY, (160, 160), 10.0)
    up, inside = warp_block(coarse, still, (0, 0, 320, 320), 0.5)
    assert inside.all()
    smooth = ndimage.uniform_filter(image[..., 0].astype(float), 2)
    assert np.abs(up[..., 0] - smooth)[8:-8, 8:-8].mean() < 6


@pytest.mark.parametrize("resolution_um", [0.5, 1.0, 1.3])
def test_a_slide_reads_as_its_array_does(tmp_path: Path, resolution_um: float) -> None:
    from PIL import Image

    image = toy().source
    Image.fromarray(image).save(tmp_path / "slide.png")
    with open_slide(tmp_path / "slide.png", Resolution.of(0.5)) as slide:
        picture = SlidePicture(slide, resolution_um)
        side = int(320 * 0.5 / resolution_um)
        assert picture.shape == (side, side)
        part = picture.read(10, 20, 64, 48)
        whole = picture.read(0, 0, side, side)
        np.testing.assert_allclose(part.astype(int), whole[10:74, 20:68], atol=1)  # rounding of fractions
        still = Deformation.still(IDENTITY, (160, 160), 10.0)
        expected, _ = warp_block(ArrayPicture(image, 0.5), still, (0, 0, side, side), resolution_um)
        near = ndimage.gaussian_filter(expected[..., 1].astype(float), 2)
        assert np.abs(ndimage.gaussian_filter(whole[..., 1].astype(float), 2) - near).max() < 6
