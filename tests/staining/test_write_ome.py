"""The OME-TIFF is read alike by tifffile, OpenSlide and CliniMM, states its size, and says what it is."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import openslide
import pytest
import tifffile

from clinimm.core.errors import ConfigError
from clinimm.modalities.pathology.slide import open_slide
from clinimm.staining import write_ome as module
from clinimm.staining.codec import Codec, CodecName
from clinimm.staining.export import Identity, export
from clinimm.staining.whole_slide import CELL_PIXELS, StainedSlide, StainSettings
from clinimm.staining.write_ome import UNCERTAINTY_ONE, link_levels
from tests.staining.whole_slide_parts import ORIGIN, level_pixels, on_glass, stain

OME = "{http://www.openmicroscopy.org/Schemas/OME/2016-06}"


def made(folder: Path, codec: CodecName = "jpeg") -> tuple[StainedSlide, Path]:
    stained = stain(
        folder, on_glass(700, 1500, (300, 200, 1100, 600)), StainSettings("KI67", 512, Codec(codec))
    )
    path = folder / "out.ome.tif"
    export(stained, path, "ome", ORIGIN, Identity("P1"))
    return stained, path


@pytest.mark.parametrize("codec", ["jpeg", "deflate"])
def test_readers_show_the_same_pixels_at_every_level(tmp_path: Path, codec: CodecName) -> None:
    stained, path = made(tmp_path, codec)
    levels = stained.pyramid.levels
    with openslide.OpenSlide(str(path)) as slide, tifffile.TiffFile(path) as tiff, open_slide(path) as own:
        assert slide.level_dimensions == tuple((one.width, one.height) for one in levels)
        assert [(one.width, one.height) for one in own.info.levels] == list(slide.level_dimensions)
        for number, level in enumerate(levels):
            expected = level_pixels(stained, number)
            size = (level.width, level.height)
            assert (np.asarray(slide.read_region((0, 0), number, size).convert("RGB")) == expected).all()
            assert (own.read_region(number, (0, 0, *size)) == expected).all()
            assert (tiff.series[0].levels[number].asarray() == expected).all()


def test_size_is_stated_in_both_ways(tmp_path: Path) -> None:
    _, path = made(tmp_path)
    with openslide.OpenSlide(str(path)) as slide:
        assert float(slide.properties["openslide.mpp-x"]) == pytest.approx(0.5)
    with tifffile.TiffFile(path) as tiff:
        pixels = ElementTree.fromstring(tiff.ome_metadata or "").findall(f".//{OME}Pixels")
        coarse = tiff.pages[1].tags["XResolution"].value
    assert [float(one.get("PhysicalSizeX", "0")) for one in pixels] == [0.5, 0.5 * CELL_PIXELS]
    assert coarse[0] / coarse[1] == pytest.approx(10_000 / 1.0)


def test_uncertainty_is_the_second_image(tmp_path: Path) -> None:
    stained, path = made(tmp_path)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_ome
        assert [len(one.levels) for one in tiff.series] == [2 + 1, 1]
        chart = tiff.series[1].asarray()
    known = ~np.isnan(stained.uncertainty)
    assert (chart[~known] == 0).all()
    assert np.abs((chart[known] - 1.0) / UNCERTAINTY_ONE - stained.uncertainty[known]).max() < 1e-5


def test_xml_names_the_stain_and_says_that_it_is_synthetic(tmp_path: Path) -> None:
    _, path = made(tmp_path)
    with tifffile.TiffFile(path) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata or "")
        described = [page.description for page in tiff.pages]
    names = [one.get("Name", "") for one in root.iter(f"{OME}Channel")]
    assert names[0] == "KI67 (virtual stain, not a real stain)"
    facts = {one.get("K"): one.text for one in root.iter(f"{OME}M")}
    assert facts["SyntheticData"] == "YES"
    assert facts["Source (SHA-256)"] == "5" * 64
    assert all("clinimm.synthetic/1" in one for one in described)


def test_xml_fits_the_order_and_names_of_the_schema(tmp_path: Path) -> None:
    # OME 2016-06: Image* then StructuredAnnotations; Pixels holds Channel+ then TiffData*.
    _, path = made(tmp_path)
    with tifffile.TiffFile(path) as tiff:
        root = ElementTree.fromstring(tiff.ome_metadata or "")
    assert [one.tag.removeprefix(OME) for one in root] == ["Image", "Image", "StructuredAnnotations"]
    identifiers = [one.get("ID") for one in root.iter() if one.tag.endswith("Annotation")]
    for image in root.findall(f"{OME}Image"):
        assert [one.tag.removeprefix(OME) for one in image] == ["Pixels", *["AnnotationRef"] * 3]
        assert [one.tag.removeprefix(OME) for one in image[0]] == ["Channel", "TiffData"]
        assert [one.get("ID") for one in image.findall(f"{OME}AnnotationRef")] == identifiers


def test_a_big_file_is_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CLASSIC_BYTES", 1000)
    stained, path = made(tmp_path)
    with tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert (tiff.series[0].levels[2].asarray() == level_pixels(stained, 2)).all()


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("levels", [1, 2, 4])
def test_levels_are_linked_whatever_their_number(tmp_path: Path, big: bool, levels: int) -> None:
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path, bigtiff=big) as writer:
        for number in range(levels + 1):
            writer.write(np.full((64 >> number, 64 >> number), number, np.uint8), metadata=None)
    link_levels(path, levels)
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == levels + 1
        linked = tiff.pages[0].pages
        assert [int(page.asarray().max()) for page in linked or ()] == list(range(1, levels))


def test_jpeg_2000_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="jpeg or deflate"):
        made(tmp_path, "jpeg2000")
