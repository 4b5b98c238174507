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
    outside ``place`` are read too and weigh in: pieces put side by side have no seams. At the slide's
    edge its last pixels weigh in again for what is not there; a pixel whose middle lies beyond is white.
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
    columns, rows = (
        _inside(place[0], place[2], width, known.width),
        _inside(place[1], place[3], height, known.height),
    )
    canvas = np.full((height, width, 3), 255, dtype=np.uint8)
    if not columns or not rows:
        return canvas
    across, down = (place[2] - place[0]) / width, (place[3] - place[1]) / height
    left, right = place[0] + columns.start * across, place[0] + columns.stop * across
    top, bottom = place[1] + rows.start * down, place[1] + rows.stop * down
    first, last = _span(left, right, across)
    upper, lower = _span(top, bottom, down)
    held = max(first, 0), max(upper, 0), min(last, known.width), min(lower, known.height)
    region = slide.read_region(level, held, pool)
    beyond = ((held[1] - upper, lower - held[3]), (held[0] - first, last - held[2]), (0, 0))
    image = Pillow.fromarray(np.pad(region, beyond, mode="edge"))
    inner = (left - first, top - upper, right - first, bottom - upper)
    size = len(columns), len(rows)
    canvas[rows.start : rows.stop, columns.start : columns.stop] = np.asarray(
        image.resize(size, Pillow.Resampling.BILINEAR, box=inner)
    )
    return canvas


def _inside(start: float, stop: float, count: int, length: int) -> range:
    """Those of ``count`` pixels from ``start`` to ``stop`` whose middle lies on the slide."""
    middles = start + (np.arange(count) + 0.5) * (stop - start) / count
    known = np.flatnonzero((middles >= 0) & (middles < length))
    return range(int(known[0]), int(known[-1]) + 1) if len(known) else range(0)


def _span(start: float, stop: float, step: float) -> tuple[int, int]:
    """First and last pixel that weigh in."""
    margin = max(1.0, step) + 1
    return math.floor(start - margin), math.ceil(stop + margin)
