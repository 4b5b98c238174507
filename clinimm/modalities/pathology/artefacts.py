"""What lies on a slide beside its tissue: pen, folds, air bubbles, by colour and shape alone.

Each detector takes a picture at a stated resolution, some 8 µm a pixel, and gives a mask of the same
size. They are rules with figures in micrometres, so that they can be read, and argued with; their
sensitivity and specificity on drawn artefacts are in the tests. They are made for H&E.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Bool, Float, UInt8
from scipy import ndimage

from clinimm.modalities.pathology.stain_space import HAEMATOXYLIN_EOSIN, WHITE, amounts, optical_density
from clinimm.modalities.pathology.tissue import NEAR_WHITE

Picture = UInt8[np.ndarray, "row column 3"]
Mask = Bool[np.ndarray, "row column"]

#: The colours of pen, in the order of their masks.
PEN_COLOURS = ("black", "blue", "green", "red")

_PEN_AREA_MM2 = 0.01  # a dot of a tenth of a millimetre; pigment and red cells are smaller
_PEN_STROKE_UM = 40.0  # thinner is no pen
_PEN_SMOOTH_UM = 8.0  # ink over tissue is judged by what both look like from afar
_PEN_RIM_UM = 64.0  # width of a stroke's blurred rim, where ink looks like a stain

_FOLD_SMOOTH_UM = 8.0  # nuclei average out, a fold does not
_FOLD_AREA_MM2 = 0.004
_FOLD_RATIO = 1.55  # of the density of one layer; two layers have two
_FOLD_EOSIN_RATIO = 1.45  # dense nuclei raise haematoxylin alone, a second layer raises both

_RIM_WIDTH_UM = 56.0  # a bubble's rim is a dark line thinner than this
_RIM_CONTRAST = 24  # grey levels that it is darker than both sides
_RIM_CHROMA = 44  # and it is nearly grey
_RIM_LENGTH_UM = 240.0
_RIM_BEND = 0.02  # a line that closes nowhere departs from its arc by less than this share of its length
_CIRCLE_RADIUS_UM = (70.0, 6000.0)
_CIRCLE_ERROR = 0.08  # of the radius
_CIRCLE_ARC = 0.4  # of the whole turn that must be seen


def pens(rgb: Picture, um_per_pixel: float) -> dict[str, Mask]:
    """Pen strokes by colour, with their rims.

    Ink is where a colour is found that no stain has (see ``tissue.pen_mask``), in a stroke wide and
    large enough. The rim, 64 µm, is whatever is not glass around it. A stroke of two colours counts
    where each is.

    >>> sorted(pens(np.full((50, 50, 3), 240, np.uint8), 8.0))
    ['black', 'blue', 'green', 'red']
    """
    shown = _smooth(rgb, _PEN_SMOOTH_UM / um_per_pixel)
    red, green, blue = (shown[..., channel].astype(np.int16) for channel in range(3))
    brightest = np.maximum(np.maximum(red, green), blue)
    darkest = np.minimum(np.minimum(red, green), blue)
    ink = {
        "black": (brightest < 90) & (brightest - darkest < 36),
        "blue": (blue > red + 50) & (green > red - 5) & (green < blue - 15),
        "green": (green > red + 15) & (green >= blue - 15),
        "red": (red > 70) & (green < 0.45 * red) & (blue < 0.45 * red),
    }
    coloured = darkest < NEAR_WHITE
    found = {name: _strokes(mask, um_per_pixel) for name, mask in ink.items()}
    return {name: _grown(found[name], _PEN_RIM_UM / um_per_pixel) & coloured for name in PEN_COLOURS}


def folds(rgb: Picture, tissue: Mask, um_per_pixel: float) -> Mask:
    """Where tissue lies double: more of both stains than one layer has.

    The slide's own median is one layer, so strongly stained slides are not all fold; a slide that is
    half fold would be missed. After Kothari et al., "Eliminating tissue-fold artifacts in
    histopathological whole-slide images for improved image-based prediction of cancer grade",
    Journal of Pathology Informatics 4, 2013, which finds the threshold a slide too, on saturation and
    intensity; here on optical density, in which two layers are twice one.
    """
    if not tissue.any():
        return np.zeros_like(tissue)
    density = np.maximum(optical_density(rgb, WHITE), 0)
    eosin = amounts(density, HAEMATOXYLIN_EOSIN / np.linalg.norm(HAEMATOXYLIN_EOSIN, axis=1, keepdims=True))
    sigma = _FOLD_SMOOTH_UM / um_per_pixel
    dense = ndimage.gaussian_filter(density.sum(axis=-1), sigma)
    pink = ndimage.gaussian_filter(eosin[..., 1], sigma)
    double = (dense > _FOLD_RATIO * np.median(dense[tissue])) & (
        pink > _FOLD_EOSIN_RATIO * np.median(pink[tissue])
    )
    return _large(double, _FOLD_AREA_MM2, um_per_pixel)


def bubbles(rgb: Picture, um_per_pixel: float) -> Mask:
    """Air under the coverslip: what a dark, thin, grey line runs around, and the line.

    A line that follows a circle, or closes on itself, is filled. A long line that does neither, such
    as the edge of a bubble larger than the picture, is marked as a line.
    """
    lines = _dark_lines(rgb, um_per_pixel)
    labels, count = ndimage.label(lines, np.ones((3, 3)))
    found = np.zeros_like(lines)
    for number, box in enumerate(ndimage.find_objects(labels), start=1) if count else ():
        rows, columns = (part.stop - part.start for part in box)
        if math.hypot(rows, columns) * um_per_pixel < _RIM_LENGTH_UM:
            continue
        found |= _inside(labels == number, um_per_pixel)
    return found


def _smooth(rgb: Picture, sigma: float) -> Picture:
    """Averaged over ``sigma`` pixels; a picture that is coarser than that already is left alone."""
    return ndimage.gaussian_filter(rgb, (sigma, sigma, 0)) if sigma > 1 else rgb


def _strokes(ink: Mask, um_per_pixel: float) -> Mask:
    radius = _PEN_STROKE_UM / 2 / um_per_pixel
    kept = _grown(_shrunk(ink, radius), radius) if radius >= 1 else ink
    return _large(kept, _PEN_AREA_MM2, um_per_pixel)


def _dark_lines(rgb: Picture, um_per_pixel: float) -> Mask:
    grey = rgb.mean(axis=-1)
    size = max(3, round(_RIM_WIDTH_UM / um_per_pixel))
    contrast = ndimage.grey_closing(grey, size=(size, size)) - grey
    chroma = rgb.max(axis=-1).astype(np.int16) - rgb.min(axis=-1)
    return (contrast > _RIM_CONTRAST) & (chroma < _RIM_CHROMA)


def _inside(line: Mask, um_per_pixel: float) -> Mask:
    """The bubble that a line belongs to; nothing where it is frayed, as the edge of tissue is."""
    rows, columns = np.nonzero(line)
    length = math.hypot(np.ptp(rows) + 1, np.ptp(columns) + 1)
    filled = ndimage.binary_fill_holes(line)
    if filled.sum() > 2 * line.sum():
        return filled
    row, column, radius, error = _circle(rows.astype(float), columns.astype(float))
    turn = np.unique((np.arctan2(rows - row, columns - column) * 18 / np.pi).round()).size / 36
    least, most = (edge / um_per_pixel for edge in _CIRCLE_RADIUS_UM)
    if least <= radius <= most and error < _CIRCLE_ERROR * radius and turn >= _CIRCLE_ARC:
        y, x = np.ogrid[: line.shape[0], : line.shape[1]]
        return np.hypot(y - row, x - column) <= radius + 1
    smooth = error < max(0.5, _RIM_BEND * length) and line.sum() * um_per_pixel < length * _RIM_WIDTH_UM
    return line if smooth else np.zeros_like(line)


def _circle(rows: np.ndarray, columns: np.ndarray) -> tuple[float, float, float, float]:
    """Centre, radius and root-mean-square error of the circle through points (Kåsa 1976)."""
    matrix = np.stack([rows, columns, np.ones_like(rows)], axis=1)
    (a, b, c), *_ = np.linalg.lstsq(matrix, rows**2 + columns**2, rcond=None)
    radius = math.sqrt(max(c + (a * a + b * b) / 4, 0.0))
    error = np.hypot(rows - a / 2, columns - b / 2) - radius
    return a / 2, b / 2, radius, float(np.sqrt(np.mean(error**2)))


def _large(mask: Mask, area_mm2: float, um_per_pixel: float) -> Mask:
    """The connected parts of at least ``area_mm2``."""
    labels, count = ndimage.label(mask)
    if not count:
        return mask
    sizes = np.bincount(labels.ravel())
    kept = sizes * (um_per_pixel / 1000) ** 2 >= area_mm2
    kept[0] = False
    return kept[labels]


def _grown(mask: Mask, pixels: float) -> Mask:
    """Everything within ``pixels`` of the mask."""
    return ndimage.distance_transform_edt(~mask) <= pixels if mask.any() else mask


def _shrunk(mask: Mask, pixels: float) -> Mask:
    """What is further than ``pixels`` from everything outside; the picture's edge is no outside."""
    return ndimage.distance_transform_edt(mask) > pixels if not mask.all() else mask


def glass(rgb: Picture) -> Mask:
    """Near white: brighter than ``NEAR_WHITE`` in every channel."""
    found: Float[np.ndarray, "row column"] = np.minimum(np.minimum(rgb[..., 0], rgb[..., 1]), rgb[..., 2])
    return found >= NEAR_WHITE
