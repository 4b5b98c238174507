"""A file is there whole, or the old one is; two writers do not get in each other's way."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from clinimm.core import durable
from clinimm.core.durable import write_durably


def test_content_and_name_are_on_the_disk_before_it_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def noting(handle: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{handle}").readlink()))
        real(handle)

    monkeypatch.setattr(durable.os, "fsync", noting)
    write_durably(tmp_path / "a" / "file", b"x")
    assert [Path(one).name.startswith(".file.") for one in synced] == [True, False]
    assert synced[1] == str(tmp_path / "a")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    write_durably(path, b"old")

    def full(*given: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(durable.os if step == "fsync" else Path, step, full)
    with pytest.raises(OSError, match="no space"):
        write_durably(path, b"new")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("file", b"old")]


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    contents = [bytes([number]) * 100_000 for number in range(16)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda content: write_durably(path, content), contents))
    assert path.read_bytes() in contents and len(list(tmp_path.iterdir())) == 1
