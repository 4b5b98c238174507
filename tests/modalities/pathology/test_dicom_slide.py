"""DICOM slides against wsidicom and OpenSlide; file sets, sparse tiles, parts that are no slide."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
from pydicom.uid import generate_uid
from wsidicom import WsiDicom

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide
from tests.modalities.pathology.made_slides import (
    EXPLICIT_LITTLE,
    FORBIDDEN,
    JPEG_BASELINE,
    halved,
    plain,
    textured,
    write_dicom,
)

_PIXELS = textured(600, 500)
_RESAMPLED = ["DERIVED", "PRIMARY", "VOLUME", "RESAMPLED"]


def _file_set(folder: Path) -> Path:
    """Two levels, a label, a macro and a thumbnail; gives the file of the finest level."""
    write_dicom(folder / "half.dcm", halved(_PIXELS), spacing_mm=0.001, ImageType=_RESAMPLED)
    for kind in ("LABEL", "OVERVIEW", "THUMBNAIL"):
        write_dicom(folder / f"{kind}.dcm", plain(240, 240), ImageType=["ORIGINAL", "PRIMARY", kind, "NONE"])
    return write_dicom(folder / "whole.dcm", _PIXELS)


def _refusal(path: Path) -> InputRejected:
    with pytest.raises(InputRejected) as caught, Slide(path) as slide:
        slide.read_region(0, (0, 0, *slide.dimensions))
    return caught.value


def test_a_file_set_equals_wsidicom_and_openslide(tmp_path: Path) -> None:
    path = _file_set(tmp_path)
    box = (100, 50, 590, 480)
    with Slide(path) as slide, WsiDicom.open(tmp_path) as theirs, openslide.OpenSlide(path) as third:
        assert [(level.width, level.height) for level in slide.info.levels] == [(600, 500), (300, 250)]
        assert slide.resolution == Resolution.of(0.5)
        size = (box[2] - box[0], box[3] - box[1])
        found = slide.read_region(0, box)
        assert np.array_equal(found, np.asarray(third.read_region(box[:2], 0, size))[..., :3])
        assert np.array_equal(found, np.asarray(theirs.read_region(box[:2], 0, size)))
        small = slide.read_region(1, (0, 0, 300, 250))
        assert np.array_equal(small, np.asarray(theirs.read_region((0, 0), 1, (300, 250))))


def test_the_folder_and_any_level_open_the_same_slide(tmp_path: Path) -> None:
    path = _file_set(tmp_path)
    with Slide(path) as slide:
        expected = slide.info.levels
    for other in (tmp_path, tmp_path / "half.dcm"):
        with Slide(other) as slide:
            assert slide.info.levels == expected


@pytest.mark.parametrize("kind", ["LABEL", "OVERVIEW", "THUMBNAIL"])
def test_label_macro_and_thumbnail_do_not_open_and_are_in_no_level(tmp_path: Path, kind: str) -> None:
    _file_set(tmp_path)
    assert _refusal(tmp_path / f"{kind}.dcm").code == "not-a-slide"
    with Slide(tmp_path) as slide:
        for index, level in enumerate(slide.info.levels):
            found = slide.read_region(index, (0, 0, level.width, level.height)).astype(int)
            assert np.abs(found - FORBIDDEN).max(axis=-1).min() > 30


@pytest.mark.parametrize("syntax", [EXPLICIT_LITTLE, "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90"])
def test_lossless_transfer_syntaxes_give_the_pixels_back(tmp_path: Path, syntax: str) -> None:
    with Slide(write_dicom(tmp_path / "a.dcm", _PIXELS, syntax=syntax)) as slide:
        assert np.array_equal(slide.read_region(0, (0, 0, 600, 500)), _PIXELS)


def test_grey_frames_are_read(tmp_path: Path) -> None:
    grey = _PIXELS[..., 1].copy()
    with Slide(write_dicom(tmp_path / "a.dcm", grey, syntax=EXPLICIT_LITTLE)) as slide:
        assert np.array_equal(slide.read_region(0, (0, 0, 600, 500)), np.stack([grey] * 3, axis=-1))


def test_sparse_tiles_lie_where_they_say_and_the_rest_is_white(tmp_path: Path) -> None:
    order = [8, 0, 4]  # of three by three tiles
    path = write_dicom(tmp_path / "a.dcm", _PIXELS, syntax=EXPLICIT_LITTLE, frames=order, sparse=True)
    with Slide(path) as slide:
        found = slide.read_region(0, (0, 0, 600, 500))
    assert np.array_equal(found[:240, :240], _PIXELS[:240, :240])
    assert np.array_equal(found[240:480, 240:480], _PIXELS[240:480, 240:480])
    assert np.array_equal(found[480:, 480:], _PIXELS[480:, 480:])
    assert (found[:240, 240:] == 255).all() and (found[240:, :240] == 255).all()


def test_the_files_of_a_concatenation_are_one_level(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"ConcatenationUID": generate_uid(), "syntax": EXPLICIT_LITTLE}
    write_dicom(tmp_path / "b.dcm", _PIXELS, frames=range(4, 9), ConcatenationFrameOffsetNumber=4, **shared)
    path = write_dicom(
        tmp_path / "a.dcm", _PIXELS, frames=range(4), ConcatenationFrameOffsetNumber=0, **shared
    )
    with Slide(path) as slide:
        assert np.array_equal(slide.read_region(0, (0, 0, 600, 500)), _PIXELS)
    (tmp_path / "b.dcm").unlink()
    assert _refusal(path).code == "truncated"


def test_frames_in_several_fragments_need_an_offset_table(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate

    from tests.modalities.pathology.made_slides import encoded, tiles_of

    contents = [encoded(tile, JPEG_BASELINE) for tile in tiles_of(_PIXELS, 240)]
    whole = write_dicom(tmp_path / "a" / "a.dcm", _PIXELS)
    split = encapsulate(contents, fragments_per_frame=3, has_bot=True)
    path = write_dicom(tmp_path / "b" / "b.dcm", _PIXELS, PixelData=split)
    with Slide(whole) as one, Slide(path) as other:
        box = (0, 0, 600, 500)
        assert np.array_equal(one.read_region(0, box), other.read_region(0, box))
    split = encapsulate(contents, fragments_per_frame=3, has_bot=False)
    assert (
        "no offset table" in _refusal(write_dicom(tmp_path / "c" / "c.dcm", _PIXELS, PixelData=split)).reason
    )


def test_a_jpeg_that_states_its_colours_is_believed(tmp_path: Path) -> None:
    """JFIF says YCbCr; Photometric Interpretation says RGB, as some converters write."""
    path = write_dicom(tmp_path / "a.dcm", _PIXELS, PhotometricInterpretation="RGB")
    with Slide(path) as slide:
        found = slide.read_region(0, (0, 0, 600, 500)).astype(int)
    assert np.abs(found - _PIXELS).mean() < 8


def test_the_resolution_of_rows_and_columns_is_not_swapped(tmp_path: Path) -> None:
    from pydicom.dataset import Dataset
    from pydicom.sequence import Sequence as Items

    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [0.00025, 0.0005]  # between rows, between columns
    shared.PixelMeasuresSequence = Items([measures])
    path = write_dicom(tmp_path / "a" / "a.dcm", _PIXELS, SharedFunctionalGroupsSequence=Items([shared]))
    with Slide(path) as slide:
        assert slide.resolution == Resolution(0.5, 0.25)
    changes: dict[str, Any] = {"SharedFunctionalGroupsSequence": None}
    with Slide(write_dicom(tmp_path / "b" / "b.dcm", _PIXELS, **changes)) as slide:
        assert slide.resolution.um_per_pixel == pytest.approx(0.5)
    changes |= {"ImagedVolumeWidth": None, "ImagedVolumeHeight": None}
    with Slide(write_dicom(tmp_path / "c" / "c.dcm", _PIXELS, **changes)) as slide:
        assert slide.info.resolution is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"ImageType": None}, "no-image-type"),
        ({"ImageType": ["ORIGINAL", "PRIMARY"]}, "no-image-type"),
        ({"TotalPixelMatrixColumns": None}, "no-geometry"),
        ({"Rows": 0}, "no-geometry"),
        ({"NumberOfFrames": 99}, "truncated"),
        ({"TotalPixelMatrixRows": 50_000}, "truncated"),
        ({"BitsAllocated": 16}, "bit-depth"),
        ({"PixelRepresentation": 1}, "bit-depth"),
        ({"PhotometricInterpretation": "PALETTE COLOR"}, "photometric-unknown"),
        ({"Rows": 60_000, "Columns": 60_000}, "too-many-pixels"),
        ({"PixelData": None}, "no-pixels"),
        ({"NumberOfFrames": 0}, "bad-number"),
    ],
)
def test_what_cannot_be_a_slide_is_refused_by_name(
    tmp_path: Path, changes: dict[str, Any], code: str
) -> None:
    assert _refusal(write_dicom(tmp_path / "a.dcm", _PIXELS, **changes)).code == code


def test_an_unread_transfer_syntax_is_named(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", _PIXELS, syntax="1.2.840.10008.1.2.4.102")
    assert _refusal(path).code == "unsupported-transfer-syntax"


def test_two_pictures_of_one_size_are_refused_and_a_copy_is_not(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", _PIXELS)
    shutil.copy(path, tmp_path / "copy.dcm")
    with Slide(path) as slide:
        assert len(slide.info.levels) == 1
    write_dicom(tmp_path / "b.dcm", _PIXELS)
    assert "focal planes" in _refusal(path).reason
    assert "focal planes" in _refusal(tmp_path).reason


def test_another_series_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", _PIXELS)
    write_dicom(tmp_path / "b.dcm", textured(240, 240), SeriesInstanceUID="1.2.3.9")
    with Slide(path) as slide:
        assert slide.dimensions == (600, 500)
    assert "2 series" in _refusal(tmp_path).reason


def test_frames_off_the_grid_are_refused(tmp_path: Path) -> None:
    path = write_dicom(tmp_path / "a.dcm", _PIXELS, tile=240, sparse=True, Rows=100)
    assert _refusal(path).code == "bad-geometry"


def test_of_several_focal_planes_the_middle_one_is_read(tmp_path: Path) -> None:
    frames = [*range(9), *range(8, -1, -1), *range(9)]
    path = write_dicom(
        tmp_path / "a.dcm", _PIXELS, syntax=EXPLICIT_LITTLE, frames=frames, TotalPixelMatrixFocalPlanes=3
    )
    with Slide(path) as slide:
        found = slide.read_region(0, (240, 240, 480, 480))
        assert np.array_equal(found, _PIXELS[240:480, 240:480])
        assert np.array_equal(slide.read_region(0, (480, 480, 600, 500)), _PIXELS[:20, :120])
