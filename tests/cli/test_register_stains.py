"""The verb that lays one stain on another; what it writes is tested beside ``register_files``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from clinimm.cli.app import run


def test_a_missing_file_is_named_and_nothing_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        ["register-stains", str(tmp_path / "a.svs"), str(tmp_path / "b.svs"), "--out", str(tmp_path / "o")]
    )
    assert code == 2
    assert "a.svs: there is no such file" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_a_refused_pair_exits_2_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.png", "b.png"):
        Image.fromarray(np.full((64, 64, 3), 243, dtype=np.uint8)).save(tmp_path / name)
    files = [str(tmp_path / name) for name in ("a.png", "b.png")]
    assert run(["register-stains", *files, "--out", str(tmp_path / "out"), "--mpp-um", "0.5"]) == 2
    said = capsys.readouterr()
    assert "Refused for training, no-tissue" in said.out
    assert "overviews" in said.err
