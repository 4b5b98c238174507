"""TIFF slides against OpenSlide and tifffile, pixel for pixel; labels stay out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import openslide
import pytest
import tifffile

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.resolution import Resolution
from clinimm.modalities.pathology.slide import Slide
from tests.modalities.pathology.made_slides import (
    FORBIDDEN,
    halved,
    textured,
    write_ome,
    write_pyramid,
    write_svs,
)


def _openslide(path: Path, level: int, box: tuple[int, int, int, int], downsample: int) -> np.ndarray:
    """OpenSlide's pixels of a box inside a level."""
    with openslide.OpenSlide(path) as slide:
        size = (box[2] - box[0], box[3] - box[1])
        return np.asarray(slide.read_region((box[0] * downsample, box[1] * downsample), level, size))[..., :3]


def _code(path: Path) -> str:
    with pytest.raises(InputRejected) as caught, Slide(path) as slide:
        slide.read_region(0, (0, 0, *slide.dimensions))
    return caught.value.code


def test_svs_equals_openslide_on_both_levels(tmp_path: Path) -> None:
    path = write_svs(tmp_path / "a.svs", textured(1000, 820))
    with Slide(path) as slide:
        assert slide.info.vendor == "aperio" and slide.resolution == Resolution.of(0.5)
        assert [(level.width, level.height) for level in slide.info.levels] == [(1000, 820), (500, 410)]
        assert [level.downsample for level in slide.info.levels] == [1.0, 2.0]
        for level, box in ((0, (100, 50, 900, 800)), (0, (240, 240, 480, 480)), (1, (3, 5, 499, 409))):
            expected = _openslide(path, level, box, 2**level)
            assert np.array_equal(slide.read_region(level, box), expected)
        assert (
            slide.info.properties["aperio.AppMag"]
            == slide.info.properties["openslide.objective-power"]
            == "20"
        )


def test_aperio_jpeg_2000_equals_openslide(tmp_path: Path) -> None:
    options: dict[str, Any] = {"compression": 33005, "compressionargs": {"level": 60}}
    path = write_svs(tmp_path / "a.svs", textured(500, 500), tile=256, **options)
    with Slide(path) as slide:
        box = (10, 20, 490, 480)
        assert np.array_equal(slide.read_region(0, box), _openslide(path, 0, box, 1))


