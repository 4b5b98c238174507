"""The train and predict stages on a small workspace of toy modalities."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from clinimm import fit, predict
from clinimm.config import PipelineConfig
from clinimm.core.errors import DataError, MissingStageError
from clinimm.core.event import EVENT_COLUMNS
from clinimm.core.prediction import PREDICTION_COLUMNS
from clinimm.model import FusionModel
from clinimm.progress import QUIET
from clinimm.workspace import Workspace
from tests.toy import toy_modalities, toy_table

SUBJECTS = [f"s{i:03d}" for i in range(90)]
COHORT = {
    "name": "toy",
    "question": "Does the toy work?",
    "index": {"modality": "radiology", "which": "first"},
    "label": {
        "task": "toy",
        "kind": "binary",
        "code": "outcome//toy",
        "value": True,
        "window": ["0 d", "30 d"],
        "absent": "unknown",
    },
    "inputs": {"a": {"look_back": "1 d"}, "b": {"look_back": "1 d"}},
    "split": {"kind": "subject", "fractions": {"train": 0.6, "tuning": 0.2, "held_out": 0.2}},
}


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    with toy_modalities():
        yield


def workspace_in(folder: Path, folds: int = 1, members: int = 1, **extra: object) -> Workspace:
    """Two modalities; the first shows the label. Every seventh subject lacks the second."""
    config = PipelineConfig.model_validate(
        {
            "name": "toy",
            "runs_dir": folder,
            "model": {"width": 16, "heads": 2, "latents": 4, "members": members},
            "train": {"epochs": 12, "learning_rate": 3e-3, "workers": 1, **extra},
        }
    )
    workspace = Workspace(config)
    label = np.arange(len(SUBJECTS)) % 3 == 0
    time = pd.Timestamp("2024-01-01", tz="UTC")
    cohort = pd.DataFrame({"subject_id": SUBJECTS, "index_time": time, "label": label.astype(float)})
    cohort.loc[cohort.index[-6:], "label"] = np.nan
    cohort.to_parquet(workspace.stage("cohort") / "cohort.parquet")
    (workspace.stage("cohort") / "task.json").write_text(
        json.dumps({"name": "toy", "kind": "binary", "classes": ["toy"]})
    )
    (workspace.stage("cohort") / "spec.json").write_text(json.dumps(COHORT))
    labelled = SUBJECTS[:-6]
    rows = []
    for fold in range(folds):
        for number, subject in enumerate(labelled):
            held = number % max(folds, 4) == fold
            side = "held_out" if held else "tuning" if number % 5 == 4 else "train"
            rows.append((subject, 0, fold, side))
        rows += [(subject, 0, fold, "unlabelled") for subject in SUBJECTS[-6:]]
    splits = pd.DataFrame(rows, columns=["subject_id", "repeat", "fold", "split"])
    splits.to_parquet(workspace.stage("cohort") / "splits.parquet")
    has_second = [s for i, s in enumerate(SUBJECTS) if i % 7]
    tables = {
        "a": toy_table(SUBJECTS, np.where(label, 2.0, -2.0), 0),
        "b": toy_table(has_second, np.zeros(len(has_second)), 1),
    }
    for name, encoded in tables.items():
        target = workspace.stage("encode") / name
        target.mkdir()
        encoded.tokens.to_parquet(target / "tokens.parquet")
        np.save(target / "values.npy", encoded.values)
    (workspace.stage("encode") / "index.json").write_text("{}")
    events = pd.DataFrame({column: pd.Series(dtype=object) for column in EVENT_COLUMNS})
    events.to_parquet(workspace.stage("ingest") / "events.parquet")
    return workspace


def test_a_plain_split_predicts_each_held_out_subject_once(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    fit.run(workspace, QUIET)
    predict.run(workspace, QUIET)
    table = pd.read_parquet(workspace.root / "predict" / "predictions.parquet")
    assert list(table.columns) == list(PREDICTION_COLUMNS)
    assert sorted(table["subject_id"]) == [s for i, s in enumerate(SUBJECTS[:-6]) if i % 4 == 0]
    assert roc_auc_score(table["label"], table["probability"]) > 0.9
    shipped = FusionModel.from_pretrained(workspace.root / "train" / "model")
    assert set(table["model_digest"]) == {shipped.digest}


def test_controls_and_subsets_cover_the_same_subjects(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    fit.run(workspace, QUIET)
    predict.run(workspace, QUIET)
    folder = workspace.root / "predict"
    whole = pd.read_parquet(folder / "predictions.parquet")
    controls = pd.read_parquet(folder / "controls.parquet")
    expected = {"single:a", "single:b", "linear:a", "linear:b", "late_fusion", "gradient_boosting"}
    assert set(controls["control"]) == expected | {"missingness_only"}
    for _, rows in controls.groupby("control"):
        assert sorted(rows["subject_id"]) == sorted(whole["subject_id"])
    informative = controls[controls["control"] == "linear:a"]
    useless = controls[controls["control"] == "missingness_only"]
    assert roc_auc_score(informative["label"], informative["probability"]) > 0.95
    assert roc_auc_score(useless["label"], useless["probability"]) < 0.8
    subsets = pd.read_parquet(folder / "subsets.parquet")
    assert set(subsets["subset"]) == {"a", "b", "a+b"}
    without = {s for i, s in enumerate(SUBJECTS) if i % 7 == 0}
    assert not without & set(subsets.loc[subsets["subset"] == "b", "subject_id"])
    nothing = pd.read_parquet(folder / "nothing.parquet")
    assert sorted(nothing["subject_id"]) == sorted(whole["subject_id"])
    spread = nothing["probability"].max() - nothing["probability"].min()
    assert spread < 1e-6, "a model that sees nothing tells nobody apart"
    assert set(nothing["modalities_present"]) == {"none"}


def test_cross_validation_holds_every_labelled_subject_out_once_and_ships_a_refit(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path, folds=4, members=2, epochs=2)
    notes = fit.run(workspace, QUIET)
    predict.run(workspace, QUIET)
    table = pd.read_parquet(workspace.root / "predict" / "predictions.parquet")
    assert sorted(table["subject_id"]) == SUBJECTS[:-6]
    assert notes["model_digest"] not in set(table["model_digest"])
    assert table.groupby("fold")["model_digest"].nunique().eq(1).all()
    tuning = pd.read_parquet(workspace.root / "predict" / "tuning.parquet")
    for fold, rows in tuning.groupby("fold"):
        held = set(table.loc[table["fold"] == fold, "subject_id"])
        assert not held & set(rows["subject_id"])
        assert len(rows) == len(SUBJECTS) - 6 - len(held)


def test_finished_models_are_kept_and_another_plan_forgets_them(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path, epochs=1)
    first = fit.run(workspace, QUIET)["model_digest"]
    done = workspace.root / "train" / "fits" / "r0-f0" / "done"
    written = done.stat().st_mtime_ns
    fit.run(workspace, QUIET)
    assert done.stat().st_mtime_ns == written
    changed = workspace.config.model_copy(update={"seed": 7})
    assert fit.run(Workspace(changed), QUIET)["model_digest"] != first


def test_without_a_known_label_it_says_so(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path)
    path = workspace.root / "cohort" / "cohort.parquet"
    pd.read_parquet(path).assign(label=np.nan).to_parquet(path)
    with pytest.raises(DataError, match="no subject of the cohort has a known label"):
        fit.run(workspace, QUIET)


def test_models_of_another_split_are_not_asked_about_todays_held_out_subjects(tmp_path: Path) -> None:
    workspace = workspace_in(tmp_path, epochs=1)
    fit.run(workspace, QUIET)
    path = workspace.root / "cohort" / "splits.parquet"
    splits = pd.read_parquet(path)
    swapped = splits["split"].replace({"train": "held_out", "held_out": "train"})
    splits.assign(split=swapped).to_parquet(path)
    with pytest.raises(MissingStageError, match="may have seen the held-out subjects"):
        predict.run(workspace, QUIET)
