"""Slides as pyramidal tiled TIFF: Aperio-style SVS, or generic with resolution tags.

OpenSlide opens both. The patient is told by the folder (or by the file's stem up to the first
``__``), the time of scanning by the file itself, in UTC.
"""

from __future__ import annotations

from datetime import datetime
from io import BytesIO

import numpy as np

from clinimm.simulate.slide import MICROMETRES_PER_PIXEL

TILE_PIXELS = 256
LEVELS = 3
_JPEG_QUALITY = 75
_SOFTWARE = "clinimm simulate"


def slide_bytes(rgb: np.ndarray, scanned: datetime, aperio: bool) -> bytes:
    """A pyramid of three levels, each half as wide as the one before.

    Args:
        rgb: (row, column, 3) uint8, level 0.
        scanned: UTC.
        aperio: Aperio's ImageDescription (read by OpenSlide as vendor ``aperio``), else a generic
            TIFF whose resolution stands in the TIFF 6.0 tags, pixels per centimetre.
    """
    import tifffile

    stream = BytesIO()
    levels = _pyramid(rgb)
    with tifffile.TiffWriter(stream, bigtiff=False) as writer:
        for number, level in enumerate(levels):
            per_centimetre = 10_000 / (MICROMETRES_PER_PIXEL * 2**number)
            writer.write(
                level,
                tile=(TILE_PIXELS, TILE_PIXELS),
                photometric="rgb",
                compression="jpeg",
                compressionargs={"level": _JPEG_QUALITY},
                subfiletype=0 if aperio or number == 0 else 1,
                description=_description(level, levels[0], scanned) if aperio else _plain(number),
                datetime=None if aperio else scanned.strftime("%Y:%m:%d %H:%M:%S"),
                resolution=(per_centimetre, per_centimetre),
                resolutionunit="CENTIMETER",
                software=_SOFTWARE,
                metadata=None,
            )
    return stream.getvalue()


def _pyramid(rgb: np.ndarray) -> list[np.ndarray]:
    levels = [rgb]
    while len(levels) < LEVELS:
        wide = levels[-1].astype(np.uint16)
        pairs = wide[::2] + wide[1::2]
        summed = pairs[:, ::2] + pairs[:, 1::2]
        levels.append(((summed + 2) // 4).astype(np.uint8))
    return levels


def _description(level: np.ndarray, base: np.ndarray, scanned: datetime) -> str:
    size = (
        f"{base.shape[1]}x{base.shape[0]} [0,0 {base.shape[1]}x{base.shape[0]}] ({TILE_PIXELS}x{TILE_PIXELS})"
    )
    if level is not base:
        size += f" -> {level.shape[1]}x{level.shape[0]}"
    return (
        f"Aperio Image Library (simulated)\r\n{size} JPEG/RGB Q={_JPEG_QUALITY}"
        f"|AppMag = 20|MPP = {MICROMETRES_PER_PIXEL}"
        f"|Date = {scanned:%m/%d/%y}|Time = {scanned:%H:%M:%S}|Time Zone = GMT+00:00"
        "|ScanScope ID = SIM01|Filename = slide"
    )


def _plain(number: int) -> str | None:
    return "Simulated haematoxylin and eosin" if number == 0 else None
