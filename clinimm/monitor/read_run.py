"""A snapshot from the files that a run's stages leave, or those of an export that was scored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Shaped
from numpy import ndarray

from clinimm.audit.groups import levels_of
from clinimm.core.errors import DataError, MissingStageError
from clinimm.core.record import digest_file, digest_json
from clinimm.monitor.snapshot import ROW_COLUMNS, Intake, Snapshot
from clinimm.token_means import mean_token

#: A record's code is a field where so many of the subjects have it.
_COMMON = 0.05
#: What an image's header says of how it was made; a change of any of these is a change of the input.
_HEADER = ("device", "view", "photometric", "rows", "columns", "mpp_um", "dicom_modality", "scanner", "stain")
PREDICTIONS = Path("predict") / "predictions.parquet"


def is_run(folder: Path) -> bool:
    """Whether a folder holds predictions where a stage leaves them."""
    return (folder / PREDICTIONS).is_file()


def read_run(folder: Path, held_out_only: bool = True) -> Snapshot:
    """The snapshot of a run, or of a scored export.

    Args:
        folder: holds ``predict``, ``cohort`` and, where they were kept, ``ingest`` and ``encode``.
        held_out_only: leave out subjects whom the model was fitted to.

    Raises:
        DataError: a predicted subject is not in the cohort, or nobody was held out.
        MissingStageError: there are no predictions or no cohort.
    """
    for needed in (PREDICTIONS, Path("cohort") / "cohort.parquet"):
        if not (folder / needed).is_file():
            raise MissingStageError(
                f"{folder / needed} is missing: run `clinimm {needed.parent} PIPELINE` first."
            )
    predictions = pd.read_parquet(folder / PREDICTIONS)
    if held_out_only:
        predictions = predictions[predictions["split"] == "held_out"]
    if predictions.empty:
        raise DataError(f"{folder}: nobody's prediction is of a subject whom the model was not fitted to.")
    cohort = pd.read_parquet(folder / "cohort" / "cohort.parquet")
    subjects = sorted(cohort["subject_id"].unique().tolist())
    attributes = pd.DataFrame(levels_of(cohort, subjects), index=pd.Index(subjects, name="subject_id"))
    present = predictions.drop_duplicates("subject_id").set_index("subject_id")["modalities_present"]
    attributes["modalities_present"] = present.reindex(subjects).astype(object)
    fields, vectors = _inputs(folder, cohort)
    return Snapshot(
        folder.name,
        _digest(folder),
        _rows(predictions),
        attributes,
        fields,
        vectors,
        _intake(folder / "ingest"),
        _thresholds(folder / "evaluate" / "metrics.json"),
    )


def _rows(predictions: pd.DataFrame) -> pd.DataFrame:
    """One row a subject and class: the mean over the repeats of a cross-validation."""
    keys = ["subject_id", "index_time", "class_name"]
    rows = predictions.groupby(keys, sort=True, as_index=False).agg(
        probability=("probability", "mean"), label=("label", "first"), model_digest=("model_digest", "first")
    )
    return rows[list(ROW_COLUMNS)]


def _inputs(folder: Path, cohort: pd.DataFrame) -> tuple[dict[str, pd.DataFrame], dict[str, ndarray]]:
    fields: dict[str, pd.DataFrame] = {}
    vectors: dict[str, ndarray] = {}
    subjects = pd.Index(sorted(cohort["subject_id"].unique().tolist()), name="subject_id")
    headers = _headers(folder / "ingest" / "events.parquet", cohort)
    for path in sorted(folder.glob("encode/*/tokens.parquet")):
        name = path.parent.name
        rows = pd.read_parquet(path).reset_index(drop=True)
        fields[name] = _fields(rows, headers.get(name), subjects)
        values = np.load(path.parent / "values.npy", mmap_mode="r")
        if values.shape[1]:
            vectors[name] = _means(rows["subject_id"], values)
    if "age_years" in cohort:
        ages = cohort.drop_duplicates("subject_id").set_index("subject_id")[["age_years"]]
        fields["people"] = ages.reindex(subjects)
    return fields, vectors


def _fields(rows: pd.DataFrame, headers: pd.DataFrame | None, subjects: pd.Index) -> pd.DataFrame:
    """How much there is of each subject, how old the newest is, a record's numbers, an image's header."""
    grouped = rows.groupby("subject_id")
    parts: list[pd.DataFrame] = [
        grouped.size().to_frame("number of tokens"),
        grouped["time_hours"].min().to_frame("hours before the index of the newest"),
        _numbers(rows),
    ]
    if headers is not None:
        parts.append(headers)
    table = pd.concat([part for part in parts if len(part)], axis=1)
    return table.reindex(subjects)


def _numbers(rows: pd.DataFrame) -> pd.DataFrame:
    """The newest number of each common code, a row a subject."""
    if not {"code", "numeric_value"} <= set(rows.columns):
        return pd.DataFrame()
    newest = rows.dropna(subset=["numeric_value"]).sort_values("time_hours", kind="stable")
    table = newest.drop_duplicates(["subject_id", "code"]).pivot(
        index="subject_id", columns="code", values="numeric_value"
    )
    return table.loc[:, table.notna().sum() >= _COMMON * rows["subject_id"].nunique()]


def _means(subjects: pd.Series, values: Shaped[ndarray, "token ..."]) -> Float[ndarray, "subject dim"]:
    places = subjects.groupby(subjects, sort=True).indices
    return np.stack([mean_token(values[rows]) for rows in places.values()])


def _headers(path: Path, cohort: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Modality -> what the header of each subject's newest image before the index says."""
    if not path.is_file():
        return {}
    events = pd.read_parquet(path, columns=["subject_id", "time", "modality", "attributes", "uri"])
    events = events[events["uri"].notna() & events["attributes"].notna()]
    events = events.merge(cohort[["subject_id", "index_time"]], on="subject_id")
    events = events[events["time"] <= events["index_time"]].sort_values("time", kind="stable")
    events = events.drop_duplicates(["subject_id", "modality"], keep="last")
    found = {}
    for name, rows in events.groupby("modality", sort=True):
        stated = [json.loads(text) for text in rows["attributes"]]
        kept = [{key: _text(one.get(key)) for key in _HEADER} for one in stated]
        table = pd.DataFrame(kept, index=pd.Index(rows["subject_id"], name="subject_id"), dtype="str")
        found[str(name)] = table.dropna(axis=1, how="all")
    return found


