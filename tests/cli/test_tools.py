"""The verbs around a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from clinimm import __version__
from clinimm.cli.app import run
from clinimm.nn.cache import TokenCache


def test_cache_is_shown_and_cleared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "cache"
    TokenCache(folder).encoder({"encoder": "toy"}).put("digest", {"values": np.zeros(3)})
    option = ["--set", f"runs_dir={tmp_path}"]
    assert run(["cache", *option]) == 0
    text = capsys.readouterr().out
    assert f"token cache {folder}: 1 entries" in text
    assert "toy" in text
    assert run(["cache", "--clear", *option]) == 0
    assert "1 entries removed" in capsys.readouterr().out
    assert TokenCache(folder).stats() == []


def test_version_names_the_source_that_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"clinimm {__version__}+")


def test_simulate_needs_at_least_one_patient(tmp_path: Path) -> None:
    assert run(["simulate", str(tmp_path / "h"), "--subjects", "0"]) == 2
