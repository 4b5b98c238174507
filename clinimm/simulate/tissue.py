"""Simulated tissue: H&E and immunostains of one block, with every nucleus and its positivity known."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Float32, Int32, UInt8

from clinimm.simulate.artefacts import Artefact, with_artefact
from clinimm.simulate.misregister import Misregistration, offset_field, to_target
from clinimm.simulate.noise import repeat
from clinimm.simulate.stain_look import DAB, EOSIN, Look, colour
from clinimm.simulate.tissue_cells import Nuclei, join
from clinimm.simulate.tissue_layout import Layout, draw_layout
from clinimm.simulate.tissue_nuclei import DrawnNuclei, place_nuclei, propose_nuclei
from clinimm.simulate.tissue_paint import Cells, Ground, draw_ground, find_cells, paint_he, paint_ihc
from clinimm.simulate.tissue_plan import MARKERS, StainPlan, TissuePlan
from clinimm.simulate.tissue_positivity import Positivity, decide_positivity, h_score, positivity_index

#: DAB optical density from which a pixel counts as stained.
STAINED_FROM = 0.15
_LEAST_VISIBLE_UM2 = 5.0
_MOVED_UM = 0.7


@dataclass(frozen=True)
class StainedSection:
    """One immunostained section. Everything but ``rgb`` and ``artefacts`` lies in the H&E's frame.

    Attributes:
        plan: what was asked for.
        rgb: as the scanner saw it: moved against the H&E, with artefacts.
        aligned: the same without movement and artefacts: the picture that a perfect virtual stain of
            this section would be.
        nuclei: this section's; the H&E's own where the section is the same.
        positivity: of those nuclei, in their order.
        labels: label image of the nuclei, 0 is none.
        stained_area: pixels with a DAB density of ``STAINED_FROM`` or more.
        artefacts: kind -> spoiled pixels of ``rgb``.
        um_per_pixel: resolution.
    """

    plan: StainPlan
    rgb: UInt8[np.ndarray, "row column 3"]
    aligned: UInt8[np.ndarray, "row column 3"]
    nuclei: Nuclei
    positivity: Positivity
    labels: Int32[np.ndarray, "row column"]
    stained_area: Bool[np.ndarray, "row column"]
    artefacts: Mapping[str, Bool[np.ndarray, "row column"]]
    um_per_pixel: float

    @property
    def positivity_index(self) -> float:
        """Share of positive nuclei, 0 to 1."""
        return positivity_index(self.positivity)

    @property
    def h_score(self) -> float:
        """0 to 300."""
        return h_score(self.positivity)

    def offset(self) -> Float32[np.ndarray, "2 row column"]:
        """What lies at pixel q of ``rgb`` lies at q + offset(q) in the H&E: (column, row), pixels."""
        return offset_field(self.plan.move, len(self.rgb), self.um_per_pixel)

    def landmarks(self, count: int = 24) -> tuple[Float[np.ndarray, "point 2"], Float[np.ndarray, "point 2"]]:
        """Pairs of points (column, row) in the H&E and in ``rgb``: nuclei, spread over the picture."""
        points = _spread(np.stack([self.nuclei.column, self.nuclei.row], axis=-1).astype(float), count)
        moved = to_target(points, self.plan.move, len(self.rgb), self.um_per_pixel)
        inside = ((moved >= 0) & (moved <= len(self.rgb) - 1)).all(axis=1)
        return points[inside], moved[inside]


@dataclass(frozen=True)
class Tissue:
    """One block: its H&E and its immunostained sections.

    Attributes:
        plan: all that was asked for.
        he: H&E as the scanner saw it.
        nuclei: the H&E's.
        labels: label image of them, 0 is none.
        tissue: where there is tissue (lumens are none).
        artefacts: kind -> spoiled pixels of ``he``.
        sections: marker -> immunostained section.
    """

    plan: TissuePlan
    he: UInt8[np.ndarray, "row column 3"]
    nuclei: Nuclei
    labels: Int32[np.ndarray, "row column"]
    tissue: Bool[np.ndarray, "row column"]
    artefacts: Mapping[str, Bool[np.ndarray, "row column"]]
    sections: Mapping[str, StainedSection]

    @property
    def ihc(self) -> dict[str, UInt8[np.ndarray, "row column 3"]]:
        """Marker -> picture of the immunostained section."""
        return {name: section.rgb for name, section in self.sections.items()}


@dataclass(frozen=True)
class _Visible:
    """Nuclei that the image shows, its label image, and their positions in the canvas's table."""

    nuclei: Nuclei
    labels: Int32[np.ndarray, "row column"]
    kept: np.ndarray


