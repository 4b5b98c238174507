"""What a stainer made of held-out regions, on disk, as ``predict/`` holds it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, UInt8

from clinimm.encode import write_parquet
from clinimm.staining.pair_store import PairStore, Region

REGIONS, TILES = "regions.parquet", "tiles.parquet"
_SCALE = 1000  # expected errors are kept in thousandths

Rgb = UInt8[np.ndarray, "row column 3"]


@dataclass(frozen=True)
class Made:
    """One stain of one region.

    Attributes:
        rgb: the stain that the model made.
        plain: the same by the model that sees pixels alone; None where there is no such model.
        expected_error: calibrated expected absolute error of a pixel, 0 to 1.
    """

    rgb: Rgb
    plain: Rgb | None
    expected_error: Float[np.ndarray, "row column"]


@dataclass(frozen=True)
class Result:
    """One held-out region, what was made of it, and which of its tiles are refused.

    Attributes:
        region: the pair, and where it lies.
        fit: the fit that held it out, such as ``r0-f0``.
        made: by stain.
        tiles: a row a tile and stain: ``stain, top, left, side, ood, hallucination, uncertainty,
            refused, reasons, risk, error`` (``error``: the mean absolute error that was observed).
    """

    region: Region
    fit: str
    made: Mapping[str, Made]
    tiles: pd.DataFrame

    def refused(self, stain: str) -> np.ndarray:
        """True where a tile of the stain is refused, (row, column)."""
        mask = np.zeros(self.region.pair.valid.shape, dtype=bool)
        own = self.tiles[(self.tiles["stain"] == stain) & self.tiles["refused"]]
        for top, left, side in own[["top", "left", "side"]].itertuples(index=False):
            mask[top : top + side, left : left + side] = True
        return mask


class ResultWriter:
    """Writes results one by one, so that memory does not grow with their number."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rows: list[dict[str, object]] = []
        self._tiles: list[pd.DataFrame] = []

    def add(
        self, subject_id: str, place: int, fit: str, made: Mapping[str, Made], tiles: pd.DataFrame
    ) -> None:
        """Keep one region's stains; ``place`` is its row in ``encode/pairs/pairs.parquet``."""
        file = f"{fit}-{place:05d}.npz"
        arrays: dict[str, Any] = {}
        for stain, one in made.items():
            arrays[f"rgb:{stain}"] = one.rgb
            arrays[f"error:{stain}"] = np.rint(one.expected_error * _SCALE).clip(0, _SCALE).astype(np.uint16)
            if one.plain is not None:
                arrays[f"plain:{stain}"] = one.plain
        partial = self._folder / f".{file}.partial"
        with partial.open("wb") as stream:
            np.savez_compressed(stream, **arrays)
        partial.replace(self._folder / file)
        self._rows.append({"subject_id": subject_id, "fit": fit, "place": place, "file": file})
        self._tiles.append(tiles.assign(file=file, subject_id=subject_id, fit=fit))

    @property
    def regions(self) -> int:
        """How many regions were added."""
        return len(self._rows)

    def finish(self) -> pd.DataFrame:
        """Write the tables; gives that of the tiles."""
        tiles = pd.concat(self._tiles, ignore_index=True)
        write_parquet(self._folder / REGIONS, pd.DataFrame(self._rows))
        write_parquet(self._folder / TILES, tiles)
        return tiles


class Results:
    """The results of a run, read one by one.

    Args:
        folder: ``runs/NAME/predict``.
        pairs: of ``runs/NAME/encode/pairs``.
    """

    def __init__(self, folder: Path, pairs: PairStore) -> None:
        self._folder, self._pairs = folder, pairs
        self.table = pd.read_parquet(folder / REGIONS)
        self.tiles = pd.read_parquet(folder / TILES)

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Result]:
        return self.some(range(len(self)))

    def some(self, rows: Sequence[int]) -> Iterator[Result]:
        """The results in some rows of the table."""
        for row in rows:
            entry = self.table.iloc[row]
            region = self._pairs.at(int(entry["place"]))
            tiles = self.tiles[(self.tiles["file"] == entry["file"]).to_numpy(dtype=bool)]
            yield Result(region, str(entry["fit"]), self._made(str(entry["file"])), tiles)

    def _made(self, file: str) -> dict[str, Made]:
        with np.load(self._folder / file, allow_pickle=False) as arrays:
            stains = sorted(name.removeprefix("rgb:") for name in arrays if name.startswith("rgb:"))
            return {
                stain: Made(
                    rgb=arrays[f"rgb:{stain}"],
                    plain=arrays.get(f"plain:{stain}"),
                    expected_error=arrays[f"error:{stain}"].astype(np.float32) / _SCALE,
                )
                for stain in stains
            }
