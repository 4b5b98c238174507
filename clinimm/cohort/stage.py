"""The stage ``cohort``: events and the cohort file in, who is asked about and who trains out."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from clinimm.cohort.folds import Folds, find_folds_file, read_folds
from clinimm.cohort.label import classes
from clinimm.cohort.select import Selection, require_answerable, select
from clinimm.cohort.spec import CohortSpec, load_cohort
from clinimm.cohort.split import cohort_split, split, split_summary, split_warnings
from clinimm.cohort.split_spec import FoldsFileSplit
from clinimm.core.errors import ConfigError
from clinimm.core.pseudonym import load_pseudonymiser
from clinimm.core.record import write_bytes, write_text
from clinimm.progress import Progress
from clinimm.workspace import Workspace

STAGE = "cohort"
#: Columns of ``events.parquet`` that the cohort needs; bytes and locators stay where they are.
_NEEDED = [
    "subject_id",
    "time",
    "code",
    "numeric_value",
    "unit",
    "text_value",
    "modality",
    "category",
    "flags",
    "attributes",
    "until",
]


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Write ``cohort/``: cohort, splits, task, flow and the cohort file as it was understood.

    ``flow.json`` is written even where the cohort is then refused, so that ``--explain`` can show
    where everybody went.

    Raises:
        ConfigError: the pipeline names no cohort file, or the file is wrong.
        DataError: nobody is left, nothing is known of them, or a split has one class only.
    """
    spec = load_cohort(cohort_file(workspace))
    progress.say(f"cohort {spec.name}: {spec.question}")
    events = pd.read_parquet(workspace.need("ingest", "events.parquet"), columns=_NEEDED)
    folder = workspace.stage(STAGE)
    selection = select(events, spec)
    write_text(folder / "flow.json", selection.flow.to_json())
    require_answerable(selection, events, spec)
    outcome = _share_out(workspace, selection, spec)
    write_text(folder / "flow.json", outcome.selection.flow.to_json())
    write_text(folder / "task.json", json.dumps(task(spec), indent=1) + "\n")
    write_text(folder / "spec.json", spec.model_dump_json(indent=1, exclude_unset=True) + "\n")
    _write_table(folder / "splits.parquet", outcome.splits)
    _write_table(folder / "cohort.parquet", outcome.selection.cohort)
    return _notes(outcome.selection)


def task(spec: CohortSpec) -> dict[str, Any]:
    """The content of ``task.json``."""
    return {"name": spec.label.task, "kind": spec.label.kind, "classes": classes(spec.label)}


def read_spec(folder: Path) -> CohortSpec:
    """The cohort file as the finished stage in ``folder`` understood it."""
    return CohortSpec.model_validate_json((folder / "spec.json").read_text(encoding="utf-8"))


def cohort_file(workspace: Workspace) -> Path:
    """The cohort file of the pipeline.

    Raises:
        ConfigError: the pipeline names none.
    """
    if workspace.config.cohort is None:
        raise ConfigError(
            f"pipeline {workspace.config.name} names no cohort: add `cohort: FILE` "
            "(pipelines/cohorts/demo.yaml is one to start from)."
        )
    return workspace.config.cohort


def outside_files(workspace: Workspace) -> list[Path]:
    """Every file outside the run that the stage reads, for the pipeline's digests.

    Raises:
        ConfigError: one of them is wrong or not there.
    """
    path = cohort_file(workspace)
    spec = load_cohort(path)
    if not isinstance(spec.split, FoldsFileSplit):
        return [path]
    return [path, find_folds_file(spec.split.path, path, _roots(workspace))]


@dataclass(frozen=True)
class _Outcome:
    selection: Selection
    splits: pd.DataFrame


def _share_out(workspace: Workspace, selection: Selection, spec: CohortSpec) -> _Outcome:
    folds = _given_folds(workspace, spec)
    cohort = selection.cohort
    splits = split(cohort, spec, workspace.config.seed, None if folds is None else folds.table)
    warnings = split_warnings(splits, cohort, spec)
    if folds is not None:
        warnings = [*_folds_warnings(folds, cohort), *warnings]
    flow = replace(
        selection.flow,
        split=split_summary(splits, cohort, spec),
        warnings=(*selection.flow.warnings, *warnings),
    )
    return _Outcome(Selection(_with_split(cohort, cohort_split(splits, cohort)), flow), splits)


def _with_split(cohort: pd.DataFrame, side: pd.Series) -> pd.DataFrame:
    table = cohort.copy()
    table.insert(list(table.columns).index("labelled") + 1, "split", side)
    return table


def _given_folds(workspace: Workspace, spec: CohortSpec) -> Folds | None:
    if not isinstance(spec.split, FoldsFileSplit):
        return None
    path = find_folds_file(spec.split.path, cohort_file(workspace), _roots(workspace))
    subjects = pd.read_parquet(workspace.need("ingest", "subjects.parquet"))
    pseudonymiser = load_pseudonymiser(workspace.config.ingest.pseudonym_key_file)
    return read_folds(path, subjects, pseudonymiser, spec.split.repeats)


def _folds_warnings(folds: Folds, cohort: pd.DataFrame) -> list[str]:
    found = []
    if folds.unknown:
        found.append(f"{folds.unknown} patients of the folds file are not in the data.")
    members = folds.table["subject_id"].drop_duplicates()
    unanswered = cohort.loc[~cohort["labelled"].to_numpy(dtype=bool), "subject_id"]
    if outside := int((~members.isin(cohort["subject_id"])).sum()):
        found.append(f"{outside} patients of the folds file are not in the cohort.")
    if silent := int(members.isin(unanswered).sum()):
        found.append(f"{silent} patients of the folds file have no known label.")
    return found


def _roots(workspace: Workspace) -> list[Path]:
    return [source.root for source in workspace.config.sources]


def _write_table(path: Path, table: pd.DataFrame) -> None:
    # pandas writes times with a zone as pyarrow's own conversion (25.0) can only do with a warning.
    first = io.BytesIO()
    table.to_parquet(first, index=False)
    arrow = pq.read_table(first)
    plain = [
        field.with_type(pa.string()) if pa.types.is_large_string(field.type) else field
        for field in arrow.schema
    ]
    buffer = io.BytesIO()
    pq.write_table(arrow.cast(pa.schema(plain, metadata=arrow.schema.metadata)), buffer)
    write_bytes(path, buffer.getvalue())


def _notes(selection: Selection) -> dict[str, Any]:
    flow = selection.flow
    return {
        "subjects": len(selection.cohort),
        "labelled": flow.label["labelled"],
        "classes": flow.label["classes"],
        "split": flow.split,
        "warnings": list(flow.warnings),
    }
