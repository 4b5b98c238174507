"""The visible mark in a corner of a virtual stain, at every level, and how it is found again.

Attributes can be lost when a picture is exported; what stands in the pixels goes with them.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float, UInt8

WARNING = ("VIRTUAL STAIN", "NOT A REAL STAIN")
#: Where the label starts, and how large its letters are where the image is wide enough, pixels.
_MARGIN = 4
_LETTERS, _SMALLEST_LETTERS = 20, 9
#: Share of an image's width or height that the label may take before its letters shrink.
_LARGEST_SHARE = 0.9
_WHITE, _INK = 255, (150, 0, 0)
#: Least correlation with the drawn warning at which it counts as found; noise stays below 0.3.
_FOUND = 0.8

Picture = UInt8[np.ndarray, "row column 3"]


def label_text(stain: str) -> str:
    """What the label says, on one line.

    >>> label_text("KI67")
    'VIRTUAL STAIN - NOT A REAL STAIN - KI67'
    """
    return " - ".join((*WARNING, stain))


def label(stain: str, width: int, height: int, notes: tuple[str, ...] = ()) -> Picture:
    """The label for an image of this size: a white plate with dark red letters.

    Args:
        stain: name of the stain that is imitated.
        width, height: of the whole image at this level, pixels.
        notes: further lines, such as that there is no safety case.
    """
    lines = (*WARNING, stain, *notes)
    letters = _LETTERS
    while letters > _SMALLEST_LETTERS:
        plate = _plate(lines, letters)
        if plate.shape[0] <= height * _LARGEST_SHARE and plate.shape[1] <= width * _LARGEST_SHARE:
            return plate
        letters -= 1
    return _plate(lines, _SMALLEST_LETTERS)


def draw(pixels: Picture, top: int, left: int, mark: Picture) -> Picture:
    """``pixels`` with the label on them; their first pixel is at ``top``, ``left`` of the image."""
    rows = slice(max(0, -top), max(0, min(mark.shape[0] - top, pixels.shape[0])))
    columns = slice(max(0, -left), max(0, min(mark.shape[1] - left, pixels.shape[1])))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return pixels
    marked = pixels.copy()
    marked[rows, columns] = mark[
        rows.start + top : rows.stop + top, columns.start + left : columns.stop + left
    ]
    return marked


def shows_label(corner: Picture) -> bool:
    """Whether the top left corner of an image shows the warning, at any size that ``label`` draws.

    Args:
        corner: at least 256 x 128 pixels of the image's top left corner, or all of a smaller image.
    """
    grey = corner.mean(axis=2)
    return any(
        _correlation(grey, _plate(WARNING, letters).mean(axis=2)) >= _FOUND
        for letters in range(_LETTERS, _SMALLEST_LETTERS - 1, -1)
    )


def _correlation(grey: Float[np.ndarray, "row column"], plate: Float[np.ndarray, "height width"]) -> float:
    rows, columns = (min(*pair) for pair in zip(grey.shape, plate.shape, strict=True))
    seen, drawn = grey[:rows, :columns], plate[:rows, :columns]
    if seen.std() < 1 or drawn.std() < 1:
        return 0.0
    return float(np.corrcoef(seen.ravel(), drawn.ravel())[0, 1])


@lru_cache(maxsize=64)
def _plate(lines: tuple[str, ...], letters: int) -> Picture:
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=letters)
    boxes = [font.getbbox(line) for line in lines]
    width = int(max(box[2] for box in boxes)) + 2 * _MARGIN
    step = round(letters * 1.2)
    image = Image.new("RGB", (width, step * len(lines) + 2 * _MARGIN), (_WHITE,) * 3)
    pen = ImageDraw.Draw(image)
    for number, line in enumerate(lines):
        pen.text((_MARGIN, _MARGIN + number * step), line, fill=_INK, font=font)
    return np.asarray(image)
