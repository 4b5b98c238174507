"""A whole slide: pixels at a level, resolution, time. A thin layer over OpenSlide.

Associated images (label, macro) are never read: a label is a photograph of the patient's name.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType

import numpy as np
import openslide
from PIL import Image as Pillow

from clinimm.core.errors import InputRejected

#: Coarser than this is not a scanner's resolution but a leftover of image editors (72 dpi = 353 µm).
COARSEST_MPP_UM = 20.0
#: Pixels that are read at once for a thumbnail: 64 MiB.
_BAND_PIXELS = 1 << 24
_WHITE = (255, 255, 255)
_OPTION = "modalities.pathology.encoder.options.mpp_um"


@dataclass(frozen=True)
class SlideInfo:
    """What a slide says about itself; sizes in level-0 pixels."""

    width: int
    height: int
    levels: int
    mpp_um: float | None
    vendor: str
    properties: Mapping[str, str]


class Slide:
    """An open slide.

    Args:
        path: the slide's file, or one file of a DICOM slide.
        mpp_um: resolution, micrometres a pixel at level 0, of a slide that states none. A slide's
            own resolution is preferred.

    Raises:
        InputRejected: ``not-a-slide`` or ``cannot-open``.

    >>> with Slide(Path("biopsy.svs")) as slide:  # doctest: +SKIP
    ...     pixels = slide.read((0, 0, 512, 512), 256)
    """

    def __init__(self, path: Path, mpp_um: float | None = None) -> None:
        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise InputRejected(
                "not-a-slide",
                "OpenSlide knows no slide format in this file",
                "convert it to a tiled pyramidal TIFF, or leave it out",
            ) from error
        except (openslide.OpenSlideError, OSError) as error:
            raise _damaged() from error
        self._fallback_mpp_um = mpp_um
        with _refusing(_damaged("cannot-open")):
            self.info = _info(self._slide)

    def __enter__(self) -> Slide:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the file back."""
        self._slide.close()

    @property
    def dimensions(self) -> tuple[int, int]:
        """Width and height at level 0, pixels."""
        return self.info.width, self.info.height

    @property
    def mpp_um(self) -> float:
        """Micrometres a pixel at level 0.

        Raises:
            InputRejected: ``no-resolution``, the file states none and none was given.
        """
        found = self.info.mpp_um or self._fallback_mpp_um
        if found is None:
            raise InputRejected(
                "no-resolution",
                "the slide states no resolution (micrometres a pixel)",
                f"state it in {_OPTION} if it is the same for all such slides",
            )
        return found

    def read(self, box: tuple[int, int, int, int], size: int) -> np.ndarray:
        """The level-0 box ``(left, top, right, bottom)`` as (size, size, 3) uint8, antialiased.

        It is read from the coarsest level that is still finer than asked for. Outside the slide,
        and where a scanner left pixels out, it is white.

        Raises:
            InputRejected: ``cannot-read``, the pixel data are damaged.
        """
        left, top, right, bottom = box
        downsample = max((right - left) / size, (bottom - top) / size)
        with _refusing(_damaged("cannot-read")):
            level = self._slide.get_best_level_for_downsample(downsample * 1.001)
            scale = self._slide.level_downsamples[level]
            shape = (max(1, round((right - left) / scale)), max(1, round((bottom - top) / scale)))
            tile = self._region((left, top), level, shape)
        if tile.size != (size, size):
            tile = tile.resize((size, size), Pillow.Resampling.BILINEAR)
        return np.asarray(tile)

    def thumbnail(self, longest: int) -> np.ndarray:
        """The whole slide as (row, column, 3) uint8 with its longer side at most ``longest``.

        Raises:
            InputRejected: ``cannot-read``, the pixel data are damaged.
        """
        width, height = self.dimensions
        factor = min(1.0, longest / max(width, height))
        shape = (max(1, round(width * factor)), max(1, round(height * factor)))
        with _refusing(_damaged("cannot-read")):
            level = self._slide.get_best_level_for_downsample(1 / factor * 1.001)
            return np.asarray(self._banded(level, self._slide.level_dimensions[level], shape))

    def _banded(self, level: int, source: tuple[int, int], shape: tuple[int, int]) -> Pillow.Image:
        """A level shrunk band by band, so that a slide without a pyramid does not fill the memory."""
        bands = max(1, math.ceil(source[0] * source[1] / _BAND_PIXELS))
        canvas = Pillow.new("RGB", shape, _WHITE)
        edges = [int(edge) for edge in np.linspace(0, shape[1], min(bands, shape[1]) + 1).round()]
        scale = self._slide.level_downsamples[level]
        for start, stop in pairwise(edges):
            first, last = (round(edge * source[1] / shape[1]) for edge in (start, stop))
            band = self._region((0, round(first * scale)), level, (source[0], max(1, last - first)))
            canvas.paste(band.resize((shape[0], stop - start), Pillow.Resampling.BILINEAR), (0, start))
        return canvas

    def _region(self, location: tuple[int, int], level: int, shape: tuple[int, int]) -> Pillow.Image:
        region = self._slide.read_region(location, level, shape)
        opaque = Pillow.new("RGB", region.size, _WHITE)
        opaque.paste(region, mask=region.getchannel("A"))
        return opaque


@contextmanager
def _refusing(refusal: InputRejected) -> Iterator[None]:
    """What OpenSlide and Pillow raise on a bad file, as ``refusal`` of that file.

    Once a read failed, OpenSlide fails in every later call on the slide, also in those that read
    nothing; so each of them stands under this.
    """
    try:
        yield
    except (openslide.OpenSlideError, OSError) as error:
        raise refusal from error


def _info(slide: openslide.OpenSlide) -> SlideInfo:
    width, height = slide.dimensions
    properties = dict(slide.properties)
    return SlideInfo(
        width=width,
        height=height,
        levels=slide.level_count,
        mpp_um=_stated_mpp(properties),
        vendor=properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown"),
        properties=properties,
    )


def _stated_mpp(properties: Mapping[str, str]) -> float | None:
    values = []
    for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y):
        try:
            values.append(float(properties.get(name, "nan")))
        except ValueError:
            return None
    mean = sum(values) / 2
    return mean if math.isfinite(mean) and 0 < mean <= COARSEST_MPP_UM else None


def _damaged(code: str = "cannot-open") -> InputRejected:
    return InputRejected(
        code, "the slide is damaged or incomplete", "scan or export the slide again, with all of its files"
    )
