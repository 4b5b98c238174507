"""A slide at any resolution: which level, which pixels, where; and no seams between pieces."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.transform import downscale_local_mean

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide, open_slide
from clinimm.modalities.pathology.view import View, at
from tests.modalities.pathology.made_slides import textured, write_pyramid, write_svs


@pytest.fixture(scope="module")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Slide:
    """A lossless pyramid of 1000 x 820 at 0.5 µm a pixel."""
    return Slide(write_pyramid(tmp_path_factory.mktemp("view") / "a.tif", textured(1000, 820)))


@pytest.mark.parametrize(
    ("um", "level", "stored", "size"),
    [
        (0.5, 0, True, (1000, 820)),
        (0.495, 0, True, (1000, 820)),
        (1.0, 1, True, (500, 410)),
        (0.985, 1, True, (500, 410)),
        (0.8, 0, False, (625, 512)),
        (2.0, 1, False, (250, 205)),
        (0.25, 0, False, (2000, 1640)),
    ],
)
def test_the_level_and_the_size(
    slide: Slide, um: float, level: int, stored: bool, size: tuple[int, int]
) -> None:
    view = at(slide, um)
    assert (view.level, view.is_stored, view.size) == (level, stored, size)
    assert view.is_enlarged == (um == 0.25)
    expected = Resolution.of(0.5 * 2**level) if stored else Resolution.of(um)
    assert view.resolution == expected


def test_stored_pixels_are_not_touched(slide: Slide) -> None:
    pixels = textured(1000, 820)
    assert np.array_equal(at(slide, 0.501).read((100, 90, 800, 700)), pixels[90:700, 100:800])


def test_shrinking_keeps_the_local_mean(slide: Slide) -> None:
    """Of 4 by 4 pixels, against scikit-image; the triangle filter reaches a little further."""
    found = at(slide, 2.0).read((0, 0, 250, 205)).astype(float)
    expected = downscale_local_mean(textured(1000, 820), (4, 4, 1))
    assert np.abs(found - expected).mean() < 2.5
    assert abs(found.mean() - expected.mean()) < 0.3


@settings(max_examples=40, deadline=None)
@given(um=st.sampled_from([0.37, 0.63, 0.8, 1.3, 2.7]), cut=st.integers(1, 199), across=st.booleans())
def test_pieces_side_by_side_are_the_whole(slide: Slide, um: float, cut: int, across: bool) -> None:
    view = at(slide, um)
    whole = view.read((3, 5, 203, 205)).astype(int)
    if across:
        first, second = (3, 5, 3 + cut, 205), (3 + cut, 5, 203, 205)
    else:
        first, second = (3, 5, 203, 5 + cut), (3, 5 + cut, 203, 205)
    pieces = np.concatenate([view.read(first), view.read(second)], axis=int(across)).astype(int)
    assert np.abs(pieces - whole).max() <= 1


@pytest.mark.parametrize("across", [False, True])
def test_pieces_that_end_at_the_edge_of_the_slide_are_the_whole(slide: Slide, across: bool) -> None:
    """At 2.7 µm the slide ends within its last pixel: by 250.0 of 251.1 across, by 205.0 of 205.2 down."""
    view, far = at(slide, 2.7), (203, 205)
    whole = view.read((3, 5, *far))
    for cut in range(140, 199):
        edge = 3 + cut if across else 5 + cut
        first, second = (
            ((3, 5, edge, far[1]), (edge, 5, *far)) if across else ((3, 5, far[0], edge), (3, edge, *far))
        )
        pieces = np.concatenate([view.read(first), view.read(second)], axis=int(across))
        assert np.abs(pieces.astype(int) - whole).max() <= 1


def test_the_edge_of_the_slide_is_not_whitened(slide: Slide) -> None:
    view = at(slide, 1.3)
    width, height = view.size
    wide = view.read((0, 0, width, height)).astype(int)
    assert np.abs(wide[:, -1].mean(axis=0) - wide[:, -4].mean(axis=0)).max() < 25
    outside = view.read((width + 5, 0, width + 25, 20))
    assert (outside == 255).all()


def test_a_place_in_level_0_pixels_and_in_micrometres(slide: Slide) -> None:
    box = (10, 20, 110, 220)
    assert at(slide, 1.0).level_0_box(box) == (20, 40, 220, 440)
    assert at(slide, 1.0).box_um(box) == (10.0, 20.0, 110.0, 220.0)
    assert at(slide, 2.5).level_0_box(box) == (50, 100, 550, 1100)
    assert at(slide, 2.5).box_um(box) == (25.0, 50.0, 275.0, 550.0)


def test_pixels_that_are_not_square(tmp_path: Path) -> None:
    path = write_pyramid(tmp_path / "a.tif", textured(600, 500), resolution=(2e4, 4e4))
    with Slide(path) as slide:
        view = View(slide, Resolution.of(1.0))
        assert view.size == (300, 125)
        assert view.level_0_box((10, 10, 20, 20)) == (20, 40, 40, 80)
        assert view.read((0, 0, 300, 125)).shape == (125, 300, 3)


def test_a_slide_without_resolution_has_no_view(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", textured(500, 500), mpp=None)
    with open_slide(path) as slide, pytest.raises(InputRejected, match="no-resolution"):
        _ = at(slide, 0.5).size
    with open_slide(path, Resolution.of(0.25)) as slide:
        assert at(slide, 0.5).size == (250, 250)