@dataclass(frozen=True)
class _Canvas:
    """What all stains of a block share, on the canvas."""

    layout: Layout
    ground: Ground
    drawn: DrawnNuclei
    cells: Cells
    visible: _Visible


def draw_tissue(plan: TissuePlan) -> Tissue:
    """Draw a block; the same plan gives the same tissue.

    Shapes and nuclei depend on ``plan.seed`` alone, each stain on its own seed: changing what decides
    positivity changes the DAB and nothing else.

    >>> tissue = draw_tissue(TissuePlan(pixels=128, seed=3))
    >>> tissue.he.shape, tissue.ihc["KI67"].shape
    ((128, 128, 3), (128, 128, 3))
    """
    canvas = _draw_canvas(plan)
    inner = slice(canvas.layout.margin, canvas.layout.margin + plan.pixels)
    amounts = paint_he(canvas.drawn, canvas.ground, canvas.cells)
    blurred = [_blurred(part, plan.look, plan.um_per_pixel)[inner, inner] for part in amounts]
    generator = np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(2,)))
    picture = colour(blurred[0], blurred[1], EOSIN, plan.look, generator)
    he, artefacts = _with_artefacts(picture, plan.artefacts, plan.um_per_pixel)
    return Tissue(
        plan=plan,
        he=he,
        nuclei=canvas.visible.nuclei,
        labels=canvas.visible.labels,
        tissue=repeat(canvas.ground.tissue > 0.5, 2, canvas.layout.side)[inner, inner],
        artefacts=artefacts,
        sections={stain.marker: _draw_section(plan, stain, canvas) for stain in plan.stains},
    )


def _draw_canvas(plan: TissuePlan) -> _Canvas:
    shapes, texture = (
        np.random.default_rng(np.random.SeedSequence(plan.seed, spawn_key=(part,))) for part in (0, 1)
    )
    layout = draw_layout(plan, shapes)
    candidates = propose_nuclei(plan, layout, shapes)
    drawn = place_nuclei(candidates, layout.side, plan.um_per_pixel, shapes)
    cells = find_cells(drawn, layout, plan.um_per_pixel)
    ground = draw_ground(layout, plan.um_per_pixel, texture)
    return _Canvas(layout, ground, drawn, cells, _visible(drawn, layout.margin, plan))


def _draw_section(plan: TissuePlan, stain: StainPlan, canvas: _Canvas) -> StainedSection:
    own = (plan.seed, list(MARKERS).index(stain.marker))
    generator, sensor = (
        np.random.default_rng(np.random.SeedSequence(stain.seed, spawn_key=(*own, part))) for part in (0, 1)
    )
    drawn, cells, visible = canvas.drawn, canvas.cells, canvas.visible
    marker, even = MARKERS[stain.marker], stain.rule == "undetermined"
    if stain.shared_nuclei < 1:
        drawn = _next_section(plan, stain, canvas, generator)
        visible = _visible(drawn, canvas.layout.margin, plan)
    if stain.shared_nuclei < 1 or (even and marker.compartment != "nucleus"):
        cells = find_cells(drawn, canvas.layout, plan.um_per_pixel, even)
    extent_um = canvas.layout.side * plan.um_per_pixel
    decided = decide_positivity(drawn.table, stain, extent_um, plan.um_per_pixel, generator)
    amounts = paint_ihc(drawn, canvas.ground, cells, decided, marker.compartment)
    haematoxylin, brown = (_blurred(part, stain.look, plan.um_per_pixel) for part in amounts)
    margin = canvas.layout.margin
    inner = slice(margin, margin + plan.pixels)
    aligned = colour(haematoxylin[inner, inner], brown[inner, inner], DAB, stain.look, sensor)
    seen = aligned
    if stain.move != Misregistration():
        moved = _moved(stain.move, plan, margin, (haematoxylin, brown))
        seen = colour(moved[0], moved[1], DAB, stain.look, sensor)
    rgb, artefacts = _with_artefacts(seen, stain.artefacts, plan.um_per_pixel)
    return StainedSection(
        plan=stain,
        rgb=rgb,
        aligned=aligned,
        nuclei=visible.nuclei,
        positivity=decided.take(visible.kept),
        labels=visible.labels,
        stained_area=brown[inner, inner] * np.float32(stain.look.other) >= STAINED_FROM,
        artefacts=artefacts,
        um_per_pixel=plan.um_per_pixel,
    )


