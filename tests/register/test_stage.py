"""Registration in a real MLflow store on SQLite."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

import pandas as pd
import pytest

from clinimm.core.bundle import files_of
from clinimm.core.errors import AuditGateError, DataError, IntegrityError, MissingStageError
from clinimm.core.keys import as_text, load_private
from clinimm.core.sign import own_key
from clinimm.origin import read_origin
from clinimm.progress import QUIET
from clinimm.register import stage
from clinimm.register.artifact import read_artifact
from clinimm.register.manifest import MANIFEST_NAME, verify_manifest
from clinimm.register.mlflow import attach_reports, metrics, parameters, tracking_uri
from clinimm.register.registration import Registration, last_candidate
from clinimm.workspace import Workspace
from tests.register.conftest import write_audit

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(autouse=True)
def _store(workspace: Workspace, empty_store: Path) -> None:
    shutil.copy(empty_store, workspace.config.runs_dir / "mlflow.db")


@pytest.fixture
def registered(workspace: Workspace) -> Registration:
    stage.run(workspace, QUIET)
    found = Registration.read(workspace.root / "register")
    assert found is not None
    return found


def _client(workspace: Workspace) -> "mlflow.MlflowClient":
    return mlflow.MlflowClient(tracking_uri(workspace), tracking_uri(workspace))


def test_run_model_and_documents_are_there(workspace: Workspace, registered: Registration) -> None:
    client = _client(workspace)
    assert registered.candidate and registered.source == f"models:/{registered.model_id}"
    assert client.get_logged_model(registered.model_id).source_run_id == registered.run_id
    run = client.get_run(registered.run_id)
    assert run.data.params["train.epochs"] == "60"
    assert run.data.metrics["fused.auroc.value"] == 0.9
    assert run.data.metrics["controls.single:ehr.auroc.value"] == 0.7
    names = {item.path for item in client.list_artifacts(registered.run_id, "evaluate/figures")}
    assert names == {"evaluate/figures/roc.svg"}
    verify_manifest(workspace.root, workspace.root / "register" / MANIFEST_NAME)


def test_every_file_that_mlflow_keeps_is_signed(workspace: Workspace, registered: Registration) -> None:
    own = as_text(load_private(own_key()).public_key())
    signed = read_artifact(workspace.root / "register", [own])
    place = Path(
        url2pathname(
            urlsplit(_client(workspace).get_logged_model(registered.model_id).artifact_location).path
        )
    )
    assert signed.files == files_of(place)
    assert {"MLmodel", "requirements.txt", "pyfunc_model.py"} <= signed.files.keys()
    assert signed.manifest == registered.manifest_digest
    with pytest.raises(IntegrityError, match="nobody here vouches"):
        read_artifact(workspace.root / "register", [])


def test_nothing_is_registered_before_it_is_approved(workspace: Workspace, registered: Registration) -> None:
    assert _client(workspace).search_registered_models() == []
    assert "gate status hand" in registered.sentence


def test_bill_of_materials_is_signed_and_tracked(workspace: Workspace, registered: Registration) -> None:
    manifest = verify_manifest(workspace.root, workspace.root / "register" / MANIFEST_NAME)
    assert "register/sbom.cdx.json" in manifest.files
    names = {item.path for item in _client(workspace).list_artifacts(registered.run_id, "register")}
    assert "register/sbom.cdx.json" in names
    assert list((workspace.config.runs_dir / "mlartifacts").rglob("bundle/sbom.cdx.json"))


def test_everything_lies_in_the_runs_folder(workspace: Workspace, registered: Registration) -> None:
    runs = workspace.config.runs_dir
    assert (runs / "mlflow.db").is_file()
    assert list((runs / "mlartifacts" / "hand").rglob("model.safetensors"))


def test_nothing_is_pickled(workspace: Workspace, registered: Registration) -> None:
    suffixes = {path.suffix for path in workspace.config.runs_dir.rglob("*") if path.is_file()}
    assert suffixes.isdisjoint({".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin"})
    text = next((workspace.config.runs_dir / "mlartifacts").rglob("MLmodel")).read_text()
    assert "python_model" not in text
    assert "model_code_path" in text


def test_model_that_broke_the_policy_is_tracked_and_no_candidate(workspace: Workspace) -> None:
    write_audit(workspace, 1)
    assert stage.run(workspace, QUIET) == {"candidate": "no"}
    found = Registration.read(workspace.root / "register")
    assert found is not None and not found.candidate
    assert _client(workspace).get_run(found.run_id).data.metrics["n"] == 2
    assert "policy broken" in found.sentence


def test_model_without_audit_is_not_registered(workspace: Workspace) -> None:
    (workspace.root / "audit" / "audit.json").unlink()
    with pytest.raises(AuditGateError):
        stage.run(workspace, QUIET)
    assert _client(workspace).search_registered_models() == []


def test_audit_of_other_predictions_does_not_count(workspace: Workspace) -> None:
    table = pd.read_parquet(workspace.root / "predict" / "predictions.parquet")
    table.assign(probability=0.5).to_parquet(workspace.root / "predict" / "predictions.parquet")
    with pytest.raises(AuditGateError, match=r"another predict/predictions\.parquet"):
        stage.run(workspace, QUIET)


def test_run_without_model_is_refused(workspace: Workspace) -> None:
    shutil.rmtree(workspace.root / "train" / "model")
    with pytest.raises(MissingStageError, match="clinimm train"):
        stage.run(workspace, QUIET)


def test_model_card_joins_the_tracked_run(workspace: Workspace, registered: Registration) -> None:
    attach_reports(workspace)
    card = workspace.stage("report") / "model_card.html"
    card.write_text("<html/>")
    attach_reports(workspace)
    names = {item.path for item in _client(workspace).list_artifacts(registered.run_id, "report")}
    assert names == {"report/model_card.html"}


def test_last_candidate_is_found_and_a_refused_one_is_not(
    workspace: Workspace, registered: Registration
) -> None:
    runs = workspace.config.runs_dir
    assert last_candidate(runs) == workspace.root
    value = json.loads((workspace.root / "register" / "registration.json").read_text())
    (workspace.root / "register" / "registration.json").write_text(json.dumps(value | {"candidate": False}))
    with pytest.raises(DataError, match="no run in"):
        last_candidate(runs)


def test_registration_of_a_version_without_a_gate_counts_as_none(
    workspace: Workspace, registered: Registration
) -> None:
    path = workspace.root / "register" / "registration.json"
    value = json.loads(path.read_text())
    del value["candidate"]
    path.write_text(json.dumps(value | {"alias": "candidate", "version": 1}))
    assert Registration.read(workspace.root / "register") is None


def test_parameters_name_no_place_on_this_machine(workspace: Workspace) -> None:
    values = parameters(workspace)
    assert str(workspace.config.runs_dir.parent) not in json.dumps(values)
    assert values["model.width"] == "64"


def test_metrics_are_finite_numbers_only(workspace: Workspace) -> None:
    assert metrics(workspace) == {
        "n": 2.0,
        "fused.auroc.value": 0.9,
        "controls.single:ehr.auroc.value": 0.7,
    }


def test_loaded_model_scores_exports_without_unpickling(
    workspace: Workspace,
    registered: Registration,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from clinimm import score

    seen: list[Path] = []

    def scored(bundle: score.Bundle, export: Path, place: Path, progress: object) -> score.Scored:
        seen.append(export)
        assert (bundle.model / "model.safetensors").read_bytes() == b"weights"
        assert read_origin(bundle.model).trained_on(["A", "S"]) == [True, False]
        row = {"subject_id": "S", "task": "t", "class_name": "t", "modalities_present": "ehr"}
        values = {"probability": 0.25, "model_digest": "d", "index_time": pd.Timestamp(0, tz="UTC")}
        rows = [row | values | {"split": split} for split in ("held_out", score.TRAINED_ON)]
        known = export == tmp_path
        pd.DataFrame(rows if known else rows[:1]).to_parquet(place / "predictions.parquet")
        return score.Scored(place / "predictions.parquet", score.Overlap(2, 1 if known else None))

    monkeypatch.setattr(score, "score_export", scored)
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    mlflow.set_tracking_uri(tracking_uri(workspace))
    try:
        model = mlflow.pyfunc.load_model(registered.source)
    finally:
        mlflow.set_tracking_uri(None)
    answer = model.predict(pd.DataFrame({"export": [str(tmp_path), str(tmp_path / "b")]}))
    assert seen == [tmp_path, tmp_path / "b"]
    assert list(answer["probability"]) == [0.25] * 3
    assert list(answer["export"]) == [str(tmp_path), str(tmp_path), str(tmp_path / "b")]
    assert list(answer["trained_on"]) == ["no", "yes", "unknown"]
    assert answer["index_time"][0] == "1970-01-01T00:00:00+00:00"
