from __future__ import annotations

from pathlib import Path

import pytest

from clinimm.audit.stage import run as run_audit
from clinimm.cli.app import run
from clinimm.progress import QUIET
from clinimm.settings import write_settings
from tests.audit.conftest import write_run


@pytest.fixture
def audited(tmp_path: Path) -> Path:
    """A run's folder with its audit."""
    workspace = write_run(tmp_path)
    write_settings(workspace.config, workspace.root)
    run_audit(workspace, QUIET)
    return workspace.root


def test_check_tells_the_same_evidence_from_other(audited: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["audit", str(audited), "--check"]) == 0
    assert "same evidence" in capsys.readouterr().out
    path = audited / "audit" / "audit.json"
    before = path.read_text()
    path.write_text(before.replace('"inconclusive"', '"pass"'))
    assert run(["audit", str(audited), "--check"]) == 4
    assert "audit.json differs" in capsys.readouterr().err
    assert path.read_text() != before, "a check writes nothing"


def test_check_sees_other_predictions(audited: Path) -> None:
    import pandas as pd

    path = audited / "predict" / "predictions.parquet"
    table = pd.read_parquet(path)
    table.loc[0, "probability"] = 0.999
    table.to_parquet(path)
    assert run(["audit", str(audited), "--check"]) == 4


def test_check_without_evidence_and_a_missing_export_exit_three(
    audited: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (audited / "audit" / "audit.html").unlink()
    assert run(["audit", str(audited), "--check"]) == 3
    assert run(["audit", str(audited), "--data", str(tmp_path / "absent")]) == 3
    assert "there is no such folder" in capsys.readouterr().err
