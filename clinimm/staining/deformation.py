"""Where a point of one slide lies on the other: an affine map and a smooth displacement on a grid.

Points are (x, y) in micrometres from the upper left corner of a slide; the centre of pixel
(row, column) lies at ((column + 0.5), (row + 0.5)) times the resolution. Between its nodes the
displacement is bilinear, so its Jacobian determinant is linear along either axis of a cell and
smallest at a corner: looking at the corners of all cells proves that nothing folds.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Float64
from scipy import ndimage


@dataclass(frozen=True)
class Affine:
    """``matrix @ (x, y) + offset_um``.

    >>> Affine(((0.0, -1.0), (1.0, 0.0)), (10.0, 0.0)).apply(np.array([[2.0, 3.0]]))
    array([[7., 2.]])
    """

    matrix: tuple[tuple[float, float], tuple[float, float]]
    offset_um: tuple[float, float]

    @classmethod
    def of(cls, matrix: Float[np.ndarray, "2 2"], offset_um: Float[np.ndarray, " 2"]) -> Affine:
        """From arrays."""
        (a, b), (c, d) = (tuple(float(value) for value in row) for row in matrix)
        x, y = (float(value) for value in offset_um)
        return cls(((a, b), (c, d)), (x, y))

    def apply(self, points_um: Float[np.ndarray, "point 2"]) -> Float64[np.ndarray, "point 2"]:
        """Where points come to lie."""
        return points_um @ np.asarray(self.matrix).T + np.asarray(self.offset_um)

    def rotation_degrees(self) -> float:
        """The rotation nearest to the map (polar decomposition)."""
        left, _, right = np.linalg.svd(np.asarray(self.matrix))
        nearest = left @ right
        return float(np.degrees(np.arctan2(nearest[1, 0], nearest[0, 0])))

    def stretches(self) -> tuple[float, float]:
        """The largest and the smallest factor by which it stretches a length."""
        largest, smallest = np.linalg.svd(np.asarray(self.matrix), compute_uv=False)
        return float(largest), float(smallest)

    def mirrors(self) -> bool:
        """Whether it turns the picture over."""
        return bool(np.linalg.det(np.asarray(self.matrix)) < 0)


IDENTITY = Affine(((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0))


@dataclass(frozen=True, eq=False)
class Deformation:
    """A point of the source -> the point of the target with the same tissue.

    Attributes:
        affine: the linear part.
        spacing_um: distance of the displacement's nodes; node (0, 0) is the slide's corner.
        displacement_um: (row, column, 2) float, x and y, added to the affine part.
    """

    affine: Affine
    spacing_um: float
    displacement_um: Float[np.ndarray, "row column 2"]

    @classmethod
    def still(cls, affine: Affine, extent_um: tuple[float, float], spacing_um: float) -> Deformation:
        """No displacement, over a source of this width and height."""
        rows, columns = (int(np.ceil(side / spacing_um)) + 1 for side in (extent_um[1], extent_um[0]))
        return cls(affine, spacing_um, np.zeros((max(2, rows), max(2, columns), 2)))

    def nodes_um(self) -> Float64[np.ndarray, "node 2"]:
        """The nodes as source points, row by row."""
        rows, columns = self.displacement_um.shape[:2]
        y, x = np.mgrid[0:rows, 0:columns] * self.spacing_um
        return np.stack([x.ravel(), y.ravel()], axis=-1)

    def displacement_at(self, points_um: Float[np.ndarray, "point 2"]) -> Float64[np.ndarray, "point 2"]:
        """The displacement, bilinear between nodes and constant beyond them."""
        where = points_um[:, ::-1].T / self.spacing_um
        parts = [
            ndimage.map_coordinates(self.displacement_um[..., axis], where, order=1, mode="nearest")
            for axis in range(2)
        ]
        return np.stack(parts, axis=-1)

    def apply(self, points_um: Float[np.ndarray, "point 2"]) -> Float64[np.ndarray, "point 2"]:
        """Where source points lie on the target."""
        return self.affine.apply(points_um) + self.displacement_at(points_um)

    def followed_by_shift(self, shift_um: Float[np.ndarray, "row column 2"]) -> Deformation:
        """The map ``p -> self(p + shift(p))``, with the shift given at the nodes."""
        nodes = self.nodes_um()
        moved = self.apply(nodes + shift_um.reshape(-1, 2)) - self.affine.apply(nodes)
        return Deformation(self.affine, self.spacing_um, moved.reshape(self.displacement_um.shape))

    def least_jacobian(self) -> float:
        """The smallest local change of area, relative to the affine part's; at most 0 where it folds."""
        grid = self.affine.apply(self.nodes_um()).reshape(self.displacement_um.shape) + self.displacement_um
        along_x, along_y = (np.diff(grid, axis=axis) / self.spacing_um for axis in (1, 0))
        corners = [
            _cross(along_x[top : len(grid) - 1 + top], along_y[:, left : grid.shape[1] - 1 + left])
            for top in (0, 1)
            for left in (0, 1)
        ]
        return float(np.min(corners) / np.linalg.det(np.asarray(self.affine.matrix)))


def _cross(
    one: Float[np.ndarray, "row column 2"], other: Float[np.ndarray, "row column 2"]
) -> Float[np.ndarray, "row column"]:
    return one[..., 0] * other[..., 1] - one[..., 1] * other[..., 0]
