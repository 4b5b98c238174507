"""Slides as pyramidal tiled TIFF: Aperio-style SVS, or generic with resolution tags.

OpenSlide opens both. The patient is told by the folder (or by the file's stem up to the first
``__``), the time of scanning by the file itself, in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from io import BytesIO

import numpy as np

from clinimm.modalities.synthetic import SIMULATOR
from clinimm.simulate.slide import MICROMETRES_PER_PIXEL

TILE_PIXELS = 256
LEVELS = 3


@dataclass(frozen=True)
class Scan:
    """How a scanner writes a slide.

    Attributes:
        scanner: its name.
        stain: what the slide is stained with.
        jpeg_quality: 1 to 100.
    """

    scanner: str = "SIM01"
    stain: str = "haematoxylin and eosin"
    jpeg_quality: int = 75


_USUAL = Scan()


def slide_bytes(rgb: np.ndarray, scanned: datetime, aperio: bool, scan: Scan = _USUAL) -> bytes:
    """A pyramid of three levels, each half as wide as the one before.

    Args:
        rgb: (row, column, 3) uint8, level 0.
        scanned: UTC.
        aperio: Aperio's ImageDescription (read by OpenSlide as vendor ``aperio``), else a generic
            TIFF whose resolution stands in the TIFF 6.0 tags, pixels per centimetre.
        scan: scanner, stain and compression.
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
                compressionargs={"level": scan.jpeg_quality},
                subfiletype=0 if aperio or number == 0 else 1,
                description=_description(level, levels[0], scanned, scan) if aperio else _plain(number, scan),
                datetime=None if aperio else scanned.strftime("%Y:%m:%d %H:%M:%S"),
                resolution=(per_centimetre, per_centimetre),
                resolutionunit="CENTIMETER",
                software=SIMULATOR,
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


def _description(level: np.ndarray, base: np.ndarray, scanned: datetime, scan: Scan) -> str:
    size = (
        f"{base.shape[1]}x{base.shape[0]} [0,0 {base.shape[1]}x{base.shape[0]}] ({TILE_PIXELS}x{TILE_PIXELS})"
    )
    if level is not base:
        size += f" -> {level.shape[1]}x{level.shape[0]}"
    return (
        f"Aperio Image Library (simulated)\r\n{size} JPEG/RGB Q={scan.jpeg_quality}"
        f"|AppMag = 20|MPP = {MICROMETRES_PER_PIXEL}"
        f"|Date = {scanned:%m/%d/%y}|Time = {scanned:%H:%M:%S}|Time Zone = GMT+00:00"
        f"|ScanScope ID = {scan.scanner}|Filename = slide"
    )


def _plain(number: int, scan: Scan) -> str | None:
    return f"Simulated {scan.stain}" if number == 0 else None