def _next_section(
    plan: TissuePlan, stain: StainPlan, canvas: _Canvas, generator: np.random.Generator
) -> DrawnNuclei:
    """A section a few micrometres deeper: some nuclei are met again, slightly moved; others are new."""
    table = canvas.drawn.table
    met = table.take(generator.random(len(table)) < stain.shared_nuclei)
    step = _MOVED_UM / plan.um_per_pixel * generator.standard_normal((2, len(met)))
    size = 1 + 0.06 * generator.standard_normal(len(met))
    moved = replace(
        met,
        column=(met.column + step[0]).astype(np.float32),
        row=(met.row + step[1]).astype(np.float32),
        radius_um=(met.radius_um * size).astype(np.float32),
    )
    both = join([moved, propose_nuclei(plan, canvas.layout, generator)])
    by_type = both.take(np.argsort(both.kind, kind="stable"))
    return place_nuclei(by_type, canvas.layout.side, plan.um_per_pixel, generator)


def _visible(drawn: DrawnNuclei, margin: int, plan: TissuePlan) -> _Visible:
    """Cut the canvas to the image.

    Where the edge cuts a nucleus, its position is that of the visible part; slivers are left out.
    """
    inner = drawn.labels[margin : margin + plan.pixels, margin : margin + plan.pixels]
    bins = len(drawn.table) + 1
    area = np.bincount(inner.ravel(), minlength=bins)[1:]
    kept = np.flatnonzero(area >= _LEAST_VISIBLE_UM2 / plan.um_per_pixel**2)
    renumber = np.zeros(bins, np.int32)
    renumber[kept + 1] = np.arange(1, len(kept) + 1)
    labels = renumber[inner]
    whole = np.bincount(drawn.labels.ravel(), minlength=bins)[1:][kept] == area[kept]
    column, row = drawn.table.column[kept] - margin, drawn.table.row[kept] - margin
    rows, columns = np.nonzero(np.concatenate([[False], ~whole])[labels])
    cut = labels[rows, columns] - 1
    for place, of_pixel in ((column, columns), (row, rows)):
        mean = np.bincount(cut, of_pixel, minlength=len(kept)) / area[kept]
        place[~whole] = mean[~whole]
    return _Visible(replace(drawn.table.take(kept), column=column, row=row), labels, kept)


def _moved(
    move: Misregistration, plan: TissuePlan, margin: int, amounts: tuple[np.ndarray, np.ndarray]
) -> list[Float32[np.ndarray, "row column"]]:
    """Amounts as the moved section shows them; beyond the canvas there is glass."""
    from scipy.ndimage import map_coordinates

    offset = offset_field(move, plan.pixels, plan.um_per_pixel)
    place = np.arange(plan.pixels, dtype=np.float32) + margin
    at = [offset[1] + place[:, None], offset[0] + place[None, :]]
    return [map_coordinates(part, at, order=1, mode="constant") for part in amounts]


def _blurred(
    amount: Float32[np.ndarray, "row column"], look: Look, um_per_pixel: float
) -> Float32[np.ndarray, "row column"]:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(amount, look.blur_um / um_per_pixel, truncate=3.0), dtype=np.float32)


def _with_artefacts(
    rgb: UInt8[np.ndarray, "row column 3"], artefacts: tuple[Artefact, ...], um_per_pixel: float
) -> tuple[UInt8[np.ndarray, "row column 3"], dict[str, Bool[np.ndarray, "row column"]]]:
    masks: dict[str, Bool[np.ndarray, "row column"]] = {}
    for artefact in artefacts:
        rgb, mask = with_artefact(rgb, artefact, um_per_pixel)
        masks[artefact.kind] = masks.get(artefact.kind, False) | mask
    return rgb, masks


def _spread(points: Float[np.ndarray, "point 2"], count: int) -> Float[np.ndarray, "point 2"]:
    """Up to ``count`` of the points, each as far from those before it as can be."""
    if not len(points):
        return points
    chosen = [int(np.argmin(points.sum(axis=1)))]
    away = np.full(len(points), np.inf)
    while len(chosen) < min(count, len(points)):
        away = np.minimum(away, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(np.argmax(away)))
    return points[chosen]
