"""Registered regions of stained pairs on disk, as ``encode/pairs`` holds them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from clinimm.encode import write_parquet
from clinimm.staining.pairs import StainPair

_TABLE = "pairs.parquet"
_COLUMNS = ("subject_id", "specimen", "file", "stains", "resolution_um", "left", "top", "side", "digest",
            "error_um", "synthetic", "simulated")  # fmt: skip


@dataclass(frozen=True)
class Region:
    """A pair of images and where on the source slide they lie.

    Attributes:
        pair: the images.
        left, top, side: of the region, level-0 pixels of the source slide.
        digest: of the source slide.
        error_um: median registration error that remained, the worst of the stains; None unknown.
    """

    pair: StainPair
    left: int
    top: int
    side: int
    digest: str
    error_um: float | None


def write_regions(folder: Path, regions: Sequence[Region]) -> None:
    """Write the images and the table that lists them; equal regions give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, region in enumerate(regions):
        file = f"{number:05d}.npz"
        arrays: dict[str, Any] = {f"target:{name}": image for name, image in region.pair.targets.items()}
        partial = folder / f".{file}.partial"
        with partial.open("wb") as stream:
            np.savez_compressed(stream, source=region.pair.source, valid=region.pair.valid, **arrays)
        partial.replace(folder / file)
        rows.append(_row(region, file))
    write_parquet(folder / _TABLE, pd.DataFrame(rows, columns=list(_COLUMNS)))


def _row(region: Region, file: str) -> dict[str, object]:
    pair = region.pair
    return {
        "subject_id": pair.subject_id,
        "specimen": pair.specimen,
        "file": file,
        "stains": ",".join(sorted(pair.targets)),
        "resolution_um": pair.resolution_um,
        "left": region.left,
        "top": region.top,
        "side": region.side,
        "digest": region.digest,
        "error_um": region.error_um,
        "synthetic": pair.synthetic,
        "simulated": pair.simulated,
    }


class PairStore:
    """The regions of ``encode/pairs``, read when they are asked for.

    Args:
        folder: ``runs/NAME/encode/pairs``.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.table = pd.read_parquet(folder / _TABLE)

    @property
    def subjects(self) -> set[str]:
        """Who has a region."""
        return set(self.table["subject_id"])

    def places(self, subjects: Sequence[str]) -> list[int]:
        """The rows of the table that are of some subjects."""
        return [int(row) for row in np.flatnonzero(self.table["subject_id"].isin(list(subjects)))]

    def at(self, place: int) -> Region:
        """The region in one row of the table."""
        return self._read({str(key): value for key, value in self.table.iloc[place].to_dict().items()})

    def pairs(self, subjects: Sequence[str]) -> list[StainPair]:
        """The pairs of some subjects, in the order of the table."""
        return [self.at(place).pair for place in self.places(subjects)]

    def _read(self, row: dict[str, object]) -> Region:
        with np.load(self._folder / str(row["file"]), allow_pickle=False) as arrays:
            targets = {
                name.removeprefix("target:"): arrays[name] for name in arrays if name.startswith("target:")
            }
            pair = StainPair(
                subject_id=str(row["subject_id"]),
                specimen=str(row["specimen"]),
                source=arrays["source"],
                targets=targets,
                valid=arrays["valid"],
                resolution_um=float(str(row["resolution_um"])),
                synthetic=bool(row["synthetic"]),
                simulated=bool(row.get("simulated", False)),
            )
        left, top, side = (int(str(row[name])) for name in ("left", "top", "side"))
        return Region(pair, left, top, side, str(row["digest"]), _number(row["error_um"]))


def _number(value: object) -> float | None:
    return value if isinstance(value, float) and np.isfinite(value) else None
