"""Cell types of simulated tissue, and the table of nuclei."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from jaxtyping import Bool, Float32, Int8


@dataclass(frozen=True)
class CellType:
    """What nuclei of one type look like; lengths in micrometres.

    Attributes:
        name: as the truth states it.
        radius_um: least and largest radius of a circle of the nucleus's area.
        elongation: least and largest ratio of the long to the short axis.
        haematoxylin: amount in an even nucleus, optical density.
        chromatin: how much more a nucleus of the coarsest chromatin takes up.
        texture: how uneven the chromatin is, relative.
        rim: extra amount at the nuclear membrane, relative.
        nucleolus: extra amount in the nucleolus, optical density.
        cytoplasm_um: how far the cell reaches beyond its nucleus.
    """

    name: str
    radius_um: tuple[float, float]
    elongation: tuple[float, float]
    haematoxylin: float
    chromatin: float
    texture: float
    rim: float
    nucleolus: float
    cytoplasm_um: float


TUMOUR, GLAND, LYMPHOCYTE, STROMA = range(4)
CELL_TYPES: tuple[CellType, ...] = (
    CellType("tumour", (3.9, 5.9), (1.0, 1.3), 0.36, 0.42, 0.20, 0.45, 0.60, 9.0),
    CellType("gland", (3.1, 3.9), (1.3, 1.8), 0.62, 0.16, 0.18, 0.25, 0.15, 14.0),
    CellType("lymphocyte", (2.7, 3.3), (1.0, 1.15), 1.00, 0.16, 0.22, 0.10, 0.0, 1.2),
    CellType("stroma", (2.7, 3.6), (2.8, 5.0), 0.72, 0.16, 0.14, 0.10, 0.0, 1.5),
)


@dataclass(frozen=True)
class Nuclei:
    """A table of nuclei, one entry a nucleus; nucleus ``i`` has the value ``i + 1`` in a label image.

    Attributes:
        column, row: centre in pixels of the H&E image, (0, 0) in the middle of its first pixel; of the
            visible part where the image's edge cuts the nucleus.
        radius_um: radius of a circle of the same area.
        elongation: long over short axis.
        angle: of the long axis against the rows, radians, turning towards larger rows.
        kind: index into ``CELL_TYPES``.
        chromatin: 0 (pale, even) to 1 (dark, coarse); shows in the haematoxylin.
    """

    column: Float32[np.ndarray, " nucleus"]
    row: Float32[np.ndarray, " nucleus"]
    radius_um: Float32[np.ndarray, " nucleus"]
    elongation: Float32[np.ndarray, " nucleus"]
    angle: Float32[np.ndarray, " nucleus"]
    kind: Int8[np.ndarray, " nucleus"]
    chromatin: Float32[np.ndarray, " nucleus"]

    def __len__(self) -> int:
        return len(self.column)

    def take(self, which: np.ndarray) -> Nuclei:
        """Those of a mask, or in the order of an index."""
        return Nuclei(*(getattr(self, field.name)[which] for field in fields(self)))

    def types(self) -> list[str]:
        """The name of every nucleus's cell type."""
        return [CELL_TYPES[kind].name for kind in self.kind]

    def of_kind(self, *kinds: int) -> Bool[np.ndarray, " nucleus"]:
        """Which nuclei are of one of these types."""
        return np.isin(self.kind, kinds)


def join(parts: list[Nuclei]) -> Nuclei:
    """Several tables one after the other."""
    return Nuclei(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Nuclei)))
