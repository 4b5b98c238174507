"""How stained tissue looks behind a scanner: the Beer-Lambert law, and each site's colours.

A stain's amount adds to the optical density of red, green and blue along its own direction
(Ruifrok and Johnston 2001, table 1; the directions are QuPath's defaults).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float32, UInt8

from clinimm.simulate.noise import grain

#: Optical density of red, green and blue that one unit of a stain adds; each of length 1.
HAEMATOXYLIN = (0.651, 0.701, 0.290)
EOSIN = (0.216, 0.801, 0.558)
DAB = (0.269, 0.568, 0.778)

_LEVELS = 256
_DENSEST = 1.9
_GRAIN = 0.006


@dataclass(frozen=True)
class Look:
    """A scanner and a staining batch.

    Attributes:
        scanner: its name, as the file states it.
        white: red, green and blue of bare glass, 0 to 255.
        gain: factor on the optical density of red, green and blue: the scanner's own colour filters.
        haematoxylin, other: strength of haematoxylin, and of eosin or DAB; 1 is usual.
        blur_um: standard deviation of the optics' blur, micrometres.
        aperio: whether it writes Aperio-style files, else generic TIFF.
    """

    scanner: str = "SIM01"
    white: tuple[int, int, int] = (243, 243, 244)
    gain: tuple[float, float, float] = (1.0, 1.0, 1.0)
    haematoxylin: float = 1.0
    other: float = 1.0
    blur_um: float = 0.35
    aperio: bool = True


#: Site key -> its slide scanner.
SITE_LOOKS: dict[str, Look] = {
    "northfield": Look("SIM01"),
    "southbank": Look("SIM02", (240, 234, 236), (0.90, 0.95, 1.08), 0.92, 1.12, 0.45, aperio=False),
    "westhill": Look("SIM03", (232, 238, 245), (1.10, 1.02, 0.92), 1.08, 0.90, 0.30),
}


def draw_look(site: str, generator: np.random.Generator) -> Look:
    """The site's scanner with one day's staining strength."""
    look = SITE_LOOKS[site]
    haematoxylin, other = generator.uniform(0.9, 1.1, size=2)
    return replace(look, haematoxylin=look.haematoxylin * haematoxylin, other=look.other * other)


def colour(
    haematoxylin: Float32[np.ndarray, "side side"],
    other: Float32[np.ndarray, "side side"],
    direction: tuple[float, float, float],
    look: Look,
    generator: np.random.Generator,
) -> UInt8[np.ndarray, "side side 3"]:
    """The picture of two stains' amounts.

    Args:
        haematoxylin, other: amounts in optical density, 0 is none.
        direction: ``EOSIN`` or ``DAB``.
        look: scanner and staining strength.
        generator: of the sensor's grain.
    """
    speckle = np.float32(_GRAIN) * grain(generator, len(haematoxylin), 0.0)
    first = _level(haematoxylin * np.float32(look.haematoxylin) + speckle)
    second = _level(other * np.float32(look.other) + speckle[::-1, ::-1])
    palette = _palette(direction, look.white, look.gain)
    return np.take(palette, first * _LEVELS + second, axis=0)


def _level(amount: Float32[np.ndarray, "side side"]) -> np.ndarray:
    levels = amount * np.float32(_LEVELS / _DENSEST)
    return np.clip(levels + np.float32(0.5), 0, _LEVELS - 1).astype(np.int32)


@lru_cache(maxsize=32)
def _palette(
    direction: tuple[float, float, float], white: tuple[int, int, int], gain: tuple[float, float, float]
) -> UInt8[np.ndarray, "colour 3"]:
    """Haematoxylin level times ``_LEVELS`` plus the other stain's level -> colour."""
    amount = np.arange(_LEVELS) * (_DENSEST / _LEVELS)
    density = amount[:, None, None] * np.array(HAEMATOXYLIN) + amount[None, :, None] * np.array(direction)
    rgb = np.array(white) * 10.0 ** -(density * np.array(gain))
    return np.round(rgb).astype(np.uint8).reshape(-1, 3)
