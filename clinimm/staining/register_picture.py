"""Pictures to look at: the two stains as a checkerboard, and their structure in two colours."""

from __future__ import annotations

import io

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from clinimm.staining.deformation import Deformation
from clinimm.staining.picture import ArrayPicture, Picture, warp_block
from clinimm.staining.structure import fit_scale, structure

#: Longer side of either half, pixels, and squares along it.
_LONGEST, _SQUARES = 900, 12
_GAP = 8
_WHITE = 255


def side_by_side(source: Picture, target: Picture, deformation: Deformation) -> bytes:
    """A PNG: left a checkerboard of both stains, right their structure, source green, target magenta.

    Where both lie together the right half is white or black; green beside magenta is a shift.
    """
    still, moved, inside = _at_overview(source, target, deformation)
    board = np.where(_checkerboard(inside.shape)[..., None] & inside[..., None], moved, still)
    first, second = _grey(still), _grey(moved) * inside
    colours = np.rint(255 * np.stack([second, first, second], axis=-1)).astype(np.uint8)
    gap = np.full((len(board), _GAP, 3), _WHITE, dtype=np.uint8)
    return _png(np.hstack([board, gap, colours]))


def _at_overview(
    source: Picture, target: Picture, deformation: Deformation
) -> tuple[
    UInt8[np.ndarray, "row column 3"], UInt8[np.ndarray, "row column 3"], Bool[np.ndarray, "row column"]
]:
    small, other = _small(source), _small(target)
    moved, inside = warp_block(other, deformation, (0, 0, *small.shape), small.resolution_um)
    return small.pixels, moved, inside


def _small(picture: Picture) -> ArrayPicture:
    pixels = picture.overview(_LONGEST)
    return ArrayPicture(pixels, picture.resolution_um * max(picture.shape) / max(pixels.shape[:2]))


def _checkerboard(shape: tuple[int, ...]) -> Bool[np.ndarray, "row column"]:
    side = max(1, max(shape) // _SQUARES)
    row, column = np.indices(shape) // side
    return (row + column) % 2 == 1


def _grey(rgb: UInt8[np.ndarray, "row column 3"]) -> Float32[np.ndarray, "row column"]:
    return np.sqrt(structure(rgb, fit_scale(rgb)))


def _png(rgb: UInt8[np.ndarray, "row column 3"]) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(rgb).save(stream, "PNG", optimize=False)
    return stream.getvalue()
