"""Toy tissue: small and large nuclei of one colour, of which only the large ones turn brown."""

from __future__ import annotations

import numpy as np

from clinimm.staining.pairs import StainPair

SIDE = 128
_SMALL, _LARGE = 3.0, 6.0
_STROMA = np.array([231, 168, 201])
_NUCLEUS = np.array([98, 72, 142])
_PALE = np.array([222, 219, 224])
_BLUE = np.array([122, 136, 178])
_BROWN = np.array([118, 72, 40])
_GREEN = np.array([70, 140, 80])


def draw_nuclei(random: np.random.Generator, side: int, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Masks (side, side) of small and of large nuclei, which do not overlap."""
    small, large = np.zeros((2, side, side), bool)
    rows, columns = np.mgrid[:side, :side]
    for _ in range(count):
        is_large = random.random() < 0.5
        radius = _LARGE if is_large else _SMALL
        row, column = random.uniform(0, side, 2)
        place = np.hypot(rows - row, columns - column)
        if not ((small | large) & (place < radius + 2)).any():
            (large if is_large else small)[place < radius] = True
    return small, large


def draw_pair(
    subject: str, seed: int, side: int = SIDE, stains: tuple[str, ...] = ("KI67",), **changes: object
) -> StainPair:
    """One pair; ``KI67`` turns large nuclei brown, any other stain turns small ones green."""
    random = np.random.default_rng(seed)
    small, large = draw_nuclei(random, side, count=side * side // 150)
    light = random.normal(0, 4, (side, side, 1))
    source = np.where((small | large)[..., None], _NUCLEUS, _STROMA) + light
    targets = {}
    for stain in stains:
        positive, colour = (large, _BROWN) if stain == "KI67" else (small, _GREEN)
        target = np.where((small | large)[..., None], _BLUE, _PALE)
        targets[stain] = _bytes(np.where(positive[..., None], colour, target) + light)
    values: dict[str, object] = {
        "subject_id": subject,
        "specimen": f"block-{seed}",
        "source": _bytes(source),
        "targets": targets,
        "valid": np.ones((side, side), bool),
        "resolution_um": 0.5,
    }
    return StainPair(**{**values, **changes})  # type: ignore[arg-type]


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255).round().astype(np.uint8)
