"""Slides drawn from a plan: pink tissue with lumens, and purple nuclei of a known density.

Colour follows the Beer-Lambert law (Ruifrok and Johnston 2001) with the default stain vectors of
QuPath: each stain's amount adds to the optical density of red, green and blue.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

MICROMETRES_PER_PIXEL = 0.5
#: Nuclei a square millimetre of tissue where the factor ``dense`` is absent or present.
NUCLEI_PER_MM2 = {False: 1400.0, True: 4600.0}

_HAEMATOXYLIN = np.array([0.651, 0.701, 0.290])
_EOSIN = np.array([0.216, 0.801, 0.558])
_LEVELS = 128
_DENSEST = 1.6
_STAMP_RADIUS = 11
_COARSE = 64


@dataclass(frozen=True)
class SlidePlan:
    """All that was drawn for one slide, so that it can be drawn again.

    Attributes:
        pixels: side of level 0.
        nuclei_per_mm2: aimed-at density within tissue.
        haematoxylin, eosin: strength of the stains, 1 is usual.
        tissue: share of the slide that is tissue.
        noise_seed: seed of the shapes and the noise.
    """

    pixels: int
    nuclei_per_mm2: float
    haematoxylin: float
    eosin: float
    tissue: float
    noise_seed: int


@dataclass(frozen=True)
class Slide:
    """A drawn slide: (row, column, 3) uint8, and how many nuclei lie in it."""

    rgb: np.ndarray
    nuclei: int
    tissue_mm2: float


def plan_slide(dense: bool, pixels: int, generator: np.random.Generator) -> SlidePlan:
    """Draw staining, amount of tissue and density."""
    return SlidePlan(
        pixels=pixels,
        nuclei_per_mm2=NUCLEI_PER_MM2[dense] * float(generator.uniform(0.85, 1.15)),
        haematoxylin=float(generator.uniform(0.85, 1.15)),
        eosin=float(generator.uniform(0.85, 1.15)),
        tissue=float(generator.uniform(0.7, 0.9)),
        noise_seed=int(generator.integers(2**32)),
    )


def render_slide(plan: SlidePlan) -> Slide:
    """Draw a slide from its plan; the same plan gives the same slide."""
    generator = np.random.default_rng(plan.noise_seed)
    half = plan.pixels // 2  # tissue is smooth: drawn at half size, it looks the same and costs a quarter
    shape = _tissue(plan.tissue, half, generator)
    eosin = _twice(shape * _fibres(half, generator))
    eosin *= 1 + 0.10 * generator.standard_normal(eosin.shape, dtype=np.float32)
    tissue = _twice(shape)
    haematoxylin = np.float32(0.10) * tissue
    area_mm2 = float(tissue.mean()) * (plan.pixels * MICROMETRES_PER_PIXEL / 1000) ** 2
    nuclei = _place_nuclei(plan, tissue, area_mm2, generator)
    for column, row in nuclei:
        _stamp(haematoxylin, int(column), int(row), _nuclei_bank()[int(generator.integers(_BANK))])
    rgb = _colour(haematoxylin * plan.haematoxylin, eosin * plan.eosin)
    return Slide(rgb, len(nuclei), area_mm2)


def _tissue(share: float, pixels: int, generator: np.random.Generator) -> np.ndarray:
    """0 to 1: where tissue lies, with rounded edges and lumens."""
    coarse = _smooth(generator, _COARSE, 5.0) + 0.35 * _smooth(generator, _COARSE, 2.0)
    threshold = np.float32(np.quantile(coarse, 1 - share))
    return np.clip((_enlarge(coarse, pixels) - threshold) * 8, 0, 1)


def _fibres(pixels: int, generator: np.random.Generator) -> np.ndarray:
    """Eosin amount in tissue: wavy bundles of collagen between paler cytoplasm."""
    bend = _enlarge(_smooth(generator, _COARSE, 4.0), pixels)
    tone = _enlarge(_smooth(generator, _COARSE, 2.0), pixels)
    steps = 2 * np.arange(pixels, dtype=np.float32)
    waves = np.sin(steps[None, :] / 9 + 5 * bend + steps[:, None] / 23)
    return np.asarray(0.26 + 0.035 * waves + 0.035 * tone, dtype=np.float32)


def _place_nuclei(
    plan: SlidePlan, tissue: np.ndarray, area_mm2: float, generator: np.random.Generator
) -> np.ndarray:
    """(nucleus, 2) column and row of centres in tissue, uniformly."""
    wanted = round(plan.nuclei_per_mm2 * area_mm2)
    tries = generator.integers(_STAMP_RADIUS, plan.pixels - _STAMP_RADIUS, size=(4 * wanted + 16, 2))
    return tries[tissue[tries[:, 1], tries[:, 0]] > 0.5][:wanted]


_BANK = 64


@cache
def _nuclei_bank() -> np.ndarray:
    """(shape, row, column) haematoxylin amounts of differently turned and textured ellipses."""
    generator = np.random.default_rng(20260101)
    y, x = np.mgrid[-_STAMP_RADIUS : _STAMP_RADIUS + 1, -_STAMP_RADIUS : _STAMP_RADIUS + 1]
    bank = []
    for _ in range(_BANK):
        angle, long, ratio = generator.uniform(0, np.pi), generator.uniform(6, 9), generator.uniform(0.55, 1)
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        inside = 1 - np.hypot(along / long, across / (long * ratio))
        chromatin = 0.72 + 0.12 * generator.standard_normal(x.shape)
        bank.append(np.clip(inside * 4, 0, 1) * chromatin * generator.uniform(0.8, 1.2))
    return np.array(bank, dtype=np.float32)


def _stamp(amount: np.ndarray, column: int, row: int, nucleus: np.ndarray) -> None:
    window = amount[
        row - _STAMP_RADIUS : row + _STAMP_RADIUS + 1, column - _STAMP_RADIUS : column + _STAMP_RADIUS + 1
    ]
    np.maximum(window, nucleus, out=window)


def _colour(haematoxylin: np.ndarray, eosin: np.ndarray) -> np.ndarray:
    return _palette()[_level(haematoxylin) * _LEVELS + _level(eosin)]


def _level(amount: np.ndarray) -> np.ndarray:
    return np.clip(amount * np.float32(_LEVELS / _DENSEST), 0, _LEVELS - 1).astype(np.uint16)


@cache
def _palette() -> np.ndarray:
    """(haematoxylin level × eosin level, 3): the Beer-Lambert law, tabulated."""
    amount = np.arange(_LEVELS) * (_DENSEST / _LEVELS)
    density = amount[:, None, None] * _HAEMATOXYLIN + amount[None, :, None] * _EOSIN
    return np.round(244 * 10.0**-density).astype(np.uint8).reshape(-1, 3)


def _smooth(generator: np.random.Generator, side: int, scale: float) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(generator.standard_normal((side, side), dtype=np.float32), scale, mode="wrap")
    return np.asarray(smooth / smooth.std())


def _enlarge(coarse: np.ndarray, pixels: int) -> np.ndarray:
    """Bilinear enlargement of a square field."""
    place = np.linspace(0, len(coarse) - 1, pixels, dtype=np.float32)
    low = np.minimum(place.astype(np.intp), len(coarse) - 2)
    part = place - low.astype(np.float32)
    rows = coarse[low] * (1 - part)[:, None] + coarse[low + 1] * part[:, None]
    return rows[:, low] * (1 - part) + rows[:, low + 1] * part


def _twice(field: np.ndarray) -> np.ndarray:
    return np.repeat(np.repeat(field, 2, axis=0), 2, axis=1)
