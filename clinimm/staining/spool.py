"""Where an unfinished stained slide lies on disk: compressed tiles by band, bound to what made them.

A band is two files. The second, with the table of the first, is written last: a band counts as done
when its table is there, so a process can be killed at any moment and loses one band.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Integer, UInt8

from clinimm.core.errors import ConfigError
from clinimm.core.record import digest_json, write_text

_BINDING = "binding.json"
#: States of a tile.
GLASS, STAINED, REFUSED = 0, 1, 2


@dataclass(frozen=True)
class Band:
    """The tiles of a few rows.

    Attributes:
        tiles: compressed, row by row.
        states: ``GLASS``, ``STAINED`` or ``REFUSED`` of each tile.
        uncertainty: expected absolute error in [0, 1] by cell; NaN where nothing was stained.
        refused_cells: share of refused pixels in each of those cells.
        reasons: why each tile is refused, a bit each of ``refusal.TILE_REASONS``; empty above level 0.
    """

    tiles: Sequence[bytes]
    states: UInt8[np.ndarray, "tile_row tile_column"]
    uncertainty: Float32[np.ndarray, "cell_row cell_column"]
    refused_cells: Float32[np.ndarray, "cell_row cell_column"]
    reasons: UInt8[np.ndarray, "reason_row reason_column"] = field(
        default_factory=lambda: np.zeros((0, 0), np.uint8)
    )


@dataclass
class Spool:
    """The folder of one unfinished slide.

    Args:
        folder: made where it is absent.
        binding: what the tiles were made from and how; another binding refuses to go on.

    Raises:
        ConfigError: the folder holds tiles of something else; says what differs.
    """

    folder: Path
    binding: Mapping[str, Any]
    _tables: dict[tuple[int, int], _Table] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        path = self.folder / _BINDING
        if not path.exists():
            self.folder.mkdir(parents=True, exist_ok=True)
            write_text(path, json.dumps(self.binding, indent=1, sort_keys=True) + "\n")
            return
        found = json.loads(path.read_text(encoding="utf-8"))
        if digest_json(found) != digest_json(self.binding):
            names = sorted(set(found) | set(self.binding))
            differing = [name for name in names if found.get(name) != self.binding.get(name)]
            raise ConfigError(
                f"{self.folder} holds an unfinished slide with another {', '.join(differing)}: "
                "give --restart to throw it away, or another --out."
            )

    @property
    def digest(self) -> str:
        """Digest of the binding."""
        return digest_json(self.binding)

    def done(self, level: int, number: int) -> bool:
        """Whether a band is whole."""
        return self._path(level, number, "npz").exists()

    def put(self, level: int, number: int, band: Band) -> None:
        """Keep a band; equal tiles, such as glass, are kept once."""
        places: dict[bytes, int] = {}
        offsets, position = [], 0
        data = self._path(level, number, "bin")
        data.parent.mkdir(parents=True, exist_ok=True)
        with data.open("wb") as stream:
            for tile in band.tiles:
                if tile not in places:
                    places[tile] = position
                    position += stream.write(tile)
                offsets.append(places[tile])
        partial = self._path(level, number, "partial")
        with partial.open("wb") as stream:
            np.savez(
                stream,
                offsets=np.array(offsets, np.int64),
                lengths=np.array([len(tile) for tile in band.tiles], np.int64),
                states=band.states,
                uncertainty=band.uncertainty,
                refused_cells=band.refused_cells,
                reasons=band.reasons,
            )
        partial.replace(self._path(level, number, "npz"))

    def tile(self, level: int, number: int, index: int) -> bytes:
        """The bytes of one tile of a band."""
        table = self.table(level, number)
        with self._path(level, number, "bin").open("rb") as stream:
            stream.seek(int(table.offsets[index]))
            return stream.read(int(table.lengths[index]))

    def tiles(self, level: int, bands: int) -> Iterator[bytes]:
        """All tiles of a level, row by row."""
        for number in range(bands):
            table = self.table(level, number)
            with self._path(level, number, "bin").open("rb") as stream:
                for offset, length in zip(table.offsets, table.lengths, strict=True):
                    stream.seek(int(offset))
                    yield stream.read(int(length))

    def table(self, level: int, number: int) -> _Table:
        """Where a band's tiles lie, and what is known of them."""
        key = (level, number)
        if key not in self._tables:
            with np.load(self._path(level, number, "npz"), allow_pickle=False) as found:
                self._tables[key] = _Table(**{name: found[name] for name in found.files})
        return self._tables[key]

    def clear(self) -> None:
        """Remove the folder: the slide is written, or starts anew."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _path(self, level: int, number: int, kind: str) -> Path:
        return self.folder / f"level-{level:02d}" / f"band-{number:05d}.{kind}"


@dataclass(frozen=True)
class _Table:
    offsets: Integer[np.ndarray, " tile"]
    lengths: Integer[np.ndarray, " tile"]
    states: UInt8[np.ndarray, "tile_row tile_column"]
    uncertainty: Float32[np.ndarray, "cell_row cell_column"]
    refused_cells: Float32[np.ndarray, "cell_row cell_column"]
    reasons: UInt8[np.ndarray, "reason_row reason_column"]
