"""Where tissue, epithelium, lumens and stroma lie, and how the stroma's fibres run.

All maps are on a grid of about 2 micrometres over the canvas: the image and a margin around it, so
that a moved section shows the neighbouring tissue at its edges.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from jaxtyping import Bool, Float32

from clinimm.simulate.noise import smooth_field
from clinimm.simulate.tissue_plan import TissuePlan

MARGIN_UM = 24.0
_STEP_UM = 2.0
_LUMEN_DEPTH_UM = 17.0
_RIM_CELLS = 2
_FIBRE_WAVE_UM = 26.0
_FIBRE_BEND_UM = 14.0


@dataclass(frozen=True)
class Layout:
    """Maps of one block.

    Attributes:
        margin: pixels of the canvas around the image.
        side: pixels of the canvas.
        step: pixels a cell of the maps.
        tissue: where there is tissue.
        depth_um: into the epithelium; negative in stroma.
        gland: epithelium that forms glands.
        lumen: the glands' white middle.
        normal: direction in which ``depth_um`` grows, radians.
        fibre_angle: direction of the stroma's fibres, radians.
        fibre_place_um: coordinates across and along the fibres.
        crowding: relative density of lymphocytes, on average about 1.
        activity: of tumour nuclei, 0 to 1, before each nucleus's own part.
    """

    margin: int
    side: int
    step: int
    tissue: Bool[np.ndarray, "cell cell"]
    depth_um: Float32[np.ndarray, "cell cell"]
    gland: Bool[np.ndarray, "cell cell"]
    lumen: Bool[np.ndarray, "cell cell"]
    normal: Float32[np.ndarray, "cell cell"]
    fibre_angle: Float32[np.ndarray, "cell cell"]
    fibre_place_um: Float32[np.ndarray, "2 cell cell"]
    crowding: Float32[np.ndarray, "cell cell"]
    activity: Float32[np.ndarray, "cell cell"]

    @property
    def solid(self) -> Bool[np.ndarray, "cell cell"]:
        """Tissue without the lumens."""
        return self.tissue & ~self.lumen

    @property
    def firm(self) -> Bool[np.ndarray, "cell cell"]:
        """Where a nucleus may lie: not so near to glass or a lumen that it would stick out."""
        from scipy.ndimage import binary_erosion

        return np.asarray(binary_erosion(self.solid, iterations=_RIM_CELLS, border_value=1))

    def at(self, field: np.ndarray, points: np.ndarray) -> np.ndarray:
        """The map's value at canvas points (column, row)."""
        cells = np.clip((points / self.step).astype(np.intp), 0, len(field) - 1)
        return field[cells[:, 1], cells[:, 0]]


def draw_layout(plan: TissuePlan, generator: np.random.Generator) -> Layout:
    """Draw the maps of a block."""
    step = max(1, round(_STEP_UM / plan.um_per_pixel))
    margin = step * ceil(MARGIN_UM / (step * plan.um_per_pixel))
    side = plan.pixels + 2 * margin
    cells, step_um = ceil(side / step), step * plan.um_per_pixel

    def field(scale_um: float) -> np.ndarray:
        return smooth_field(generator, cells, step_um, scale_um)

    outline, shape, kind, bend, drift, crowd, active = (
        field(scale) for scale in (80, 22, 60, _FIBRE_WAVE_UM, _FIBRE_WAVE_UM, 45, 40)
    )
    edge, lumen_edge = field(6), field(8)
    tissue = _largest(outline + 0.1 * edge, plan.tissue)
    depth_um = _signed_distance(_largest(shape + 0.05 * edge, plan.epithelium)) * np.float32(step_um)
    gland = (depth_um > 0) & _largest(kind, plan.glands)
    down, right = np.gradient(depth_um)
    tilt = float(generator.uniform(0, np.pi))
    fibre_angle, fibre_place_um = _fibres(tilt, bend, drift, step_um)
    return Layout(
        margin=margin,
        side=side,
        step=step,
        tissue=tissue,
        depth_um=depth_um,
        gland=gland,
        lumen=gland & (depth_um > _LUMEN_DEPTH_UM + 3 * lumen_edge),
        normal=np.arctan2(down, right),
        fibre_angle=fibre_angle,
        fibre_place_um=fibre_place_um,
        crowding=np.exp(np.float32(1.1) * crowd - np.float32(0.6)),
        activity=np.clip(np.float32(plan.activity) + np.float32(0.22) * active, 0, 1),
    )


def _largest(field: Float32[np.ndarray, "cell cell"], share: float) -> Bool[np.ndarray, "cell cell"]:
    """Where the field is among its largest values, that share of all."""
    return field >= np.quantile(field, 1 - share)


def _signed_distance(inside: Bool[np.ndarray, "cell cell"]) -> Float32[np.ndarray, "cell cell"]:
    """Distance to the edge in cells, positive inside."""
    from scipy.ndimage import distance_transform_edt, gaussian_filter

    if inside.all() or not inside.any():
        return np.full(inside.shape, 1e3 if inside.all() else -1e3, np.float32)
    away = distance_transform_edt(inside) - distance_transform_edt(~inside)
    return gaussian_filter(away.astype(np.float32), 1.0)


def _fibres(
    tilt: float, bend: np.ndarray, drift: np.ndarray, step_um: float
) -> tuple[Float32[np.ndarray, "cell cell"], Float32[np.ndarray, "2 cell cell"]]:
    """The direction of wavy fibres, and the coordinates across and along them, micrometres."""
    place = np.arange(len(bend), dtype=np.float32) * np.float32(step_um)
    cosine, sine = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
    across = cosine * place[:, None] - sine * place[None, :] + np.float32(_FIBRE_BEND_UM) * bend
    along = sine * place[:, None] + cosine * place[None, :] + np.float32(_FIBRE_BEND_UM) * drift
    down, right = np.gradient(across)
    return np.arctan2(right, -down), np.stack([across, along])
