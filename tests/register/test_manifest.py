"""The manifest notices every change to what a registered model stands on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from clinimm.cli.app import run
from clinimm.core.errors import IntegrityError
from clinimm.core.record import RunRecord, digest_file
from clinimm.register.manifest import MANIFEST_NAME, verify_manifest, write_manifest
from clinimm.workspace import Workspace


@pytest.fixture
def manifest(workspace: Workspace) -> Path:
    write_manifest(workspace, "m" * 64, "p" * 64)
    return workspace.root / "register" / MANIFEST_NAME


def test_untouched_run_verifies(workspace: Workspace, manifest: Path) -> None:
    found = verify_manifest(workspace.root, manifest)
    assert found.files["train/model/model.safetensors"] == digest_file(
        workspace.root / "train" / "model" / "model.safetensors"
    )
    assert {"audit/audit.json", "evaluate/metrics.json", "cohort.yaml", "pipeline.yaml"} <= set(found.files)
    assert found.policy_digest == "p" * 64
    assert set(found.records) == {"audit"}


@pytest.mark.parametrize(
    "name",
    [
        "train/model/model.safetensors",
        "train/model/origin.json",
        "audit/audit.json",
        "predict/predictions.parquet",
        "cohort.yaml",
    ],
)
@pytest.mark.parametrize("harm", ["altered", "deleted"])
def test_touched_file_is_named(workspace: Workspace, manifest: Path, name: str, harm: str) -> None:
    path = workspace.root / name
    if harm == "altered":
        path.write_bytes(path.read_bytes() + b" ")
    else:
        path.unlink()
    with pytest.raises(IntegrityError, match=name):
        verify_manifest(workspace.root, manifest)


def test_touched_manifest_is_refused(workspace: Workspace, manifest: Path) -> None:
    value = json.loads(manifest.read_text())
    value["manifest"]["model_digest"] = "x" * 64
    manifest.write_text(json.dumps(value))
    with pytest.raises(IntegrityError, match="changed after it was signed"):
        verify_manifest(workspace.root, manifest)


def test_record_counts_by_what_lasts(workspace: Workspace, manifest: Path) -> None:
    folder = workspace.root / "audit"
    record = RunRecord.read(folder)
    assert record is not None
    replace(record, started="later", cost={"wall_seconds": 9.0}).write(folder)
    verify_manifest(workspace.root, manifest)
    replace(record, seed=1).write(folder)
    with pytest.raises(IntegrityError, match=r"audit/record\.json"):
        verify_manifest(workspace.root, manifest)


@pytest.mark.parametrize("text", ["", "[]", '{"manifest": {}, "signature": {}}'])
def test_file_that_is_no_manifest_is_refused(workspace: Workspace, manifest: Path, text: str) -> None:
    manifest.write_text(text)
    with pytest.raises(IntegrityError, match="not a signed manifest"):
        verify_manifest(workspace.root, manifest)


def test_verb_says_who_signed(
    workspace: Workspace, manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["verify", str(workspace.root)]) == 0
    assert "files are as signed by key" in capsys.readouterr().out
    (workspace.root / "cohort.yaml").write_text("name: other\n")
    assert run(["verify", str(workspace.root)]) == 2
    assert "cohort.yaml" in capsys.readouterr().err


def test_run_that_was_never_registered_is_refused(workspace: Workspace) -> None:
    assert run(["verify", str(workspace.root)]) == 2
