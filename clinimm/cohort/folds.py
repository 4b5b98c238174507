"""A folds file: a CSV that somebody else fixed, in the hospital's own patient identifiers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from clinimm.core.errors import ConfigError, DataError
from clinimm.core.pseudonym import Pseudonymiser

_COLUMNS = ["patient_id", "repeat", "fold"]


@dataclass(frozen=True)
class Folds:
    """The folds of the subjects that are in the data.

    Attributes:
        table: ``subject_id``, ``repeat``, ``fold``.
        unknown: identifiers of the file that no ingested patient has.
    """

    table: pd.DataFrame
    unknown: int


def find_folds_file(path: Path, cohort_file: Path, roots: Sequence[Path]) -> Path:
    """The folds file: beside the cohort file, else in the root folder of a source.

    Raises:
        ConfigError: it is in none of these places; all are named.
    """
    candidates = list(dict.fromkeys([cohort_file.parent / path, *(root / path for root in roots)]))
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    looked = "\n  ".join(str(candidate) for candidate in candidates)
    raise ConfigError(
        f"{cohort_file}: split.path: no folds file {path}. Looked for\n  {looked}\n"
        "Put a CSV with the columns patient_id, repeat, fold there, or let CliniMM deal the folds: "
        "`split: {kind: repeated_group_k_fold, repeats: 5, folds: 5}`."
    )


def read_folds(
    path: Path, subjects: pd.DataFrame, pseudonymiser: Pseudonymiser, repeats: int | None = None
) -> Folds:
    """Read a folds file and put pseudonyms in place of its identifiers.

    Args:
        path: CSV with the columns patient_id, repeat, fold.
        subjects: ``ingest/subjects.parquet``: ``subject_id``, ``identifier_hash``.
        pseudonymiser: with the key of the ingest.
        repeats: only the first so many; None takes them all.

    Raises:
        ConfigError: the file is not such a CSV.
        DataError: none of its patients is in the data, or one patient has two folds in a repeat.
    """
    given = _first_repeats(_read(path), repeats, path)
    hashes = {one: pseudonymiser.identifier(one) for one in given["patient_id"].unique()}
    keyed = given.assign(identifier_hash=given["patient_id"].map(hashes))
    linked = keyed.merge(subjects[["subject_id", "identifier_hash"]], on="identifier_hash", how="inner")
    unknown = len(set(hashes.values()) - set(linked["identifier_hash"]))
    if linked.empty:
        raise DataError(
            f"{path}: none of its {len(hashes)} patients is in the data. Are these the identifiers that the "
            "export uses, and is the pseudonym key the one that ingest used?"
        )
    table = linked[["subject_id", "repeat", "fold"]].drop_duplicates()
    twice = int(table.duplicated(["subject_id", "repeat"]).sum())
    if twice:
        raise DataError(
            f"{path}: {twice} patients have two folds in one repeat (two identifiers may belong to one "
            "patient): they would be on both sides. Give each patient one fold a repeat."
        )
    return Folds(table.sort_values(["repeat", "fold", "subject_id"], ignore_index=True), unknown)


def _first_repeats(table: pd.DataFrame, repeats: int | None, path: Path) -> pd.DataFrame:
    there = sorted(table["repeat"].unique())
    if repeats is not None and repeats > len(there):
        raise ConfigError(f"{path}: split.repeats is {repeats}, and the file has {len(there)}.")
    return table[table["repeat"].isin(there[:repeats])]


def _read(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype={"patient_id": "str"}, encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError, pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise ConfigError(f"{path}: the folds file cannot be read: {error}.") from error
    table.columns = table.columns.str.strip()
    if missing := [name for name in _COLUMNS if name not in table.columns]:
        raise ConfigError(f"{path}:1: the column {missing[0]} is missing; expected {', '.join(_COLUMNS)}.")
    for name in ("repeat", "fold"):
        numbers = pd.to_numeric(table[name], errors="coerce")
        wrong = table.index[(numbers.isna() | (numbers < 0) | (numbers % 1 != 0)).to_numpy(dtype=bool)]
        if len(wrong):
            line = int(wrong[0]) + 2
            raise ConfigError(
                f"{path}:{line}: {name}: expected a whole number from 0 (got {table[name][wrong[0]]!r})."
            )
        table[name] = numbers.astype("int32")
    blank = table["patient_id"].isna() | (table["patient_id"].str.strip() == "")
    if blank.any():
        raise ConfigError(f"{path}:{int(blank.to_numpy().argmax()) + 2}: patient_id is empty.")
    return table[_COLUMNS]
