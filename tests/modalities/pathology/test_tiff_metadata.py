"""A resolution is taken from where a scanner writes it, and from nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.file_bytes import FileBytes
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.tiff_directory import read_directories
from clinimm.modalities.pathology.tiff_metadata import (
    aperio_properties,
    aperio_resolution,
    ome_images,
    tiff_resolution,
    vendor_of,
)

_OME = '<?xml version="1.0"?><OME xmlns="http://x/OME">{}</OME>'


def _resolution(folder: Path, **options: Any) -> Resolution | None:
    path = folder / "a.tif"
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb", metadata=None, **options)
    return tiff_resolution(read_directories(FileBytes(path))[0])


def test_centimetres_and_inches(tmp_path: Path) -> None:
    found = _resolution(tmp_path, resolution=(2e4, 4e4), resolutionunit="CENTIMETER")
    assert found == Resolution(0.5, 0.25)
    assert _resolution(tmp_path, resolution=(50_800, 50_800), resolutionunit="INCH") == Resolution.of(0.5)


@pytest.mark.parametrize(
    "options",
    [
        {"resolution": (72, 72), "resolutionunit": "INCH"},
        {"resolution": (300, 300), "resolutionunit": "INCH"},
        {"resolution": (28.35, 28.35), "resolutionunit": "CENTIMETER"},
        {"resolution": (2, 2), "resolutionunit": "NONE"},
        {"resolution": ((0, 1), (0, 1)), "resolutionunit": "CENTIMETER"},
        {},
    ],
)
def test_an_editors_resolution_is_none(tmp_path: Path, options: dict[str, Any]) -> None:
    assert _resolution(tmp_path, **options) is None


def test_imagej_states_microns_in_words(tmp_path: Path) -> None:
    stated = {"resolution": (4, 2), "resolutionunit": "NONE"}
    assert _resolution(tmp_path, description="ImageJ=1.53t\nunit=micron\n", **stated) == Resolution(0.25, 0.5)
    assert _resolution(tmp_path, description="ImageJ=1.53t\nunit=pixel\n", **stated) is None


@pytest.mark.parametrize("text", ["0", "-1", "nan", "0.5 um", "", "1e9"])
def test_a_bad_aperio_mpp_is_none(text: str) -> None:
    assert aperio_resolution(aperio_properties(f"Aperio|MPP = {text}")) is None


def _ome(attributes: str) -> Resolution | None:
    (image,) = ome_images(_OME.format(f'<Image Name="a"><Pixels {attributes}/></Image>'))
    return image.resolution


@pytest.mark.parametrize(
    ("unit", "value"), [("µm", 0.5), ("nm", 500), ("mm", 0.0005), ("cm", 0.00005), ("Å", 5000)]
)
def test_ome_units(unit: str, value: float) -> None:
    sizes = " ".join(f'PhysicalSize{a}="{value}" PhysicalSize{a}Unit="{unit}"' for a in "XY")
    found = _ome(sizes)
    assert found and found.um_per_pixel == pytest.approx(0.5)


@pytest.mark.parametrize("unit", ["pixel", "reference frame", "lightyear"])
def test_an_ome_unit_that_is_no_length_is_none(unit: str) -> None:
    assert _ome(" ".join(f'PhysicalSize{a}="0.5" PhysicalSize{a}Unit="{unit}"' for a in "XY")) is None


def test_ome_without_unit_is_micrometres_and_without_size_none() -> None:
    assert _ome('PhysicalSizeX="0.25" PhysicalSizeY="0.5"') == Resolution(0.25, 0.5)
    assert _ome('PhysicalSizeX="0.25"') is None


def test_xml_that_grows_is_refused() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY b "bbbbbbbbbb"><!ENTITY c "&b;&b;&b;">]><OME><Image Name="&c;"/></OME>'
    with pytest.raises(InputRejected, match="entities"):
        ome_images(bomb)
    with pytest.raises(InputRejected, match="no XML"):
        ome_images("<OME><Image></OME>")


@pytest.mark.parametrize(
    ("options", "vendor"),
    [
        ({"description": "Aperio Image Library v1"}, "aperio"),
        ({"description": '<?xml version="1.0"?><OME></OME>'}, "ome-tiff"),
        ({"description": '<?xml version="1.0"?><scn xmlns="http://x">'}, "leica"),
        ({"software": "Philips DP v1.0"}, "philips"),
        ({"software": "MedScan"}, "trestle"),
        ({"extratags": [(271, "s", 0, "Hamamatsu", True)]}, "hamamatsu"),
        ({"extratags": [(700, "s", 0, "<iScan></iScan>", True)]}, "ventana"),
        ({}, "generic-tiff"),
    ],
)
def test_each_vendor_is_known_by_its_mark(tmp_path: Path, options: dict[str, Any], vendor: str) -> None:
    path = tmp_path / "a.tif"
    options = {"software": False} | options
    tifffile.imwrite(path, np.zeros((8, 8, 3), np.uint8), photometric="rgb", metadata=None, **options)
    assert vendor_of(read_directories(FileBytes(path))[0]) == vendor
