from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
import pytest

from clinimm.cohort import stage
from clinimm.cohort.spec import load_cohort
from clinimm.config import PipelineConfig
from clinimm.core.errors import ConfigError, DataError, MissingStageError
from clinimm.core.record import digest_tree
from clinimm.progress import QUIET
from clinimm.workspace import Workspace

Rows = list[dict[str, Any]]
COHORTS = Path(__file__).parents[2] / "pipelines" / "cohorts"
COHORT = """\
name: tiny
question: Will it happen?
index: {modality: radiology, which: first}
label: {task: sick, code: outcome//sick, value: true, window: [0 d, 30 d]}
inputs: {ehr: {look_back: 30 d}, radiology: }
split: {kind: subject, fractions: {train: 0.5, tuning: 0.25, held_out: 0.25}}
"""


@pytest.fixture
def workspace(
    tmp_path: Path,
    event: Callable[..., dict[str, Any]],
    film: Callable[..., dict[str, Any]],
    table: Callable[[Rows], pd.DataFrame],
) -> Workspace:
    """Sixteen labelled subjects and one whose label is unknown, ingested."""
    path = tmp_path / "cohort.yaml"
    path.write_text(COHORT, encoding="utf-8")
    names = [f"s{number:02d}" for number in range(17)]
    rows = [film(name) for name in names]
    rows += [
        event(name, 3, "outcome//sick", category="outcome", numeric_value=int(name[1:]) % 2)
        for name in names[:16]
    ]
    config = PipelineConfig(name="run", runs_dir=tmp_path / "runs", cohort=path)
    workspace = Workspace(config)
    table(rows).to_parquet(workspace.stage("ingest") / "events.parquet", index=False)
    return workspace


def test_writes_what_the_other_stages_read(workspace: Workspace) -> None:
    notes = stage.run(workspace, QUIET)
    folder = workspace.root / "cohort"
    cohort = pd.read_parquet(folder / "cohort.parquet")
    assert list(cohort.columns)[:6] == ["subject_id", "index_time", "label", "labelled", "split", "site_id"]
    assert cohort["split"].value_counts().to_dict() == {
        "train": 8,
        "tuning": 4,
        "held_out": 4,
        "unlabelled": 1,
    }
    assert json.loads((folder / "task.json").read_text()) == {
        "name": "sick",
        "kind": "binary",
        "classes": ["sick"],
    }
    flow = json.loads((folder / "flow.json").read_text())
    assert flow["split"]["parts"][0]["subjects"] == 8
    assert notes["labelled"] == 16
    assert notes["classes"] == {"sick": 8, "not sick": 8}
    schema = pq.read_schema(folder / "cohort.parquet")
    assert (str(schema.field("subject_id").type), str(schema.field("index_time").type)) == (
        "string",
        "timestamp[us, tz=UTC]",
    )


def test_the_same_input_gives_the_same_bytes(workspace: Workspace) -> None:
    stage.run(workspace, QUIET)
    first = digest_tree(workspace.root / "cohort")
    stage.run(workspace, QUIET)
    assert digest_tree(workspace.root / "cohort") == first


def test_the_cohort_file_reads_back_from_the_run(workspace: Workspace) -> None:
    stage.run(workspace, QUIET)
    assert stage.read_spec(workspace.root / "cohort") == load_cohort(stage.cohort_file(workspace))


def test_an_empty_cohort_is_refused_and_its_flow_stays_to_be_read(workspace: Workspace) -> None:
    path = stage.cohort_file(workspace)
    path.write_text(COHORT.replace("modality: radiology", "modality: pathology"), encoding="utf-8")
    with pytest.raises(DataError, match="nobody is left"):
        stage.run(workspace, QUIET)
    flow = json.loads((workspace.root / "cohort" / "flow.json").read_text())
    assert flow["steps"][0]["after"] == 0


def test_names_what_is_missing(workspace: Workspace) -> None:
    none = Workspace(workspace.config.model_copy(update={"cohort": None}))
    with pytest.raises(ConfigError, match="names no cohort"):
        stage.run(none, QUIET)
    (workspace.root / "ingest" / "events.parquet").unlink()
    with pytest.raises(MissingStageError, match="clinimm ingest"):
        stage.run(workspace, QUIET)


@pytest.mark.parametrize(
    ("name", "subjects", "classes", "repeats"),
    [
        ("covid_cxr", 301, {"severe": 70, "not severe": 65}, 5),
        ("ham10000", 1600, {"malignant": 464, "not malignant": 1136}, 1),
    ],
)
def test_the_given_folds_of_the_test_data(
    test_data: Path,
    tmp_path: Path,
    export_tables: Callable[[Path], tuple[pd.DataFrame, pd.DataFrame]],
    name: str,
    subjects: int,
    classes: dict[str, int],
    repeats: int,
) -> None:
    root = test_data / name
    key = tmp_path / "key"
    key.write_bytes(b"0123456789abcdef-test")
    config = PipelineConfig.model_validate(
        {
            "name": name,
            "runs_dir": tmp_path,
            "sources": [{"root": root}],
            "cohort": COHORTS / f"{name}.yaml",
            "ingest": {"pseudonym_key_file": key},
        }
    )
    workspace = Workspace(config)
    events, people = export_tables(root)
    events.to_parquet(workspace.stage("ingest") / "events.parquet", index=False)
    people.to_parquet(workspace.stage("ingest") / "subjects.parquet", index=False)
    notes = stage.run(workspace, QUIET)
    assert (notes["subjects"], notes["classes"]) == (subjects, classes)
    assert stage.outside_files(workspace) == [COHORTS / f"{name}.yaml", root / "folds.csv"]
    splits = pd.read_parquet(workspace.root / "cohort" / "splits.parquet")
    assert len(splits) == subjects * repeats * 5
    held = splits[splits["split"] == "held_out"]
    given = pd.read_csv(root / "folds.csv")
    assert len(held) == (given["repeat"] < repeats).sum() == sum(classes.values()) * repeats
    assert (held.groupby(["subject_id", "repeat"]).size() == 1).all()
    assert "unused" not in set(splits["split"])