def test_ome_levels_are_sub_directories_and_the_label_is_none(tmp_path: Path) -> None:
    path = write_ome(tmp_path / "a.ome.tif", textured(700, 600), unit="nm", size=250.0)
    with Slide(path) as slide:
        assert slide.info.vendor == "ome-tiff" and slide.resolution == Resolution.of(0.25)
        assert [(level.width, level.height) for level in slide.info.levels] == [(700, 600), (350, 300)]
        expected = tifffile.imread(path, series=0, level=0)
        assert np.array_equal(slide.read_region(0, (0, 0, 700, 600)), expected)
        assert np.array_equal(
            slide.read_region(1, (0, 0, 350, 300)), tifffile.imread(path, series=0, level=1)
        )


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bigtiff": True},
        {"compression": None},
        {"compression": "lzw", "predictor": True},
        {"compression": "zlib", "predictor": True},
        {"compression": "packbits"},
        {"compression": "zstd"},
        {"compression": "jpeg", "photometric": "ycbcr"},
        {"compression": "webp", "compressionargs": {"level": -1}},
        {"compression": "jpegxl"},
        {"compression": "jpeg2000"},
    ],
)
def test_a_pyramid_equals_tifffile_with_each_compression(tmp_path: Path, options: dict[str, Any]) -> None:
    path = write_pyramid(tmp_path / "a.tif", textured(600, 500), **options)
    with Slide(path) as slide, tifffile.TiffFile(path) as theirs:
        assert slide.resolution == Resolution.of(0.5)
        assert len(slide.info.levels) == 2
        for level in range(2):
            width, height = 600 >> level, 500 >> level
            expected = theirs.pages[level].asarray()
            assert np.array_equal(slide.read_region(level, (0, 0, width, height)), expected)
            box = (width // 3, height // 3, width - 7, height - 9)
            assert np.array_equal(slide.read_region(level, box), expected[box[1] : box[3], box[0] : box[2]])


def test_planes_stored_apart_are_put_together(tmp_path: Path) -> None:
    pixels = textured(300, 260)
    for options in ({"tile": (128, 128)}, {"rowsperstrip": 50}):
        path = tmp_path / "a.tif"
        planes = pixels.transpose(2, 0, 1)
        tifffile.imwrite(
            path, planes, photometric="rgb", planarconfig="separate", compression="zlib", **options
        )
        with Slide(path) as slide:
            assert np.array_equal(slide.read_region(0, (0, 0, 300, 260)), pixels)


@pytest.mark.parametrize("rows", [1, 7, 300])
@pytest.mark.parametrize("compression", [None, "zlib", "jpeg"])
def test_strips_are_read_like_tiles(tmp_path: Path, rows: int, compression: str | None) -> None:
    path = tmp_path / "a.tif"
    rows = 8 * rows if compression == "jpeg" else rows
    tifffile.imwrite(path, textured(310, 290), photometric="rgb", rowsperstrip=rows, compression=compression)
    expected = tifffile.imread(path)
    with Slide(path) as slide:
        assert np.array_equal(slide.read_region(0, (0, 0, 310, 290)), expected)
        assert np.array_equal(slide.read_region(0, (33, 5, 210, 288)), expected[5:288, 33:210])


def test_grey_is_shown_as_grey_and_opacity_over_white(tmp_path: Path) -> None:
    grey = textured(300, 300)[..., 0]
    tifffile.imwrite(tmp_path / "a.tif", grey, tile=(128, 128), photometric="minisblack")
    tifffile.imwrite(tmp_path / "b.tif", 255 - grey, tile=(128, 128), photometric="miniswhite")
    for name in ("a.tif", "b.tif"):
        with Slide(tmp_path / name) as slide:
            assert np.array_equal(slide.read_region(0, (0, 0, 300, 300)), np.stack([grey] * 3, axis=-1))
    clear = np.dstack([textured(300, 300), np.full((300, 300), 255, np.uint8)])
    clear[:150, :, 3] = 0
    tifffile.imwrite(
        tmp_path / "c.tif", clear, tile=(128, 128), photometric="rgb", extrasamples=["unassalpha"]
    )
    with Slide(tmp_path / "c.tif") as slide:
        found = slide.read_region(0, (0, 0, 300, 300))
    assert (found[:150] == 255).all() and np.array_equal(found[150:], clear[150:, :, :3])


def test_label_macro_and_thumbnail_are_in_no_level(tmp_path: Path) -> None:
    pixels = textured(800, 600)
    paths = [
        write_svs(tmp_path / "a.svs", pixels),
        write_ome(tmp_path / "a.ome.tif", pixels),
        write_pyramid(tmp_path / "a.tif", pixels),
    ]
    for path in paths:
        with Slide(path) as slide:
            for index, level in enumerate(slide.info.levels):
                found = slide.read_region(index, (0, 0, level.width, level.height)).astype(int)
                assert np.abs(found - FORBIDDEN).max(axis=-1).min() > 30, path.name


def test_copies_share_a_fingerprint_and_other_slides_do_not(tmp_path: Path) -> None:
    first = write_svs(tmp_path / "a.svs", textured(500, 500))
    (tmp_path / "copy.svs").write_bytes(first.read_bytes())
    other = write_svs(tmp_path / "b.svs", textured(500, 500, seed=1))
    found = []
    for path in (first, tmp_path / "copy.svs", other):
        with Slide(path) as slide:
            found.append(slide.info.fingerprint)
    assert found[0] == found[1] != found[2]


def test_what_is_no_brightfield_picture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    rgb = textured(300, 300)
    tifffile.imwrite(path, rgb.astype(np.uint16) * 200, tile=(128, 128), photometric="rgb")
    assert _code(path) == "bit-depth"
    tifffile.imwrite(path, rgb[..., 0].astype(np.float32), tile=(128, 128))
    assert _code(path) == "bit-depth"
    tifffile.imwrite(path, np.dstack([rgb, rgb[..., 0]]), tile=(128, 128), photometric="separated")
    assert _code(path) == "photometric-unknown"
    palette = np.zeros((3, 256), np.uint16)
    tifffile.imwrite(path, rgb[..., 0], tile=(128, 128), photometric="palette", colormap=palette)
    assert _code(path) == "photometric-unknown"
    tifffile.imwrite(path, rgb, tile=(128, 128), photometric="rgb", compression="lerc")
    assert _code(path) == "unsupported-compression"
    tifffile.imwrite(tmp_path / "b.ome.tif", np.zeros((3, 300, 300), np.uint8), tile=(128, 128), ome=True,
                     photometric="minisblack", metadata={"axes": "CYX"})  # fmt: skip
    assert _code(tmp_path / "b.ome.tif") == "not-a-slide"


def test_a_tile_that_a_sparse_file_leaves_out_is_white(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = textured(512, 256)
    tifffile.imwrite(path, pixels, tile=(256, 256), photometric="rgb", metadata=None)
    with tifffile.TiffFile(path, mode="r+") as file:
        page = file.pages.first
        page.tags[324].overwrite((page.dataoffsets[0], 0))
        page.tags[325].overwrite((page.databytecounts[0], 0))
    with Slide(path) as slide:
        found = slide.read_region(0, (0, 0, 512, 256))
    assert np.array_equal(found[:, :256], pixels[:, :256]) and (found[:, 256:] == 255).all()


def test_a_level_of_other_shape_is_none(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    pixels = textured(512, 512)
    with tifffile.TiffWriter(path) as writer:
        for picture in (pixels, halved(pixels), pixels[:100, :300]):
            writer.write(picture, tile=(128, 128), photometric="rgb", subfiletype=1, metadata=None)
    with Slide(path) as slide:
        assert [(level.width, level.height) for level in slide.info.levels] == [(512, 512), (256, 256)]
