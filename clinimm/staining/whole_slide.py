"""A whole slide, stained: band by band, within a memory budget, and resumable.

The slide is divided on the grid of the stained image (``plan.py``). Blocks without tissue are not
run and stay white as glass. Finished bands lie on disk (``spool.py``); what is written from them
is the business of ``write_ome.py`` and ``write_dicom.py``.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from clinimm.core.errors import ConfigError
from clinimm.progress import QUIET, Progress
from clinimm.staining.codec import Codec, padded
from clinimm.staining.label_mark import draw, label
from clinimm.staining.plan import TILE_PIXELS, Block, Plan, up
from clinimm.staining.pyramid import StoredPyramid, build_levels
from clinimm.staining.refused import GLASS_WHITE, draw_refused
from clinimm.staining.run_block import BlockResult, Context, Refuse, StainerLike, run_block
from clinimm.staining.slide_grid import SlideGrid
from clinimm.staining.spool import GLASS, REFUSED, STAINED, Band, Spool
from clinimm.staining.where_tissue import Thumbnailed, find_tissue

#: Pixels a side of a cell of the uncertainty map; divides a tile.
CELL_PIXELS = 16


@dataclass(frozen=True)
class StainSettings:
    """What a stained slide depends on, besides the slide and the model.

    Attributes:
        stain: name of the stain, one of the model's.
        block: side of what is run at once, pixels; more is a little faster and takes more memory.
        codec: how tiles are compressed.
        all_tissue: run everything, also bare glass.
    """

    stain: str
    block: int = 768
    codec: Codec = field(default_factory=Codec)
    all_tissue: bool = False

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class StainedSlide:
    """A finished stained slide on disk.

    Attributes:
        pyramid: its tiles, every level.
        um: micrometres a pixel at level 0, along a row and along a column.
        settings: what it was made under.
        uncertainty: expected absolute error in [0, 1] by cell of ``CELL_PIXELS``; NaN on glass.
        refused_share, stained_share, glass_share: of the pixels; they add up to 1.
        refused_of_tissue: refused pixels as a share of those that were run; NaN where none was.
        seconds, stained_mpx: of this call, which may have found bands done already.
    """

    pyramid: StoredPyramid
    um: tuple[float, float]
    settings: StainSettings
    uncertainty: Float32[np.ndarray, "cell_row cell_column"]
    refused_share: float
    stained_share: float
    glass_share: float
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


@dataclass(frozen=True)
class Patient:
    """What conditions the stain, and what may stop it.

    Attributes:
        context: the patient's record as the model reads it (``Stainer.read_context``); None is
            "nothing known".
        refuse: asked for each tile whether not to believe it; None believes everything.
    """

    context: Context | None = None
    refuse: Refuse | None = None

    def to_json(self) -> dict[str, Any]:
        """Digests of both, for the record."""
        state = hashlib.sha256()
        for tokens in self.context or ():
            for part in (tokens.values, tokens.mask, tokens.time):
                state.update(part.detach().contiguous().numpy().tobytes())
        return {
            "context": None if self.context is None else state.hexdigest(),
            "refusal": None if self.refuse is None else getattr(self.refuse, "digest", "unnamed"),
        }


NOBODY = Patient()


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
    worker = _Worker(source, stainer, settings, plan, patient)
    began = time.perf_counter()
    missing = [number for number in range(plan.bands) if not spool.done(0, number)]
    if len(missing) < plan.bands:
        progress.say(f"  {plan.bands - len(missing)} of {plan.bands} bands were stained before")
    for number in progress.track(missing, "bands", len(missing)):
        spool.put(0, number, worker.band(number))
    seconds = time.perf_counter() - began
    if worker.run_mpx:
        progress.say(f"  {worker.run_mpx:.1f} Mpx stained, {worker.run_mpx / seconds:.2f} Mpx/s")
    pyramid = build_levels(spool, plan, settings.codec, settings.stain, progress)
    return _finished(pyramid, plan, source.grid, settings, (time.perf_counter() - began, worker.run_mpx))


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


def stain_index(stainer: StainerLike, stain: str) -> int:
    """The model's index of a stain.

    Raises:
        ConfigError: it has none of that name; names those that it has.
    """
    known = tuple(stainer.spec.stains)
    if stain not in known:
        raise ConfigError(f"--stain {stain}: this model makes {', '.join(known)}.")
    return known.index(stain)


class _Worker:
    """Stains bands; holds what all of them share."""

    def __init__(
        self,
        source: SlideSource,
        stainer: StainerLike,
        settings: StainSettings,
        plan: Plan,
        patient: Patient,
    ) -> None:
        self._grid, self._stainer, self._plan, self._patient = source.grid, stainer, plan, patient
        self._codec, self._tissue = settings.codec, None
        if not settings.all_tissue:
            self._tissue = find_tissue(source.slide, source.grid)
        self._stain = stain_index(stainer, settings.stain)
        self._mark = label(settings.stain, plan.width, plan.height)
        self._glass = np.full((TILE_PIXELS, TILE_PIXELS, 3), GLASS_WHITE, np.uint8)
        self._glass_bytes = self._codec.encode(self._glass)
        self.run_mpx = 0.0

    def band(self, number: int) -> Band:
        """Stain one band."""
        blocks = list(self._plan.band(number))
        tile_rows = -(-blocks[0].rows // TILE_PIXELS)
        cell_rows = -(-blocks[0].rows // CELL_PIXELS)
        columns, cell_columns = self._plan.tile_columns, -(-self._plan.width // CELL_PIXELS)
        tiles: list[bytes] = [self._glass_bytes] * (tile_rows * columns)
        states = np.full((tile_rows, columns), GLASS, np.uint8)
        uncertainty = np.full((cell_rows, cell_columns), np.nan, np.float32)
        refused = np.zeros((cell_rows, cell_columns), np.float32)
        for block in blocks:
            wanted = self._wanted(block)
            result = self._result(block, wanted)
            first = block.left // TILE_PIXELS
            for place, part in enumerate(_parts(block)):
                row, column = divmod(place, -(-block.columns // TILE_PIXELS))
                tile, state = self._tile(result if wanted[place] else None, block, part)
                tiles[row * columns + first + column] = tile
                states[row, first + column] = state
            if result is not None:
                self._map(result, block, wanted, uncertainty, refused)
        return Band(tiles, states, uncertainty, refused)

    def _wanted(self, block: Block) -> list[bool]:
        """Which of a block's tiles have tissue."""
        return [self._tissue is None or self._tissue.touches(part) for part in _parts(block)]

    def _result(self, block: Block, wanted: Sequence[bool]) -> BlockResult | None:
        if not any(wanted):
            return None
        run = self._plan.run(block)
        source = self._grid.read(run)
        context, refuse = self._patient.context, self._patient.refuse
        result = run_block(self._stainer, source, block, self._plan, self._stain, context, refuse)
        self.run_mpx += block.rows * block.columns / 1e6
        return result

    def _tile(self, result: BlockResult | None, block: Block, part: Block) -> tuple[bytes, int]:
        """One tile, compressed, and its state."""
        marked = part.top < self._mark.shape[0] and part.left < self._mark.shape[1]
        if result is None and not marked:
            return self._glass_bytes, GLASS
        pixels, state = self._glass[: part.rows, : part.columns].copy(), GLASS
        if result is not None:
            inside = _inside(part, block)
            pixels, refused = result.colour[inside].copy(), result.refused[inside]
            draw_refused(pixels, refused, part.top, part.left)
            state = REFUSED if refused.any() else STAINED
        return self._codec.encode(padded(draw(pixels, part.top, part.left, self._mark))), state

    def _map(
        self,
        result: BlockResult,
        block: Block,
        wanted: Sequence[bool],
        uncertainty: Float32[np.ndarray, "cell_row cell_column"],
        refused: Float32[np.ndarray, "cell_row cell_column"],
    ) -> None:
        """Put a block's mean error and refused share into the band's maps, where it was wanted."""
        for part, asked in zip(_parts(block), wanted, strict=True):
            if not asked:
                continue
            inside = _inside(part, block)
            top, left = (part.top - block.top) // CELL_PIXELS, part.left // CELL_PIXELS
            cells = _cell_means(result.uncertainty[inside])
            place = (slice(top, top + cells.shape[0]), slice(left, left + cells.shape[1]))
            uncertainty[place] = cells
            refused[place] = _cell_means(result.refused[inside].astype(np.float32))


