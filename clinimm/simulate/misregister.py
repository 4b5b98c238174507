"""A section that does not lie exactly as the other: a rigid movement and a smooth deformation.

The movement is stated from the moved image to the first one: what lies at point ``q`` of the moved
image (the target) lies at ``q + offset(q)`` in the H&E image (the source). Points are (column, row).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import radians

import numpy as np
from jaxtyping import Float, Float32

from clinimm.simulate.noise import smooth_field

_SCALE_UM = 70.0
_INVERSION_STEPS = 30


@dataclass(frozen=True)
class Misregistration:
    """How a section was moved.

    Attributes:
        shift_um: along columns and rows.
        rotation_degrees: about the image's centre.
        deformation_um: largest length of the smooth deformation, on top of the rigid movement.
        seed: of the deformation.
    """

    shift_um: tuple[float, float] = (0.0, 0.0)
    rotation_degrees: float = 0.0
    deformation_um: float = 0.0
    seed: int = 0


def draw_misregistration(
    generator: np.random.Generator, shift_um: float, rotation_degrees: float, deformation_um: float
) -> Misregistration:
    """One in any direction, of 0.4 to 1 times the stated sizes."""
    angle = float(generator.uniform(0, 2 * np.pi))
    shift, turn, bend = (float(part) for part in generator.uniform(0.4, 1.0, size=3))
    sign = 1.0 if generator.random() < 0.5 else -1.0
    return Misregistration(
        shift_um=(shift * shift_um * float(np.cos(angle)), shift * shift_um * float(np.sin(angle))),
        rotation_degrees=sign * turn * rotation_degrees,
        deformation_um=bend * deformation_um,
        seed=int(generator.integers(2**32)),
    )


def offset_field(
    move: Misregistration, pixels: int, um_per_pixel: float
) -> Float32[np.ndarray, "2 side side"]:
    """(column, row) offset in pixels from every pixel of the moved image to its place in the source."""
    place = np.arange(pixels, dtype=np.float32)
    offset = _deformation(move, pixels, um_per_pixel)
    right, down = _rigid(move, place[None, :], place[:, None], pixels, um_per_pixel)
    offset[0] += right
    offset[1] += down
    return offset


def to_target(
    source: Float[np.ndarray, "point 2"], move: Misregistration, pixels: int, um_per_pixel: float
) -> Float[np.ndarray, "point 2"]:
    """Where points of the H&E image lie in the moved image, (column, row) in pixels.

    Found by fixed-point iteration, which converges as long as the deformation does not fold.
    """
    from scipy.ndimage import map_coordinates

    field = _deformation(move, pixels, um_per_pixel)
    target = source.astype(float)
    for _ in range(_INVERSION_STEPS):
        bend = [map_coordinates(part, target[:, ::-1].T, order=1, mode="nearest") for part in field]
        rigid = _rigid(move, target[:, 0], target[:, 1], pixels, um_per_pixel)
        target = source - np.stack([rigid[0] + bend[0], rigid[1] + bend[1]], axis=-1)
    return target


def _rigid(
    move: Misregistration, columns: np.ndarray, rows: np.ndarray, pixels: int, um_per_pixel: float
) -> tuple[np.ndarray, np.ndarray]:
    """Column and row offset of points by rotation about the centre and shift."""
    angle = radians(move.rotation_degrees)
    less, sine = np.float32(np.cos(angle) - 1), np.float32(np.sin(angle))
    middle = np.float32((pixels - 1) / 2)
    x, y = columns - middle, rows - middle
    right, down = (np.float32(part / um_per_pixel) for part in move.shift_um)
    return less * x - sine * y + right, sine * x + less * y + down


def _deformation(
    move: Misregistration, pixels: int, um_per_pixel: float
) -> Float32[np.ndarray, "2 side side"]:
    if not move.deformation_um:
        return np.zeros((2, pixels, pixels), np.float32)
    generator = np.random.default_rng(move.seed)
    field = np.stack([smooth_field(generator, pixels, um_per_pixel, _SCALE_UM) for _ in range(2)])
    longest = np.hypot(*field).max()
    return np.asarray(field * np.float32(move.deformation_um / um_per_pixel / longest), dtype=np.float32)
