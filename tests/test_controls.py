"""The metadata-only control: what it may see, and that a record-only cohort has it too."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from clinimm import controls
from clinimm.config import ModalityConfig, PipelineConfig
from clinimm.core.event import EVENT_COLUMNS
from clinimm.corpus import Corpus
from clinimm.modality import Encoded
from clinimm.progress import QUIET
from clinimm.tables import load_cohort
from clinimm.workspace import Workspace
from tests.toy import toy_modalities, toy_modality, toy_table

SUBJECTS = [f"s{number:02}" for number in range(40)]
INDEX = pd.Timestamp("2024-01-01", tz="UTC")
SPEC = {
    "name": "toy",
    "question": "Will it happen?",
    "index": {"code": "X//1"},
    "label": {"task": "toy", "code": "X//2", "value": True, "window": ["0 d", "1 d"]},
    "inputs": {"a": {}, "radiology": {}},
}


def workspace_in(folder: Path, sites: list[str | None], films: list[dict[str, Any]] = []) -> Workspace:  # noqa: B006  # read only
    """Forty subjects, every second one ill; in sites and with films as given."""
    workspace = Workspace(PipelineConfig(name="toy", runs_dir=folder))
    label = [float(number % 2) for number in range(len(SUBJECTS))]
    cohort = pd.DataFrame({"subject_id": SUBJECTS, "index_time": INDEX, "label": label, "site_id": sites})
    place = workspace.stage("cohort")
    cohort.to_parquet(place / "cohort.parquet")
    (place / "task.json").write_text(json.dumps({"name": "toy", "kind": "binary", "classes": ["toy"]}))
    (place / "spec.json").write_text(json.dumps(SPEC))
    sides = ["held_out" if number % 4 < 2 else "train" for number in range(len(SUBJECTS))]
    splits = pd.DataFrame({"subject_id": SUBJECTS, "repeat": 0, "fold": 0, "split": sides})
    splits.to_parquet(place / "splits.parquet")
    encoded = toy_table(SUBJECTS, np.zeros(len(SUBJECTS)), 0)
    target = workspace.stage("encode") / "a"
    target.mkdir()
    encoded.tokens.to_parquet(target / "tokens.parquet")
    np.save(target / "values.npy", encoded.values)
    (workspace.stage("encode") / "index.json").write_text("{}")
    events = pd.DataFrame(films, columns=[*EVENT_COLUMNS])
    text = {name: "str" for name, kind in EVENT_COLUMNS.items() if kind == "string"}
    times = {name: "datetime64[us, UTC]" for name, kind in EVENT_COLUMNS.items() if kind.startswith("time")}
    events.astype(text | times).to_parquet(workspace.stage("ingest") / "events.parquet")
    return workspace


def film(subject: str, days: int, **attributes: str) -> dict[str, Any]:
    return {
        "subject_id": subject,
        "time": INDEX - pd.Timedelta(days=days),
        "code": "DICOM//CR",
        "modality": "radiology",
        "category": "CR",
        "uri": "sealed:x",
        "attributes": json.dumps(attributes),
    }


def metadata_only(workspace: Workspace) -> pd.DataFrame:
    with toy_modalities():
        table = controls.control_predictions(
            workspace, Corpus.load(workspace.stage("encode")), load_cohort(workspace), QUIET
        )
    return table[table["control"] == "metadata_only"]


def test_a_record_only_cohort_of_several_sites_has_the_control(tmp_path: Path) -> None:
    rows = metadata_only(workspace_in(tmp_path, ["North", "South"] * 20))
    assert len(rows) == 20
    assert roc_auc_score(rows["label"], rows["probability"]) == 1.0


@pytest.mark.parametrize("site", ["North", None])
def test_one_site_for_all_tells_nothing_and_is_no_control(tmp_path: Path, site: str | None) -> None:
    assert metadata_only(workspace_in(tmp_path, [site] * 40)).empty


def test_it_sees_site_and_making_of_the_newest_image_and_not_how_many_there_are(tmp_path: Path) -> None:
    films = [
        film("s00", 1, view="PA", device="A", patient="x"),
        film("s00", 2, view="AP"),
        film("s01", -1, view="LL"),
        film("s39", 0, view="AP"),
    ]
    table = controls.image_metadata(workspace_in(tmp_path, ["North", None] * 20, films))
    assert sorted(table.columns) == ["radiology:device", "radiology:view", "site_id"]
    assert table.loc["s00"].tolist() == ["North", "PA", "A"]
    assert table.loc["s39"].isna().tolist() == [True, False, True]
    assert "s01" not in table.index
    assert len(table) == 21


def test_what_a_summary_learns_it_learns_from_training_subjects(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = workspace_in(tmp_path, [None] * len(SUBJECTS))
    asked: list[set[str]] = []

    def fit(encoded: Encoded, config: ModalityConfig) -> dict[str, Any]:
        asked.append(set(encoded.tokens["subject_id"]))
        return {}

    with toy_modalities():
        corpus, cohort = Corpus.load(workspace.stage("encode")), load_cohort(workspace)
        monkeypatch.setattr(
            controls, "get_modality", lambda name, plugins: replace(toy_modality(name), fit=fit)
        )
        controls.control_predictions(workspace, corpus, cohort, QUIET)
    assert asked == [{*cohort.fits[0].training, *cohort.fits[0].tuning}]
    assert not asked[0] & set(cohort.fits[0].held_out)
