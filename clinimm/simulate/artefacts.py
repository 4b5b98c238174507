"""Artefacts planted in a picture of a slide, each with the mask of the pixels that it spoils.

They work on any (row, column, 3) picture, so that tests of quality control can use them alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from jaxtyping import Bool, Float32, UInt8

from clinimm.simulate.noise import grain, smooth_field

#: ``blur``: out of focus. ``fold``: tissue lies double. ``pen``: a marker's stroke. ``bubble``: air
#: under the cover glass. ``gap``: a near-white tear. ``fat`` and ``pigment``: tissue of another kind
#: (fat cells; brown melanin, which looks like DAB). ``scanner``: another scanner's colours.
Kind = Literal["blur", "fold", "pen", "bubble", "gap", "fat", "pigment", "scanner"]
KINDS: tuple[Kind, ...] = get_args(Kind)
#: Red, green, blue of marker pens.
PENS: dict[str, tuple[int, int, int]] = {
    "black": (35, 35, 40),
    "blue": (35, 60, 170),
    "green": (25, 130, 70),
    "red": (200, 30, 40),
}

_FLAKE = 0.02
_WOBBLE = 0.25


@dataclass(frozen=True)
class Artefact:
    """One artefact.

    Attributes:
        kind: see ``Kind``.
        column, row: its centre, share of the picture's sides.
        size: its radius (half its width, for strokes, folds and gaps), share of the picture's side;
            without meaning for ``scanner``, which spoils the whole picture.
        angle: direction of strokes, folds and gaps, radians.
        strength: 1 is usual.
        pen: a name in ``PENS``.
        seed: of its edge and texture.
    """

    kind: Kind
    column: float = 0.5
    row: float = 0.5
    size: float = 0.15
    angle: float = 0.0
    strength: float = 1.0
    pen: str = "blue"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.kind not in KINDS or self.pen not in PENS or not 0 < self.size <= 1:
            raise ValueError(
                f"artefact {self.kind!r} of size {self.size} and pen {self.pen!r}: expected one of "
                f"{', '.join(KINDS)}, a size above 0 and up to 1, and a pen of {', '.join(PENS)}."
            )


Picture = UInt8[np.ndarray, "row column 3"]
Mask = Bool[np.ndarray, "row column"]
_Soft = Float32[np.ndarray, "row column 1"]


def draw_artefact(kind: Kind, generator: np.random.Generator) -> Artefact:
    """One of that kind, anywhere but at the very edge, of a usual size."""
    narrow = kind in ("fold", "gap")
    column, row, angle, size, strength = generator.random(5)
    return Artefact(
        kind=kind,
        column=0.2 + 0.6 * float(column),
        row=0.2 + 0.6 * float(row),
        size=(0.015 + 0.015 * float(size))
        if narrow
        else (0.03 if kind == "pen" else 0.08) + 0.08 * float(size),
        angle=float(np.pi * angle),
        strength=0.8 + 0.4 * float(strength),
        pen=tuple(PENS)[int(generator.integers(len(PENS)))],
        seed=int(generator.integers(2**32)),
    )


def with_artefact(rgb: Picture, artefact: Artefact, um_per_pixel: float = 0.5) -> tuple[Picture, Mask]:
    """The picture with the artefact, and the pixels that it spoils.

    Args:
        rgb: (row, column, 3) uint8; it is not changed.
        artefact: what to plant, and where.
        um_per_pixel: resolution, for the size of textures.

    >>> import numpy as np
    >>> picture, mask = with_artefact(np.full((64, 64, 3), 200, np.uint8), Artefact("pen"))
    >>> bool((picture[mask] != 200).any()), bool((picture[~mask] == 200).all())
    (True, True)
    """
    generator = np.random.default_rng(artefact.seed)
    if artefact.kind == "scanner":
        return _other_scanner(rgb, artefact, generator), np.ones(rgb.shape[:2], bool)
    cover = _cover(artefact, rgb.shape[0], rgb.shape[1], um_per_pixel, generator)
    spoiled = _DRAW[artefact.kind](rgb.astype(np.float32), cover, artefact, um_per_pixel, generator)
    soft = cover[..., None]
    mixed = rgb * (1 - soft) + spoiled * soft
    mask = cover > _FLAKE
    return np.where(mask[..., None], np.clip(mixed + 0.5, 0, 255).astype(np.uint8), rgb), mask


def _cover(
    artefact: Artefact, rows: int, columns: int, um_per_pixel: float, generator: np.random.Generator
) -> Float32[np.ndarray, "row column"]:
    """0 to 1: how much of each pixel the artefact covers, with a wavy edge."""
    side = max(rows, columns)
    y, x = np.ogrid[:rows, :columns]
    right = ((x - artefact.column * columns) / side).astype(np.float32)
    down = ((y - artefact.row * rows) / side).astype(np.float32)
    wave = smooth_field(generator, side, um_per_pixel, max(20.0, 0.1 * side * um_per_pixel))[:rows, :columns]
    if artefact.kind in ("fold", "pen", "gap"):
        across = down * np.float32(np.cos(artefact.angle)) - right * np.float32(np.sin(artefact.angle))
        away = np.abs(across + np.float32(0.02) * wave) / np.float32(artefact.size)
    else:
        uneven = np.float32(0.02 if artefact.kind == "bubble" else _WOBBLE)
        away = np.hypot(right, down) / np.float32(artefact.size) * (1 + uneven * wave)
    sharp = 2.0 if artefact.kind == "blur" else artefact.size * side / 2
    return np.asarray(np.clip((1 - away) * np.float32(sharp) + 0.5, 0, 1), dtype=np.float32)


def _blur(
    rgb: np.ndarray,
    cover: np.ndarray,
    artefact: Artefact,
    um_per_pixel: float,
    generator: np.random.Generator,
) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(rgb, (2.0 * artefact.strength / um_per_pixel,) * 2 + (0,)))


def _fold(
    rgb: np.ndarray,
    cover: np.ndarray,
    artefact: Artefact,
    um_per_pixel: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Two layers: the densities of a pixel and of its mirror image across the fold add up."""
    away = int(2 * artefact.size * max(rgb.shape[:2]))
    shift = (round(away * np.cos(artefact.angle)), round(-away * np.sin(artefact.angle)))
    below = np.roll(rgb, shift, axis=(0, 1))
    return np.asarray(rgb * (below / 255) ** np.float32(artefact.strength))


