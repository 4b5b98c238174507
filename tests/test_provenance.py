"""The code version follows the source text, and that of plug-ins."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from clinimm import __version__, provenance


@pytest.fixture(autouse=True)
def _forget() -> None:
    provenance.code_version.cache_clear()


def test_version_and_digest() -> None:
    version, _, digest = provenance.code_version().partition("+")
    assert version == __version__
    assert len(digest) == 12


def test_plugin_is_part_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    plugin = tmp_path / "toy_plugin_of_provenance.py"
    plugin.write_text("MODALITY = 1\n")
    before = provenance.code_version((plugin.stem,))
    assert before != provenance.code_version()
    plugin.write_text("MODALITY = 2\n")
    provenance.code_version.cache_clear()
    assert provenance.code_version((plugin.stem,)) != before
    assert plugin.stem not in sys.modules


def test_plugin_package_counts_with_all_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    package = tmp_path / "toy_package_of_provenance"
    package.mkdir()
    (package / "__init__.py").write_text("")
    before = provenance.code_version((package.name,))
    (package / "reader.py").write_text("x = 1\n")
    provenance.code_version.cache_clear()
    assert provenance.code_version((package.name,)) != before


def test_absent_plugin_is_left_to_the_modality_table() -> None:
    assert provenance.code_version(("no_such_plugin_anywhere",)) == provenance.code_version()


def test_renamed_file_changes_it(tmp_path: Path) -> None:
    def digest(name: str) -> set[str]:
        folder = tmp_path / name.replace(".", "_")
        folder.mkdir()
        (folder / name).write_text("same")
        return {str(path.relative_to(folder)) for path in provenance._sources(folder)}

    assert digest("a.py") != digest("b.py")
    assert digest("c.txt") == set()