def _text(value: Any) -> str | None:
    return None if value is None else str(value)


def _intake(folder: Path) -> Intake | None:
    record = folder / "record.json"
    if not record.is_file() or not (folder / "events.parquet").is_file():
        return None
    notes = json.loads(record.read_text(encoding="utf-8"))["notes"]
    events = pd.read_parquet(
        folder / "events.parquet", columns=["subject_id", "code", "unit", "numeric_value"]
    )
    own = events["subject_id"].value_counts().to_numpy(float)
    numbers = events[events["numeric_value"].notna()]
    grouped = numbers.assign(unit=numbers["unit"].fillna("(none)")).groupby(["code", "unit"], sort=True)
    units = (
        grouped["numeric_value"]
        .quantile(np.array([0.25, 0.5, 0.75]))
        .unstack()
        .set_axis(["low", "median", "high"], axis=1)
    )
    units = units.assign(count=grouped.size()).reset_index()
    return Intake(
        int(notes["files"]),
        notes["refusals_by_code"],
        notes["events_by_modality"],
        notes["flags"],
        units,
        float(own.sum() ** 2 / max(np.sum(own**2), 1.0)),
    )


def _thresholds(path: Path) -> Mapping[str, float]:
    if not path.is_file():
        return {}
    metrics = json.loads(path.read_text(encoding="utf-8"))
    return {
        row["class_name"]: float(row["operating_point"]["threshold"])
        for row in metrics.get("classes", ())
        if row.get("operating_point")
    }


def _digest(folder: Path) -> str:
    names = ("predict/predictions.parquet", "cohort/cohort.parquet", "ingest/events.parquet")
    return digest_json({name: digest_file(folder / name) for name in names if (folder / name).is_file()})
