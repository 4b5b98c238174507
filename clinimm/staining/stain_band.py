"""One band of a slide: its blocks run, cut into stored tiles, labelled, and what is known of their errors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float32, UInt8

from clinimm.core.errors import ConfigError
from clinimm.staining.codec import padded
from clinimm.staining.label_mark import draw, label
from clinimm.staining.patient import Patient
from clinimm.staining.plan import TILE_PIXELS, Block, Plan
from clinimm.staining.refusal import TILE_REASONS
from clinimm.staining.refused import GLASS_WHITE, draw_refused
from clinimm.staining.run_block import BlockResult, StainerLike, run_block
from clinimm.staining.spool import GLASS, REFUSED, STAINED, Band
from clinimm.staining.where_tissue import find_tissue

if TYPE_CHECKING:
    from clinimm.staining.whole_slide import SlideSource, StainSettings

#: Pixels a side of a cell of the uncertainty map; divides a tile.
CELL_PIXELS = 16


class BandWorker:
    """Stains bands; holds what all of them share.

    Attributes:
        run_mpx: megapixels that were run so far.
    """

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
            self._tissue = find_tissue(source.slide, source.grid, inked=patient.refuse is not None)
        self._stain = stain_index(stainer, settings.stain)
        self._mark = label(settings.stain, plan.width, plan.height, settings.notes)
        self._glass = np.full((TILE_PIXELS, TILE_PIXELS, 3), GLASS_WHITE, np.uint8)
        self._glass_bytes = self._codec.encode(self._glass)
        self.run_mpx = 0.0

    def band(self, number: int) -> Band:
        """Stain one band."""
        blocks = list(self._plan.band(number))
        tile_rows = -(-blocks[0].rows // TILE_PIXELS)
        columns = self._plan.tile_columns
        cells = (-(-blocks[0].rows // CELL_PIXELS), -(-self._plan.width // CELL_PIXELS))
        tiles: list[bytes] = [self._glass_bytes] * (tile_rows * columns)
        states = np.full((tile_rows, columns), GLASS, np.uint8)
        reasons = np.zeros((tile_rows, columns), np.uint8)
        uncertainty, refused = np.full(cells, np.nan, np.float32), np.zeros(cells, np.float32)
        for block in blocks:
            parts = block.tiles()
            wanted = [self._tissue is None or self._tissue.touches(part) for part in parts]
            result = self._result(block, wanted)
            for place, part in enumerate(parts):
                row, column = (part.top - block.top) // TILE_PIXELS, part.left // TILE_PIXELS
                given = result if wanted[place] else None
                why = () if given is None else given.reasons[place]
                tiles[row * columns + column] = self._tile(given, why, block, part)
                if given is not None:
                    states[row, column], reasons[row, column] = REFUSED if why else STAINED, to_bits(why)
                    _map(given, bool(why), block, part, uncertainty, refused)
        return Band(tiles, states, uncertainty, refused, reasons)

    def _result(self, block: Block, wanted: Sequence[bool]) -> BlockResult | None:
        if not any(wanted):
            return None
        source = self._grid.read(self._plan.run(block))
        self.run_mpx += block.rows * block.columns / 1e6
        return run_block(self._stainer, source, block, self._plan, self._stain, self._patient)

    def _tile(self, result: BlockResult | None, why: tuple[str, ...], block: Block, part: Block) -> bytes:
        """One tile, compressed: stained, hatched where it is refused, with the label where that lies."""
        marked = part.top < self._mark.shape[0] and part.left < self._mark.shape[1]
        if result is None and not marked:
            return self._glass_bytes
        pixels = self._glass[: part.rows, : part.columns].copy()
        if result is not None:
            pixels = result.colour[part.within(block)].copy()
            draw_refused(pixels, np.full(pixels.shape[:2], bool(why)), part.top, part.left)
        return self._codec.encode(padded(draw(pixels, part.top, part.left, self._mark)))


def stain_index(stainer: StainerLike, stain: str) -> int:
    """The model's index of a stain.

    Raises:
        ConfigError: it has none of that name; names those that it has.
    """
    known = tuple(stainer.spec.stains)
    if stain not in known:
        raise ConfigError(f"--stain {stain}: this model makes {', '.join(known)}.")
    return known.index(stain)


def to_bits(reasons: Sequence[str]) -> int:
    """Reasons as a bit each, in the order of ``TILE_REASONS``.

    >>> to_bits(("outside", "hallucination"))
    5
    """
    return sum(1 << TILE_REASONS.index(reason) for reason in reasons)


def count_reasons(bits: UInt8[np.ndarray, "row column"]) -> dict[str, int]:
    """Reason -> tiles that are refused for it; a tile may have several."""
    counts = {reason: int((bits >> place & 1).sum()) for place, reason in enumerate(TILE_REASONS)}
    return {reason: count for reason, count in counts.items() if count}


def _map(
    result: BlockResult,
    refused_tile: bool,
    block: Block,
    part: Block,
    uncertainty: Float32[np.ndarray, "cell_row cell_column"],
    refused: Float32[np.ndarray, "cell_row cell_column"],
) -> None:
    """Put a tile's mean errors, and whether it is refused, into the band's maps."""
    top, left = (part.top - block.top) // CELL_PIXELS, part.left // CELL_PIXELS
    cells = cell_means(result.uncertainty[part.within(block)])
    place = (slice(top, top + cells.shape[0]), slice(left, left + cells.shape[1]))
    uncertainty[place] = cells
    refused[place] = refused_tile


def cell_means(values: Float32[np.ndarray, "row column"]) -> Float32[np.ndarray, "cell_row cell_column"]:
    """Mean of each cell; the last row and column of cells may be smaller."""
    starts = [np.arange(0, size, CELL_PIXELS) for size in values.shape]
    sums = np.add.reduceat(np.add.reduceat(values, starts[0], axis=0), starts[1], axis=1)
    return (sums / np.outer(*(cell_sizes(size) for size in values.shape))).astype(np.float32)


def cell_sizes(size: int) -> np.ndarray:
    """Pixels of each cell along an axis of ``size`` pixels."""
    return np.diff(np.append(np.arange(0, size, CELL_PIXELS), size))
