"""Impossible headers are refused by arithmetic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pydicom.dataset import Dataset

from clinimm.core.errors import InputRejected
from clinimm.modalities.dicom_header import read_header
from clinimm.modalities.radiology.geometry import read_geometry

MakeDicom = Callable[..., bytes]


def test_the_geometry_of_a_film(make_dicom: MakeDicom) -> None:
    geometry = read_geometry(read_header(make_dicom()))
    assert (geometry.rows, geometry.columns, geometry.samples, geometry.frames) == (6, 8, 1, 1)
    assert geometry.native_bytes == 96
    assert geometry.spacing_mm == (0.2, 0.1)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Rows": 0}, "bad-geometry"),
        ({"Rows": None}, "no-geometry"),
        ({"BitsAllocated": None}, "no-geometry"),
        ({"BitsStored": 20}, "bad-geometry"),
        ({"BitsAllocated": 12, "BitsStored": 12}, "bad-geometry"),
        ({"Rows": 65535, "Columns": 65535}, "too-large"),
        ({"NumberOfFrames": 1_000_000_000}, "too-large"),
        ({"NumberOfFrames": 0}, "bad-geometry"),
        ({"SamplesPerPixel": 4}, "bad-geometry"),
        ({"SamplesPerPixel": 3}, "bad-geometry"),
        ({"PhotometricInterpretation": "BANANA"}, "photometric-unknown"),
        ({"PhotometricInterpretation": None}, "no-geometry"),
    ],
)
def test_impossible_geometry(make_dicom: MakeDicom, changes: dict[str, Any], code: str) -> None:
    with pytest.raises(InputRejected, match=f"^{code}"):
        read_geometry(read_header(make_dicom(**changes)))


def test_spacing_of_an_enhanced_object_lies_in_its_shared_groups(make_dicom: MakeDicom) -> None:
    measures, shared = Dataset(), Dataset()
    measures.PixelSpacing = [0.5, 0.25]
    shared.PixelMeasuresSequence = [measures]
    data = make_dicom(PixelSpacing=None, SharedFunctionalGroupsSequence=[shared])
    assert read_geometry(read_header(data)).spacing_mm == (0.5, 0.25)


@pytest.mark.parametrize(("spacing", "flag"), [([0, 0], "spacing_zero"), ([0.1, -1], "spacing_invalid")])
def test_useless_spacing_is_flagged(make_dicom: MakeDicom, spacing: list[float], flag: str) -> None:
    geometry = read_geometry(read_header(make_dicom(PixelSpacing=spacing)))
    assert geometry.spacing_mm is None
    assert geometry.flags == (flag,)


def test_native_chroma_subsampling_needs_two_bytes_a_pixel(make_dicom: MakeDicom) -> None:
    data = make_dicom(np.zeros((4, 6, 3), np.uint8), PhotometricInterpretation="YBR_FULL_422")
    assert read_geometry(read_header(data)).native_bytes == 4 * 6 * 2
