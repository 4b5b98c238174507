"""Artefacts drawn on simulated tissue, with their true masks."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image
from scipy import ndimage

from clinimm.simulate.slide import plan_slide, render_slide

UM = 8.0
WHITE = 245.0
#: Share of red, green and blue that passes through the ink.
INKS = {
    "black": (0.08, 0.08, 0.09),
    "blue": (0.12, 0.32, 0.78),
    "green": (0.10, 0.55, 0.40),
    "red": (0.85, 0.08, 0.12),
}


@cache
def overview(seed: int, pixels: int = 3072) -> np.ndarray:
    """A simulated slide of 1.5 mm at 8 µm a pixel."""
    rgb = render_slide(plan_slide(seed % 2 == 0, pixels, np.random.default_rng(seed))).rgb
    shape = (round(pixels * 0.5 / UM),) * 2
    return np.asarray(Image.fromarray(rgb).resize(shape, Image.Resampling.BOX))


def _grid(picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return tuple(np.ogrid[: picture.shape[0], : picture.shape[1]])  # type: ignore[return-value]


def stroke(picture: np.ndarray, generator: np.random.Generator, width_um: float) -> np.ndarray:
    """A straight band across the picture, 0 to 1."""
    y, x = _grid(picture)
    side = picture.shape[0]
    angle = generator.uniform(0, np.pi)
    middle = side / 2 + generator.uniform(-0.25, 0.25, 2) * side
    away = np.abs((x - middle[0]) * np.sin(angle) - (y - middle[1]) * np.cos(angle))
    return away * UM <= width_um / 2


def pen(picture: np.ndarray, colour: str, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A pen stroke of 250 to 500 µm with a soft rim; its mask is where at least half of the ink is."""
    generator = np.random.default_rng(seed)
    ink = ndimage.gaussian_filter(
        stroke(picture, generator, generator.uniform(250, 500)).astype(float), 20 / UM
    )
    cover = generator.uniform(0.85, 1.0)
    passed = np.array(INKS[colour]) ** (ink[..., None] * cover)
    return np.rint(picture * passed).astype(np.uint8), ink > 0.5


def fold(picture: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A band of 60 to 200 µm in which other tissue of the slide lies on top."""
    generator = np.random.default_rng(seed)
    band = stroke(picture, generator, generator.uniform(60, 200))
    other = np.roll(picture, (41, 67), axis=(0, 1))
    double = np.rint(WHITE * (picture / WHITE) * (other / WHITE)).clip(0, 255).astype(np.uint8)
    both = (picture.min(-1) < 225) & (other.min(-1) < 225)
    return np.where(band[..., None], double, picture), band & both


def bubble(picture: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A circle of 150 to 400 µm radius with a dark rim of 24 µm."""
    generator = np.random.default_rng(seed)
    y, x = _grid(picture)
    side = picture.shape[0]
    row, column = generator.uniform(0.3, 0.7, 2) * side
    radius = generator.uniform(150, 400) / UM
    away = np.hypot(y - row, x - column)
    rim = np.clip(1.5 - np.abs(away - radius) / (12 / UM), 0, 1)
    passed = (1 - 0.8 * rim) * np.where(away < radius, 0.97, 1.0)
    return np.rint(picture * passed[..., None]).astype(np.uint8), away <= radius


def rates(found: np.ndarray, true: np.ndarray) -> tuple[float, float]:
    """Sensitivity and specificity over pixels."""
    return float(found[true].mean()), float(1 - found[~true].mean())