def _parts(block: Block) -> list[Block]:
    """The stored tiles of a block, row by row, as rectangles of the stained image."""
    return [
        Block(top, left, min(top + TILE_PIXELS, block.bottom), min(left + TILE_PIXELS, block.right))
        for top in range(block.top, block.bottom, TILE_PIXELS)
        for left in range(block.left, block.right, TILE_PIXELS)
    ]


def _inside(part: Block, block: Block) -> tuple[slice, slice]:
    rows = slice(part.top - block.top, part.bottom - block.top)
    return rows, slice(part.left - block.left, part.right - block.left)


def _cell_means(values: Float32[np.ndarray, "row column"]) -> Float32[np.ndarray, "cell_row cell_column"]:
    """Mean of each cell; the last row and column of cells may be smaller."""
    starts = [np.arange(0, size, CELL_PIXELS) for size in values.shape]
    sums = np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    sizes = [np.diff(np.append(first, size)) for first, size in zip(starts, values.shape, strict=True)]
    return (sums / np.outer(*sizes)).astype(np.float32)


def _finished(
    pyramid: StoredPyramid,
    plan: Plan,
    grid: SlideGrid,
    settings: StainSettings,
    spent: tuple[float, float],
) -> StainedSlide:
    tables = [pyramid.spool.table(0, number) for number in range(plan.bands)]
    uncertainty = np.concatenate([table.uncertainty for table in tables])
    refused = np.concatenate([table.refused_cells for table in tables])
    area = np.outer(*(_cell_sizes(size) for size in (plan.height, plan.width)))
    run = ~np.isnan(uncertainty)
    total = float(area.sum())
    refused_share = float((area * refused)[run].sum()) / total
    run_share = float(area[run].sum()) / total
    return StainedSlide(
        pyramid=pyramid,
        um=grid.um,
        settings=settings,
        uncertainty=uncertainty,
        refused_share=refused_share,
        stained_share=run_share - refused_share,
        glass_share=1.0 - run_share,
        seconds=spent[0],
        stained_mpx=spent[1],
    )


def _cell_sizes(size: int) -> np.ndarray:
    return np.diff(np.append(np.arange(0, size, CELL_PIXELS), size))
