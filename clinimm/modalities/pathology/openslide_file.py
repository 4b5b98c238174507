"""Slides of the vendors whose formats only OpenSlide reads: NDPI, MIRAX, SCN, BIF, VMS and others.

Its associated images are never read: a label is a photograph of the patient's name.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import openslide
from PIL import Image as Pillow

from clinimm.core.errors import InputRejected
from clinimm.modalities.pathology.pixels import Box, Level, Rgb, SlideInfo, with_white_rim
from clinimm.modalities.pathology.resolution import Resolution, believable

_WHITE = (255, 255, 255)
_QUICKHASH = "openslide.quickhash-1"


class OpenSlidePixels:
    """A slide that OpenSlide opened.

    Raises:
        InputRejected: ``not-a-slide`` or ``cannot-open``.
    """

    def __init__(self, path: Path) -> None:
        try:
            self._slide = openslide.OpenSlide(str(path))
        except openslide.OpenSlideUnsupportedFormatError as error:
            raise InputRejected(
                "not-a-slide",
                "no slide format is known in this file",
                "convert it to a tiled pyramidal TIFF, or leave it out",
            ) from error
        except (openslide.OpenSlideError, OSError) as error:
            raise _damaged("cannot-open") from error
        with _refusing(_damaged("cannot-open")):
            self.info = _info(self._slide)

    def close(self) -> None:
        """Give the file back."""
        self._slide.close()

    def read(self, level: int, box: Box, pool: Executor | None = None) -> Rgb:
        """The box of a level, white outside and where a scanner left pixels out.

        Raises:
            InputRejected: ``cannot-read``, the pixel data are damaged.
        """
        known = self.info.levels[level]
        with _refusing(_damaged("cannot-read")):
            return with_white_rim(box, known.width, known.height, lambda inside: self._inside(level, inside))

    def _inside(self, level: int, box: Box) -> Rgb:
        scale = self._slide.level_downsamples[level]
        location = (round(box[0] * scale), round(box[1] * scale))
        region = self._slide.read_region(location, level, (box[2] - box[0], box[3] - box[1]))
        opaque = Pillow.new("RGB", region.size, _WHITE)
        opaque.paste(region, mask=region.getchannel("A"))
        return np.asarray(opaque)


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
    tiles = [
        tuple(int(properties.get(f"openslide.level[{level}].tile-{axis}", 0)) for axis in ("width", "height"))
        for level in range(slide.level_count)
    ]
    levels = tuple(
        Level(*size, downsample, *tile)
        for size, downsample, tile in zip(slide.level_dimensions, slide.level_downsamples, tiles, strict=True)
    )
    quick = properties.get(_QUICKHASH)
    return SlideInfo(
        width,
        height,
        levels,
        _stated(properties),
        properties.get(openslide.PROPERTY_NAME_VENDOR, "unknown"),
        properties,
        hashlib.sha256(quick.encode()).hexdigest() if quick else None,
    )


def _stated(properties: Mapping[str, str]) -> Resolution | None:
    values = []
    for name in (openslide.PROPERTY_NAME_MPP_X, openslide.PROPERTY_NAME_MPP_Y):
        try:
            values.append(float(properties.get(name, math.nan)))
        except ValueError:
            return None
    return believable(*values)


def _damaged(code: str) -> InputRejected:
    return InputRejected(
        code, "the slide is damaged or incomplete", "scan or export the slide again, with all of its files"
    )
