"""Regions of tissue as pictures inside a page; a generated one says so in its pixels and in its file.

A virtual stain leaves this module in one form only: refused tiles hatched, the warning in a corner,
and the mark of ``modalities/synthetic.py`` in a text chunk of the PNG (law 6). What shows a virtual
stain beside other pictures carries the same mark.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Bool, Float, UInt8

from clinimm.modalities.synthetic import Provenance
from clinimm.staining.label_mark import draw, label
from clinimm.staining.refused import draw_refused

if TYPE_CHECKING:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

Rgb = UInt8[np.ndarray, "row column 3"]
Plane = Float[np.ndarray, "row column"]

#: Colours of the expected error from none to the most: viridis (van der Walt and Smith 2015), which
#: grows lighter evenly and is read alike by colour-blind readers.
_VIRIDIS = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")
_JPEG_QUALITY = 90
_GAP = 6
#: The keyword that PNG reserves for remarks, which readers of marks look at.
_REMARK = "Comment"


def ramp() -> UInt8[np.ndarray, "256 3"]:
    """The colours of 256 equal steps of expected error."""
    known = np.array([[int(one[at : at + 2], 16) for at in (0, 2, 4)] for one in _VIRIDIS], dtype=float)
    steps, places = np.linspace(0, len(known) - 1, 256), np.arange(len(known))
    channels = [np.interp(steps, places, known[:, channel]) for channel in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def photograph(rgb: Rgb, made: Provenance | None = None) -> bytes:
    """A picture as it was scanned, as JPEG; ``made`` where the scan itself is a generated one."""
    said = {} if made is None else {"comment": made.mark}
    return _saved(rgb, "JPEG", quality=_JPEG_QUALITY, subsampling=0, **said)


def with_refused(rgb: Rgb, refused: Bool[np.ndarray, "row column"]) -> Rgb:
    """A copy in which what must not be believed is hatched, and not to be seen."""
    pixels = np.array(rgb)
    draw_refused(pixels, refused, 0, 0)
    return pixels


def virtual(rgb: Rgb, refused: Bool[np.ndarray, "row column"], stain: str, made: Provenance) -> bytes:
    """A generated stain as PNG: refused tiles hatched, the warning in a corner, the mark in the file.

    Args:
        rgb: as the model made it.
        refused: where it must not be believed.
        stain: which stain it imitates.
        made: by what, and from what.
    """
    height, width = refused.shape
    return marked_png(draw(with_refused(rgb, refused), 0, 0, label(stain, width, height)), made)


def marked_png(pixels: Rgb, made: Provenance) -> bytes:
    """Lossless, with a text chunk that says that it was generated."""
    return _saved(pixels, "PNG", pnginfo=_remark(made))


def error_picture(expected: Plane, most: float, made: Provenance) -> bytes:
    """Expected error in the colours of ``ramp``, from 0 to ``most``, as PNG of one byte a pixel."""
    from PIL import Image

    steps = _steps(expected, most)
    image = Image.frombytes("P", (steps.shape[1], steps.shape[0]), steps.tobytes())
    image.putpalette(ramp().tobytes())
    return _encoded(image, "PNG", pnginfo=_remark(made))


def coloured(expected: Plane, most: float) -> Rgb:
    """The pixels of ``error_picture``."""
    return ramp()[_steps(expected, most)]


def signed_picture(scores: Plane, made: Provenance) -> bytes:
    """Shares of pixels: orange raises, blue lowers, the stronger the less transparent."""
    largest = float(np.abs(scores).max()) or 1.0
    alpha = np.rint(255 * np.sqrt(np.abs(scores) / largest) * 0.9).astype(np.uint8)
    colour = np.where((scores >= 0)[..., None], (255, 140, 26), (47, 155, 255)).astype(np.uint8)
    return _saved(np.dstack([colour, alpha]), "PNG", pnginfo=_remark(made))


def strip(pictures: Sequence[tuple[Rgb, str | None]], side: int) -> Rgb:
    """Pictures of one place in a row, each ``side`` pixels high, on white.

    Args:
        pictures: pixels, and the stain that they imitate where they were generated; the warning is
            drawn after the picture was scaled, so that it can be read.
        side: height of the row, pixels.
    """
    from PIL import Image

    small = []
    for pixels, stain in pictures:
        width = max(1, round(pixels.shape[1] * side / pixels.shape[0]))
        scaled = np.asarray(Image.fromarray(pixels).resize((width, side), Image.Resampling.LANCZOS))
        if stain is not None:
            scaled = draw(scaled, 0, 0, label(stain, width // 2, side))
        small += [scaled, np.full((side, _GAP, 3), 255, dtype=np.uint8)]
    return np.concatenate(small[:-1], axis=1)


def _steps(expected: Plane, most: float) -> UInt8[np.ndarray, "row column"]:
    return np.rint(np.clip(expected / most, 0, 1) * 255).astype(np.uint8)


def _remark(made: Provenance) -> PngInfo:
    from PIL.PngImagePlugin import PngInfo

    said = PngInfo()
    said.add_text(_REMARK, made.mark)
    return said


def _saved(pixels: UInt8[np.ndarray, "row column channel"], kind: str, **options: object) -> bytes:
    from PIL import Image

    return _encoded(Image.fromarray(pixels), kind, **options)


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format=kind, **options)
    return stream.getvalue()
