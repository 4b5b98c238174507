"""Toy tissue and toy stainers for the safety case: every nucleus is known, nothing is trained."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter

from clinimm.staining.safety import StainedTile, TileExample

RESOLUTION_UM = 0.5
RADIUS_PX = 7.0
_HAEMATOXYLIN, _EOSIN, _DAB = (
    np.array(v) for v in ((0.65, 0.70, 0.29), (0.22, 0.80, 0.56), (0.27, 0.57, 0.78))
)


@dataclass(frozen=True)
class ToyTissue:
    """H&E and its immunostain of the same cut, and where the nuclei are (row, column)."""

    source: np.ndarray
    target: np.ndarray
    nuclei: np.ndarray


@cache
def draw(seed: int, side: int = 128, count: int = 14) -> ToyTissue:
    """Nuclei on wavy ground; large ones are positive."""
    generator = np.random.default_rng(seed)
    nuclei = _places(generator, side, count)
    radii = generator.uniform(0.8, 1.2, len(nuclei)) * RADIUS_PX
    dark = generator.uniform(0.5, 0.8, len(nuclei))
    rows, columns = np.mgrid[:side, :side]
    haematoxylin, dab = np.full((side, side), 0.05), np.full((side, side), 0.02)
    for (row, column), radius, depth in zip(nuclei, radii, dark, strict=True):
        disc = np.clip((radius - np.hypot(rows - row, columns - column)) / 2, 0, 1)
        haematoxylin = np.maximum(haematoxylin, disc * depth)
        if radius > RADIUS_PX:
            dab = np.maximum(dab, disc * 0.6)
    wave = gaussian_filter(generator.standard_normal((side, side)), 6, mode="wrap")
    eosin = np.clip(0.3 + 0.06 * wave / wave.std(), 0.02, None)
    source = _colour(generator, haematoxylin, _HAEMATOXYLIN, eosin, _EOSIN)
    return ToyTissue(source, _colour(generator, 0.6 * haematoxylin, _HAEMATOXYLIN, dab, _DAB), nuclei)


@cache
def example(seed: int, subject: str, harm: float = 0.0, side: int = 128) -> TileExample:
    """A tile stained by a toy: the truth, smoothed, with noise that it knows the scale of, roughly.

    ``harm`` adds error that the toy expects, so that some tiles are worse than others.
    """
    tissue = draw(seed, side)
    generator = np.random.default_rng([seed, 1])
    truth = tissue.target.astype(np.float32) / 255
    smooth = np.stack([gaussian_filter(truth[..., c], 1.0) for c in range(3)], axis=-1)
    scale = 0.01 + harm + 0.05 * gaussian_filter(generator.uniform(0, 1, smooth.shape[:2]), 8)
    noise = generator.laplace(0, 1, smooth.shape) * scale[..., None]
    rgb = np.round(np.clip(smooth + noise, 0, 1) * 255).astype(np.uint8)
    features = np.append(tissue.source.mean(axis=(0, 1)), tissue.source.std(axis=(0, 1))) / 255
    stained = StainedTile("KI67", rgb, (0.5 * scale).astype(np.float32), features.astype(np.float32))
    valid = np.ones(smooth.shape[:2], dtype=bool)
    return TileExample(subject, tissue.source, stained, tissue.target, valid)


def examples(name: str, subjects: int, tiles: int = 4, first: int = 0) -> list[TileExample]:
    """Tiles of several subjects, some harder than others."""
    return [
        example(first + 100 * s + t, f"{name}{s}", harm=0.01 * ((s + t) % 3))
        for s in range(subjects)
        for t in range(tiles)
    ]


def _places(generator: np.random.Generator, side: int, count: int) -> np.ndarray:
    taken: list[np.ndarray] = []
    for place in generator.integers(8, side - 8, size=(400, 2)):
        if len(taken) < count and all(np.hypot(*(place - other)) > 2.4 * RADIUS_PX for other in taken):
            taken.append(place)
    return np.array(taken)


def _colour(generator: np.random.Generator, first: np.ndarray, one: np.ndarray, second, other) -> np.ndarray:
    density = first[..., None] * one + second[..., None] * other
    density = density + 0.01 * generator.standard_normal(first.shape)[..., None]
    return np.round(np.clip(244 * 10.0**-density, 0, 255)).astype(np.uint8)
