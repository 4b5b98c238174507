"""Where the truth is known: does a map point at the finding? Pure functions of cells and boxes.

The pointing game after Zhang et al. (IJCV 2018, arXiv:1608.00507); overlap and mass as in
Saporta et al. (Nature Machine Intelligence 2022) and Arras et al. (Information Fusion 2022).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from clinimm.core.errors import DataError

#: Size bands of a finding by its share of the picture's area: below the first is small.
SIZE_BANDS: tuple[tuple[str, float], ...] = (("small", 0.01), ("medium", 0.05), ("large", 1.0))


@dataclass(frozen=True)
class Localisation:
    """How one map of one picture lies on the true finding.

    Attributes:
        hit: whether the strongest cell meets the finding (pointing game).
        hit_by_chance: share of cells that meet it: what pointing at random would score.
        iou: overlap of the cells above the threshold with the finding, over their union.
        mass_inside: share of the supporting score that lies on the finding.
        area: the finding's share of the cells' area: what an even map would put inside.
        size: ``small``, ``medium`` or ``large``, by ``area``.
    """

    hit: bool
    hit_by_chance: float
    iou: float
    mass_inside: float
    area: float
    size: str


def localise(
    scores: Float[np.ndarray, " cell"],
    cells: Float[np.ndarray, "cell 4"],
    truth: Float[np.ndarray, "finding 4"] | Bool[np.ndarray, "row column"],
    threshold: float = 0.5,
) -> Localisation:
    """Compare a map with the truth.

    Args:
        scores: signed score of each cell; only what supports counts.
        cells: left, top, right and bottom of each cell in pixels.
        truth: boxes of the findings in the same pixels, or a mask of the picture, True inside.
        threshold: cells of at least this share of the strongest are called the finding.

    Raises:
        DataError: there is no cell, or no finding.
    """
    if len(scores) == 0 or truth.size == 0 or (truth.dtype == bool and not truth.any()):
        raise DataError("a map is compared with a finding: both must be there.")
    covered = coverage(cells, truth)
    area = cell_area(cells)
    support = np.clip(scores, 0, None)
    share = float((covered * area).sum() / area.sum())
    on = (support >= threshold * support.max()) & (support > 0)
    inside = float((area * covered)[on].sum())
    union = float(area[on].sum()) + truth_area(truth) - inside
    return Localisation(
        hit=bool(support.max() > 0 and covered[np.argmax(scores)] > 0),
        hit_by_chance=float((covered > 0).mean()),
        iou=inside / union if union > 0 else 0.0,
        mass_inside=float((support * covered).sum() / support.sum()) if support.sum() > 0 else 0.0,
        area=share,
        size=size_band(share),
    )


def coverage(
    cells: Float[np.ndarray, "cell 4"],
    truth: Float[np.ndarray, "finding 4"] | Bool[np.ndarray, "row column"],
) -> Float[np.ndarray, " cell"]:
    """Share of each cell's area that lies inside the truth; overlapping findings count once."""
    area = np.maximum(cell_area(cells), 1e-12)
    if truth.dtype == bool:
        return _mask_inside(cells, truth) / area
    pieces = union_pieces(np.asarray(truth, dtype=float))
    wide = np.minimum(cells[:, None, 2], pieces[:, 2]) - np.maximum(cells[:, None, 0], pieces[:, 0])
    high = np.minimum(cells[:, None, 3], pieces[:, 3]) - np.maximum(cells[:, None, 1], pieces[:, 1])
    return (wide.clip(min=0) * high.clip(min=0)).sum(axis=1) / area


def union_pieces(boxes: Float[np.ndarray, "finding 4"]) -> Float[np.ndarray, "piece 4"]:
    """The union of boxes as boxes that do not overlap: the cells of the lattice of all their edges."""
    xs, ys = np.unique(boxes[:, [0, 2]]), np.unique(boxes[:, [1, 3]])
    left, top = np.meshgrid(xs[:-1], ys[:-1])
    right, bottom = np.meshgrid(xs[1:], ys[1:])
    pieces = np.stack([left, top, right, bottom], axis=-1).reshape(-1, 4)
    middle = (pieces[:, :2] + pieces[:, 2:]) / 2
    inside = (middle[:, None] > boxes[None, :, :2]) & (middle[:, None] < boxes[None, :, 2:])
    return pieces[inside.all(axis=2).any(axis=1)]


def cell_area(cells: Float[np.ndarray, "cell 4"]) -> Float[np.ndarray, " cell"]:
    """Area of each cell, pixels."""
    return (cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])


def truth_area(truth: Float[np.ndarray, "finding 4"] | Bool[np.ndarray, "row column"]) -> float:
    """Area of the truth, pixels."""
    return float(truth.sum()) if truth.dtype == bool else float(cell_area(union_pieces(truth)).sum())


def size_band(share: float) -> str:
    """The name of the first band that holds a finding of this share of the picture."""
    return next(name for name, limit in SIZE_BANDS if share < limit or limit == 1.0)


def _mask_inside(
    cells: Float[np.ndarray, "cell 4"], mask: Bool[np.ndarray, "row column"]
) -> Float[np.ndarray, " cell"]:
    """Pixels of each cell inside the mask, cell edges rounded to pixels, by an integral image."""
    total = np.zeros((mask.shape[0] + 1, mask.shape[1] + 1))
    total[1:, 1:] = mask.cumsum(axis=0).cumsum(axis=1)
    left, right = (np.clip(np.round(cells[:, i]).astype(int), 0, mask.shape[1]) for i in (0, 2))
    top, bottom = (np.clip(np.round(cells[:, i]).astype(int), 0, mask.shape[0]) for i in (1, 3))
    return total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
