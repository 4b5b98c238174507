"""A saved model on an export without labels: predictions, and no figure that cannot be known."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from clinimm.config import PipelineConfig, SourceConfig
from clinimm.core.errors import ConfigError, DataError, MissingStageError
from clinimm.progress import QUIET
from clinimm.score import Bundle, load_bundle, score_export, select_everybody, write_bundle
from clinimm.validate import _judge, _name, validate_run
from clinimm.workspace import Workspace
from tests.small_export import COHORT, write_export


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "cohort.yaml").write_text(COHORT)
    write_export(tmp_path / "export", patients=6)
    sources = (SourceConfig(root=tmp_path / "export"),)
    config = PipelineConfig(
        name="run", runs_dir=tmp_path / "runs", sources=sources, cohort=tmp_path / "cohort.yaml"
    )
    return Workspace(config.model_copy(update={"ingest": config.ingest.model_copy(update={"workers": 1})}))


def _ingest(workspace: Workspace) -> None:
    from clinimm.ingest.stage import run

    run(workspace, QUIET)


def test_everybody_is_held_out_and_nobody_needs_a_label(workspace: Workspace) -> None:
    observations = workspace.config.sources[0].root / "Observation.ndjson"
    lines = [line for line in observations.read_text().splitlines() if '"outcome"' not in line]
    observations.write_text("\n".join(lines) + "\n")
    _ingest(workspace)
    notes = select_everybody(workspace, QUIET)
    cohort = pd.read_parquet(workspace.root / "cohort" / "cohort.parquet")
    splits = pd.read_parquet(workspace.root / "cohort" / "splits.parquet")
    assert notes == {"subjects": 6, "labelled": 0}
    assert set(cohort["split"]) == set(splits["split"]) == {"held_out"}
    assert cohort["label"].isna().all()


def test_export_that_nobody_belongs_to_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "cohort.yaml").write_text(COHORT.replace("LOINC//2160-0", "LOINC//9999-9"))
    _ingest(workspace)
    with pytest.raises(DataError, match=r"nobody in the export meets the rules of cohort small"):
        select_everybody(workspace, QUIET)


def test_figures_without_labels_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    table = pd.DataFrame({"subject_id": ["A"], "label": [float("nan")], "probability": [0.5]})
    table.to_parquet(tmp_path / "predictions.parquet")
    with pytest.raises(DataError, match="1 subjects, and the label of none is known"):
        _judge(workspace.config, tmp_path / "predictions.parquet", tmp_path)


def test_run_without_model_and_absent_folder_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match="clinimm train"):
        validate_run(workspace.config, tmp_path / "export", QUIET)
    with pytest.raises(ConfigError, match="no such folder"):
        score_export(Bundle(workspace.config, tmp_path), tmp_path / "absent", tmp_path / "place", QUIET)


def test_bundle_can_be_moved_and_names_no_source(workspace: Workspace, tmp_path: Path) -> None:
    model = workspace.stage("train") / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    write_bundle(workspace, tmp_path / "bundle")
    moved = (tmp_path / "bundle").rename(tmp_path / "moved")
    (tmp_path / "cohort.yaml").unlink()
    bundle = load_bundle(moved)
    assert bundle.config.sources == ()
    assert bundle.config.cohort == moved / "cohort.yaml"
    assert (bundle.model / "config.json").is_file()
    assert str(tmp_path / "export") not in (moved / "pipeline.yaml").read_text()


def test_exports_of_one_name_have_different_places(tmp_path: Path) -> None:
    assert _name(tmp_path / "a" / "export") != _name(tmp_path / "b" / "export")
    assert _name(tmp_path / ".hidden name").startswith("hidden_name-")
