"""Resolution of a picture: micrometres a pixel. A type of its own, for 0.5 alone has no unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

#: Coarser than this is not a microscope's resolution but a mistake of unit.
COARSEST_UM = 100.0
#: A resolution that a file states in a tag meant for printers is believed up to here: 72 dpi is 353 µm,
#: 600 dpi is 42 µm, and a 1x scan is about 10 µm.
COARSEST_STATED_UM = 20.0
#: Two resolutions this near, as a share, count as the same: scanners of one magnification differ more.
SAME_WITHIN = 0.02


@dataclass(frozen=True)
class Resolution:
    """How far apart the centres of neighbouring pixels are on the glass.

    Attributes:
        um_per_pixel_x: micrometres a column.
        um_per_pixel_y: micrometres a row.

    Raises:
        ValueError: a value is not a number above 0 and at most 100.

    >>> Resolution.of(0.25).downsample_to(Resolution.of(1.0))
    4.0
    """

    um_per_pixel_x: float
    um_per_pixel_y: float

    def __post_init__(self) -> None:
        for value in (self.um_per_pixel_x, self.um_per_pixel_y):
            if not (math.isfinite(value) and 0 < value <= COARSEST_UM):
                raise ValueError(
                    f"a pixel of {value} µm is impossible; expected above 0 and at most {COARSEST_UM:g}"
                )

    @classmethod
    def of(cls, um_per_pixel: float) -> Resolution:
        """The same in both directions."""
        return cls(float(um_per_pixel), float(um_per_pixel))

    @property
    def um_per_pixel(self) -> float:
        """Mean of both directions, micrometres a pixel."""
        return (self.um_per_pixel_x + self.um_per_pixel_y) / 2

    def downsample_to(self, other: Resolution) -> float:
        """How many of these pixels one pixel of ``other`` is wide; above 1 where it is coarser."""
        return other.um_per_pixel / self.um_per_pixel

    def scaled(self, factor_x: float, factor_y: float) -> Resolution:
        """Of a picture in which a pixel is ``factor`` of these pixels wide and high."""
        return Resolution(self.um_per_pixel_x * factor_x, self.um_per_pixel_y * factor_y)

    def is_same_as(self, other: Resolution) -> bool:
        """Whether they differ by no more than two scanners of the same magnification do."""
        return (
            abs(self.um_per_pixel_x / other.um_per_pixel_x - 1) <= SAME_WITHIN
            and abs(self.um_per_pixel_y / other.um_per_pixel_y - 1) <= SAME_WITHIN
        )


def believable(um_per_pixel_x: float, um_per_pixel_y: float) -> Resolution | None:
    """What a file states, as a resolution; None where it cannot be a scanner's.

    >>> believable(352.8, 352.8) is None, believable(0.25, 0.25)
    (True, Resolution(um_per_pixel_x=0.25, um_per_pixel_y=0.25))
    """
    values = (um_per_pixel_x, um_per_pixel_y)
    if not all(math.isfinite(value) and 0 < value <= COARSEST_STATED_UM for value in values):
        return None
    return Resolution(*values)
