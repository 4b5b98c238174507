"""Chest films drawn from a plan: two lungs, heart, ribs, spine, noise, and lesions at known pixels.

Coordinates are normalised: x runs from -1 (left edge of the image, the patient's right side) to 1,
y from -1 (top) to 1. Grey values are 0 (air outside the body) to 1 (bone): MONOCHROME2.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

_GLYPHS = {
    "N": ("1...1", "11..1", "1.1.1", "1..11", "1...1", "1...1", "1...1"),
    "S": (".1111", "1....", "1....", ".111.", "....1", "....1", "1111."),
    "W": ("1...1", "1...1", "1...1", "1.1.1", "1.1.1", "11.11", "1...1"),
}
_LUNG_CENTRE_X = 0.43
_LESION_EDGE = 0.5


@dataclass(frozen=True)
class Lesion:
    """An opacity.

    Attributes:
        x, y: centre, normalised.
        radius: normalised; 0.2 is 25 pixels of 256.
        contrast: added brightness in its middle, of the whole range 1.
        lobes: phase of the three- and five-fold irregularity of its edge, radians.
    """

    x: float
    y: float
    radius: float
    contrast: float
    lobes: tuple[float, float]

    @property
    def side(self) -> str:
        """The patient's side, which is the image's other one."""
        return "right" if self.x < 0 else "left"


@dataclass(frozen=True)
class FilmPlan:
    """All that was drawn for one film, so that it can be drawn again.

    Attributes:
        rows, columns: pixels.
        letter: the site's marker, in the upper left corner.
        projection: ``PA`` or ``AP``; AP shows a larger heart.
        heart, lung: relative size of heart and lungs.
        rib_phase, rib_spacing: normalised.
        tilt: slant of the whole body, x per y.
        exposure: factor on all grey values.
        lesions: what is planted.
        noise_seed: seed of the noise.
    """

    rows: int
    columns: int
    letter: str
    projection: str
    heart: float
    lung: float
    rib_phase: float
    rib_spacing: float
    tilt: float
    exposure: float
    lesions: tuple[Lesion, ...]
    noise_seed: int


@dataclass(frozen=True)
class Film:
    """A drawn film.

    Attributes:
        grey: (row, column) float32, 0 to 1.
        boxes: one ``(left, top, right, bottom)`` a lesion, pixels, right and bottom exclusive.
    """

    grey: np.ndarray
    boxes: tuple[tuple[int, int, int, int], ...]


def draw_body(generator: np.random.Generator) -> dict[str, float]:
    """What stays the same between two films of one patient."""
    return {
        "heart": float(generator.normal(1.0, 0.08)),
        "lung": float(generator.normal(1.0, 0.05)),
        "rib_phase": float(generator.uniform(0, 1)),
        "rib_spacing": float(generator.normal(0.19, 0.01)),
    }


def draw_lesions(present: bool, generator: np.random.Generator) -> tuple[Lesion, ...]:
    """One opacity in either lung, in the upper or middle zone, or none."""
    side = -1.0 if generator.random() < 0.5 else 1.0
    lesion = Lesion(
        x=side * float(generator.uniform(0.36, 0.48)),
        y=float(generator.uniform(-0.42, 0.0)),
        radius=float(generator.uniform(0.24, 0.30)),
        contrast=float(generator.uniform(0.42, 0.52)),
        lobes=(float(generator.uniform(0, 6.28)), float(generator.uniform(0, 6.28))),
    )
    return (lesion,) if present else ()


def plan_film(
    size: tuple[int, int],
    letter: str,
    projection: str,
    body: dict[str, float],
    lesions: tuple[Lesion, ...],
    generator: np.random.Generator,
) -> FilmPlan:
    """Draw what differs from film to film: position, exposure, noise."""
    return FilmPlan(
        rows=size[0],
        columns=size[1],
        letter=letter,
        projection=projection,
        **body,
        tilt=float(generator.normal(0, 0.02)),
        exposure=float(generator.uniform(0.86, 1.06)),
        lesions=lesions,
        noise_seed=int(generator.integers(2**32)),
    )


def render_film(plan: FilmPlan) -> Film:
    """Draw a film from its plan; the same plan gives the same film."""
    generator = np.random.default_rng(plan.noise_seed)
    y, x = np.meshgrid(
        np.linspace(-1, 1, plan.rows, dtype=np.float32),
        np.linspace(-1, 1, plan.columns, dtype=np.float32),
        indexing="ij",
    )
    leaning = x + plan.tilt * y
    grey, air = _anatomy(leaning, y, plan, generator)
    boxes = []
    for lesion in plan.lesions:
        shape = _lesion_shape(x, y, lesion)
        texture = 1 + 0.12 * _texture((plan.rows, plan.columns), 2.5, generator)
        grey += lesion.contrast * shape * texture * (0.15 + 0.85 * air)
        boxes.append(_box(shape > _LESION_EDGE))
    grey = gaussian_filter(grey, 0.6) * plan.exposure
    grey += 0.012 * generator.standard_normal(grey.shape, dtype=np.float32)
    _stamp(grey, plan.letter)
    return Film(np.clip(grey, 0, 1), tuple(boxes))


def _anatomy(
    x: np.ndarray, y: np.ndarray, plan: FilmPlan, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Grey values without lesions, and how much of each pixel is lung, 0 to 1."""
    across = np.abs(x)
    lungs = _lungs(x, y, plan)
    torso = _step((_torso_width(y) - across) * 30)
    heart = _heart(x, y, plan) * torso
    hilum = np.exp(-(((across - 0.17) / 0.1) ** 2) - ((y + 0.08) / 0.2) ** 2) * lungs
    vessels = np.clip(_texture(x.shape, 2.0, generator), 0, None) * lungs
    tissue = 0.62 + 0.03 * _texture(x.shape, 12.0, generator)
    air = lungs * (1 - heart)
    grey = torso * tissue - 0.44 * air
    grey += 0.10 * heart + 0.10 * hilum + 0.035 * vessels
    grey += 0.09 * _spine(x, y) * torso + 0.13 * _ribs(across, y, plan) * torso
    grey += 0.12 * _clavicles(across, y) * torso
    return np.asarray(grey + 0.03, dtype=np.float32), air


