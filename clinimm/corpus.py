"""The encoded tokens of all subjects, and batches made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from clinimm.core.errors import MissingStageError
from clinimm.modalities import get_modality
from clinimm.modality import Encoded, Modality, Statistics
from clinimm.nn.tokens import Batch, Tokens


@dataclass(frozen=True)
class _Table:
    modality: Modality
    encoded: Encoded
    slices: dict[str, slice]
    hours: np.ndarray


class Corpus:
    """What the encode stage wrote, by subject. Dense values stay on disk until they are asked for.

    Args:
        tables: modality name -> its encoded tokens.
        plugins: modules of outside modalities.
    """

    def __init__(self, tables: dict[str, Encoded], plugins: tuple[str, ...] = ()) -> None:
        self._tables = {
            name: _Table(
                get_modality(name, plugins),
                encoded,
                subject_slices(encoded.tokens["subject_id"]),
                encoded.tokens["time_hours"].to_numpy(np.float32),
            )
            for name, encoded in tables.items()
        }
        self._raw: dict[str, tuple[Statistics, np.ndarray]] = {}

    @classmethod
    def load(cls, folder: Path, plugins: tuple[str, ...] = ()) -> Corpus:
        """Open ``runs/NAME/encode``.

        Raises:
            MissingStageError: nothing was encoded there.
        """
        names = sorted(path.parent.name for path in folder.glob("*/tokens.parquet"))
        if not names:
            raise MissingStageError(f"{folder} holds no tokens: run `clinimm encode PIPELINE` first.")
        tables = {
            name: Encoded(
                pd.read_parquet(folder / name / "tokens.parquet"),
                np.load(folder / name / "values.npy", mmap_mode="r"),
            )
            for name in names
        }
        return cls(tables, plugins)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that at least one subject has."""
        return tuple(name for name, table in self._tables.items() if len(table.encoded.tokens))

    def present(self, modality: str) -> set[str]:
        """The subjects that have at least one token of a modality."""
        return set(self._tables[modality].slices)

    def modalities_of(self, subject_id: str) -> list[str]:
        """The modalities of which a subject has tokens, sorted."""
        return sorted(name for name, table in self._tables.items() if subject_id in table.slices)

    def rows(self, subject_id: str, modality: str) -> pd.DataFrame:
        """The rows of ``tokens.parquet`` behind a subject's raw tokens, in the batch's order."""
        table = self._tables[modality]
        return table.encoded.tokens.iloc[table.slices.get(subject_id, slice(0, 0))]

    def encoded(self, modality: str, subjects: Sequence[str]) -> Encoded:
        """The encoded rows of some subjects, for fitting statistics to them alone."""
        table = self._tables[modality]
        rows = [np.arange(len(table.hours))[table.slices[s]] for s in subjects if s in table.slices]
        index = np.concatenate(rows) if rows else np.zeros(0, np.int64)
        return Encoded(table.encoded.tokens.iloc[index], table.encoded.values[index])

    def batch(self, subjects: Sequence[str], statistics: dict[str, Statistics]) -> Batch:
        """Raw tokens of some subjects, padded; one entry a modality named in ``statistics``.

        A modality that none of these subjects has is there with a single masked token.
        """
        return {name: self._pad(name, subjects, statistics[name]) for name in statistics}

    def _pad(self, name: str, subjects: Sequence[str], statistics: Statistics) -> Tokens:
        raw = self._tensorised(name, statistics)
        if name not in self._tables:
            empty = torch.zeros(len(subjects), 1)
            return Tokens(torch.zeros(len(subjects), 1, raw.shape[1]), empty.bool(), empty)
        table = self._tables[name]
        nothing = slice(0, 0)
        slices = [table.slices.get(subject, nothing) for subject in subjects]
        longest = max(1, *(piece.stop - piece.start for piece in slices)) if slices else 1
        values = np.zeros((len(subjects), longest, raw.shape[1]), np.float32)
        mask = np.zeros((len(subjects), longest), bool)
        hours = np.zeros((len(subjects), longest), np.float32)
        for row, piece in enumerate(slices):
            count = piece.stop - piece.start
            values[row, :count] = raw[piece]
            mask[row, :count] = True
            hours[row, :count] = table.hours[piece]
        return Tokens(torch.from_numpy(values), torch.from_numpy(mask), torch.from_numpy(hours))

    def _tensorised(self, name: str, statistics: Statistics) -> np.ndarray:
        if name not in self._tables:
            return np.zeros((0, int(statistics.get("raw_dim", 1))), np.float32)
        # The last statistics only: every fit has its own, and all of them would fill the memory.
        known = self._raw.get(name)
        if known is None or known[0] is not statistics:
            table = self._tables[name]
            known = (statistics, table.modality.tensorise(table.encoded, statistics))
            self._raw[name] = known
        return known[1]


def subject_slices(subject_ids: pd.Series) -> dict[str, slice]:
    """Subject -> its rows, for a column in which each subject's rows stand together."""
    ids = subject_ids.to_numpy()
    if not len(ids):
        return {}
    starts = np.flatnonzero(np.r_[True, ids[1:] != ids[:-1]])
    stops = np.r_[starts[1:], len(ids)]
    return {str(ids[start]): slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True)}