def _pen(
    rgb: np.ndarray,
    cover: np.ndarray,
    artefact: Artefact,
    um_per_pixel: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Ink absorbs on top of the tissue, and hides most of it."""
    ink = np.array(PENS[artefact.pen], np.float32)
    streaks = grain(generator, max(rgb.shape[:2]), 6.0)[: rgb.shape[0], : rgb.shape[1], None]
    return np.asarray(ink * (0.55 + 0.45 * rgb / 255) * (1 + 0.05 * streaks))


def _bubble(
    rgb: np.ndarray,
    cover: np.ndarray,
    artefact: Artefact,
    um_per_pixel: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """A dark rim by refraction, and a paler, flatter view inside."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    depth_um = distance_transform_edt(cover > 0.5).astype(np.float32)[..., None] * um_per_pixel
    pale = 0.65 * gaussian_filter(rgb, (1.2 / um_per_pixel,) * 2 + (0,)) + 0.35 * 235
    rim = np.exp(-((depth_um - 2.0) ** 2) / (2 * 1.6**2)) - 0.4 * np.exp(-((depth_um - 7.0) ** 2) / 8.0)
    return np.asarray(pale * (1 - 0.65 * artefact.strength * rim))


def _gap(
    rgb: np.ndarray,
    cover: np.ndarray,
    artefact: Artefact,
    um_per_pixel: float,
    generator: np.random.Generator,
) -> np.ndarray:
    speckle = 1.5 * generator.standard_normal((*rgb.shape[:2], 1), dtype=np.float32)
    return np.array([241, 240, 242], np.float32) + speckle


def _fat(
    rgb: np.ndarray,
    cover: np.ndarray,
    artefact: Artefact,
    um_per_pixel: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Large empty cells between thin pink walls."""
    from scipy.ndimage import distance_transform_edt

    rows, columns = rgb.shape[:2]
    spacing = 32.0 / um_per_pixel
    count = max(4, round(rows * columns / spacing**2))
    centres = np.zeros((rows, columns), np.int32)
    places = generator.integers(0, (rows, columns), size=(count, 2))
    centres[places[:, 0], places[:, 1]] = np.arange(1, count + 1)
    half = centres == 0
    nearest = distance_transform_edt(half, return_distances=False, return_indices=True)
    owner = centres[nearest[0], nearest[1]]
    wall = np.zeros(owner.shape, bool)
    wall[:-1] |= owner[:-1] != owner[1:]
    wall[:, :-1] |= owner[:, :-1] != owner[:, 1:]
    away_um = distance_transform_edt(~wall).astype(np.float32)[..., None] * um_per_pixel
    pink = np.exp(-(away_um**2) / (2 * 0.9**2))
    return np.asarray(
        np.array([240, 238, 241], np.float32) * (1 - pink * np.array([0.12, 0.42, 0.25], np.float32))
    )


def _pigment(
    rgb: np.ndarray,
    cover: np.ndarray,
    artefact: Artefact,
    um_per_pixel: float,
    generator: np.random.Generator,
) -> np.ndarray:
    """Clumps of coarse brown granules."""
    side = max(rgb.shape[:2])
    fine = grain(generator, side, 1.0 / um_per_pixel)
    clumps = smooth_field(generator, side, um_per_pixel, 4.0)
    amount = np.clip(fine + 1.2 * clumps - 0.2, 0, 1.6)[: rgb.shape[0], : rgb.shape[1], None]
    density = np.array([0.30, 0.50, 0.66], np.float32) * (0.9 * artefact.strength)
    return np.asarray(rgb * 10.0 ** -(amount * density))


def _other_scanner(rgb: Picture, artefact: Artefact, generator: np.random.Generator) -> Picture:
    """Densities whose colours are mixed differently, on a tinted background."""
    density = -np.log10((rgb.astype(np.float32) + 1) / 256)
    mixing = np.eye(3, dtype=np.float32)
    mixing += np.float32(0.28 * artefact.strength) * generator.uniform(-1, 1, (3, 3)).astype(np.float32)
    tint = 1 - 0.10 * artefact.strength * generator.random(3)
    return np.clip(255 * tint * 10.0 ** -np.clip(density @ mixing, 0, None), 0, 255).astype(np.uint8)


_Drawer = Callable[[np.ndarray, np.ndarray, Artefact, float, np.random.Generator], np.ndarray]
_DRAW: dict[str, _Drawer] = {
    "blur": _blur,
    "fold": _fold,
    "pen": _pen,
    "bubble": _bubble,
    "gap": _gap,
    "fat": _fat,
    "pigment": _pigment,
}