def _torso_width(y: np.ndarray) -> np.ndarray:
    """Half the body's width at each height: neck, shoulders, chest wall."""
    return 0.24 + 0.70 * _step((y + 0.80) * 16) - 0.05 * (y + 0.2) ** 2


def _lungs(x: np.ndarray, y: np.ndarray, plan: FilmPlan) -> np.ndarray:
    both = np.zeros_like(x)
    for side, dome in ((-1.0, 0.40), (1.0, 0.47)):
        down = (y + 0.10) / 0.66
        half_width = plan.lung * 0.375 * np.clip(0.82 + 0.30 * down, 0.3, 1.0)
        inside = 1 - ((x - side * _LUNG_CENTRE_X) / half_width) ** 2 - np.abs(down) ** 2.6
        diaphragm = dome + 0.9 * (x - side * 0.36) ** 2
        both += _step(inside * 9) * _step((diaphragm - y) * 32)
    return both


def _heart(x: np.ndarray, y: np.ndarray, plan: FilmPlan) -> np.ndarray:
    size = plan.heart * (1.15 if plan.projection == "AP" else 1.0)
    ellipse = 1 - ((x - 0.13) / (0.29 * size)) ** 2 - ((y - 0.24) / (0.27 * size)) ** 2
    vessels = 1 - (x / 0.14) ** 2 - np.clip((np.abs(y + 0.25) - 0.3) / 0.2, 0, None) ** 2
    return _step(np.maximum(ellipse * 9, vessels * 7))


def _spine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.exp(-((x / 0.075) ** 4)) * (0.75 + 0.25 * np.cos(y * 2 * np.pi / 0.15))


def _ribs(across: np.ndarray, y: np.ndarray, plan: FilmPlan) -> np.ndarray:
    """Posterior ribs fall towards the side, the fainter anterior ones rise again."""
    wall = _step((0.80 - across) * 40) * _step((across - 0.06) * 40) * _step((0.62 - y) * 14)
    wall = wall * _step((y + 0.86 - 0.25 * across) * 20)
    posterior = (y - 0.42 * across + 0.22 * across**3) / plan.rib_spacing + plan.rib_phase
    anterior = (y + 0.55 * across**2 - 0.75 * across) / plan.rib_spacing + plan.rib_phase
    return wall * (_bands(posterior, 0.17) + 0.45 * _bands(anterior, 0.17))


def _clavicles(across: np.ndarray, y: np.ndarray) -> np.ndarray:
    line = -0.60 - 0.18 * (across - 0.1) + 0.05 * np.sin(across * 7)
    return np.exp(-(((y - line) / 0.028) ** 2)) * _step((across - 0.08) * 40) * _step((0.78 - across) * 30)


def _lesion_shape(x: np.ndarray, y: np.ndarray, lesion: Lesion) -> np.ndarray:
    angle = np.arctan2(y - lesion.y, x - lesion.x)
    edge = 1 + 0.12 * np.sin(3 * angle + lesion.lobes[0]) + 0.06 * np.sin(5 * angle + lesion.lobes[1])
    return _step((1 - np.hypot(x - lesion.x, y - lesion.y) / (lesion.radius * edge)) * 7)


def _box(mask: np.ndarray) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _texture(shape: tuple[int, ...], scale_pixels: float, generator: np.random.Generator) -> np.ndarray:
    """Smooth noise of mean 0 and standard deviation 1."""
    rough = generator.standard_normal(shape, dtype=np.float32)
    smooth = gaussian_filter(rough, scale_pixels, mode="wrap", truncate=3)
    return smooth / smooth.std()


def _bands(phase: np.ndarray, width: float) -> np.ndarray:
    return np.exp(-(((phase - np.round(phase)) / width) ** 2))


def _step(value: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-np.clip(value, -40, 40)))


def _stamp(grey: np.ndarray, letter: str) -> None:
    """The radiographer's lead letter, white, in the upper left corner."""
    glyph = np.array([[mark == "1" for mark in line] for line in _GLYPHS[letter]])
    scale = max(1, grey.shape[0] // 85)
    big = np.kron(glyph, np.ones((scale, scale), dtype=bool))
    top = left = grey.shape[0] // 32
    window = grey[top : top + big.shape[0], left : left + big.shape[1]]
    window[big] = 0.98
