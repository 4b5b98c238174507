"""A whole slide, stained: band by band, within a memory budget, and resumable.

The slide is divided on the grid of the stained image (``plan.py``). Blocks without tissue are not
run and stay white as glass. Finished bands lie on disk (``spool.py``); what is written from them
is the business of ``write_ome.py`` and ``write_dicom.py``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from clinimm.progress import QUIET, Progress
from clinimm.staining.codec import Codec
from clinimm.staining.patient import NOBODY, Patient
from clinimm.staining.plan import TILE_PIXELS, Plan, up
from clinimm.staining.pyramid import StoredPyramid, build_levels
from clinimm.staining.run_block import StainerLike
from clinimm.staining.slide_grid import SlideGrid
from clinimm.staining.spool import Spool
from clinimm.staining.stain_band import CELL_PIXELS, BandWorker, cell_sizes, count_reasons
from clinimm.staining.where_tissue import Thumbnailed

__all__ = [
    "CELL_PIXELS",
    "NOBODY",
    "Patient",
    "SlideSource",
    "StainSettings",
    "StainedSlide",
    "binding",
    "plan_for",
    "stain_slide",
]


@dataclass(frozen=True)
class StainSettings:
    """What a stained slide depends on, besides the slide and the model.

    Attributes:
        stain: name of the stain, one of the model's.
        block: side of what is run at once, pixels; more is a little faster and takes more memory.
        codec: how tiles are compressed.
        all_tissue: run everything, also bare glass.
        notes: further lines of the label in the corner, such as that there is no safety case.
    """

    stain: str
    block: int = 768
    codec: Codec = field(default_factory=Codec)
    all_tissue: bool = False
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {**asdict(self), "notes": list(self.notes)}


@dataclass(frozen=True)
class StainedSlide:
    """A finished stained slide on disk.

    Attributes:
        pyramid: its tiles, every level.
        um: micrometres a pixel at level 0, along a row and along a column.
        settings: what it was made under.
        uncertainty: expected absolute error in [0, 1] by cell of ``CELL_PIXELS``; NaN on glass.
        calibrated: whether that is the safety case's, and not the model's own expectation.
        refused_share, stained_share, glass_share: of the pixels; they add up to 1.
        refused_of_tissue: refused pixels as a share of those that were run; NaN where none was.
        refused_tiles: reason -> tiles that are refused for it; a tile may have several.
        seconds, stained_mpx: of this call, which may have found bands done already.
    """

    pyramid: StoredPyramid
    um: tuple[float, float]
    settings: StainSettings
    uncertainty: Float32[np.ndarray, "cell_row cell_column"]
    calibrated: bool
    refused_share: float
    stained_share: float
    glass_share: float
    refused_tiles: Mapping[str, int]
    seconds: float
    stained_mpx: float

    @property
    def refused_of_tissue(self) -> float:
        """Refused pixels as a share of those that were run; NaN where none was."""
        run = self.refused_share + self.stained_share
        return self.refused_share / run if run > 0 else float("nan")


@dataclass(frozen=True)
class SlideSource:
    """The slide that is stained.

    Attributes:
        slide: open; its thumbnail tells where the tissue is.
        grid: the same slide at the model's resolution.
        digest: SHA-256 of its files.
    """

    slide: Thumbnailed
    grid: SlideGrid
    digest: str


def stain_slide(
    source: SlideSource,
    stainer: StainerLike,
    settings: StainSettings,
    folder: Path,
    patient: Patient = NOBODY,
    progress: Progress = QUIET,
) -> StainedSlide:
    """Stain a slide into a folder, going on where an earlier call was stopped.

    Args:
        source: what is stained.
        stainer: the model, ready for inference.
        settings: which stain, and how.
        folder: of unfinished work; it refuses another slide, model or setting than what it holds.
        patient: what conditions the stain, and what may stop it.
        progress: is told bands, rate and remaining time.

    Raises:
        ConfigError: the model has no such stain, or ``folder`` holds other work.
        InputRejected: the slide cannot be read; what is done is kept.
    """
    plan = plan_for(source.grid, stainer, settings.block)
    spool = Spool(folder, binding(plan, source, stainer, settings, patient))
    worker = BandWorker(source, stainer, settings, plan, patient)
    began = time.perf_counter()
    missing = [number for number in range(plan.bands) if not spool.done(0, number)]
    if len(missing) < plan.bands:
        progress.say(f"  {plan.bands - len(missing)} of {plan.bands} bands were stained before")
    for number in progress.track(missing, "bands", len(missing)):
        spool.put(0, number, worker.band(number))
    seconds = time.perf_counter() - began
    if worker.run_mpx:
        progress.say(f"  {worker.run_mpx:.1f} Mpx stained, {worker.run_mpx / seconds:.2f} Mpx/s")
    pyramid = build_levels(spool, plan, settings.codec, settings.stain, progress, settings.notes)
    spent = (time.perf_counter() - began, worker.run_mpx)
    return _finished(pyramid, plan, source.grid, settings, patient, spent)


def plan_for(grid: SlideGrid, stainer: StainerLike, block: int) -> Plan:
    """The plan of a slide for a model; the block grows to a multiple of the model's stride."""
    step = int(np.lcm(TILE_PIXELS, stainer.stride))
    halo = up(stainer.halo, stainer.stride)
    return Plan(grid.width, grid.height, stainer.stride, halo, up(block, step))


def binding(
    plan: Plan, source: SlideSource, stainer: StainerLike, settings: StainSettings, patient: Patient
) -> dict[str, Any]:
    """What a stained pixel depends on, as JSON; two equal ones give equal pixels."""
    return {
        "slide": source.digest,
        "model": stainer.digest,
        "settings": settings.to_json(),
        "width": plan.width,
        "height": plan.height,
        "halo": plan.halo,
        "um": list(source.grid.um),
        **patient.to_json(),
    }


def _finished(
    pyramid: StoredPyramid,
    plan: Plan,
    grid: SlideGrid,
    settings: StainSettings,
    patient: Patient,
    spent: tuple[float, float],
) -> StainedSlide:
    tables = [pyramid.spool.table(0, number) for number in range(plan.bands)]
    uncertainty = np.concatenate([table.uncertainty for table in tables])
    refused = np.concatenate([table.refused_cells for table in tables])
    area = np.outer(*(cell_sizes(size) for size in (plan.height, plan.width)))
    run = ~np.isnan(uncertainty)
    total = float(area.sum())
    refused_share = float((area * refused)[run].sum()) / total
    run_share = float(area[run].sum()) / total
    return StainedSlide(
        pyramid=pyramid,
        um=grid.um,
        settings=settings,
        uncertainty=uncertainty,
        calibrated=patient.errors is not None,
        refused_share=refused_share,
        stained_share=run_share - refused_share,
        glass_share=1.0 - run_share,
        refused_tiles=count_reasons(np.concatenate([table.reasons for table in tables])),
        seconds=spent[0],
        stained_mpx=spent[1],
    )
