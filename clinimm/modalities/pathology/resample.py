"""Pixels of a level at another scale. The same pixel comes out whatever region it is asked for in."""

from __future__ import annotations

import math
from concurrent.futures import Executor
from typing import Protocol

import numpy as np
from PIL import Image as Pillow

from clinimm.modalities.pathology.pixels import Box, Rgb, SlideInfo

#: Width of what is resampled at once, so that a band across a slide needs no second band of memory.
_BLOCK_COLUMNS = 2048


class Readable(Protocol):
    """What a slide is to this file."""

    info: SlideInfo

    def read_region(self, level: int, box: Box, pool: Executor | None = None) -> Rgb:
        """Pixels of a level."""
        ...


def resampled(
    slide: Readable,
    level: int,
    place: tuple[float, float, float, float],
    width: int,
    height: int,
    pool: Executor | None = None,
) -> Rgb:
    """``place`` of a level (its pixels, fractions allowed) as ``height`` x ``width`` pixels.

    Shrinking averages what falls into a pixel (a triangle as wide as two of them), so neighbours
    outside ``place`` are read too and weigh in: pieces put side by side have no seams.
    """
    left, top, right, bottom = place
    if width <= _BLOCK_COLUMNS:
        return _piece(slide, level, place, width, height, pool)
    canvas = np.empty((height, width, 3), dtype=np.uint8)
    step = (right - left) / width
    for start in range(0, width, _BLOCK_COLUMNS):
        stop = min(width, start + _BLOCK_COLUMNS)
        part = (left + start * step, top, left + stop * step, bottom)
        canvas[:, start:stop] = _piece(slide, level, part, stop - start, height, pool)
    return canvas


def _piece(
    slide: Readable,
    level: int,
    place: tuple[float, float, float, float],
    width: int,
    height: int,
    pool: Executor | None,
) -> Rgb:
    known = slide.info.levels[level]
    first, last = _span(place[0], place[2], width, known.width)
    upper, lower = _span(place[1], place[3], height, known.height)
    region = slide.read_region(level, (first, upper, last, lower), pool)
    inner = (place[0] - first, place[1] - upper, place[2] - first, place[3] - upper)
    image = Pillow.fromarray(region).resize((width, height), Pillow.Resampling.BILINEAR, box=inner)
    return np.asarray(image)


def _span(start: float, stop: float, count: int, length: int) -> tuple[int, int]:
    """First and last pixel that weigh in; beyond the slide's edge only as far as was asked for."""
    margin = max(1.0, (stop - start) / count) + 1
    first = max(math.floor(start - margin), min(0, math.floor(start)))
    last = min(math.ceil(stop + margin), max(length, math.ceil(stop)))
    return first, last
