from pathlib import Path

import pytest

from clinimm.config import PipelineConfig, SourceConfig
from clinimm.core.errors import ConfigError, InputRejected
from clinimm.sources import build_sources
from clinimm.sources.local import LocalSource


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "export" / "b").mkdir(parents=True)
    (tmp_path / "export" / "a.txt").write_bytes(b"1")
    (tmp_path / "export" / "b" / "c.txt").write_bytes(b"22")
    (tmp_path / "secret.txt").write_bytes(b"not yours")
    return tmp_path / "export"


def test_files_come_in_order_of_their_path_with_size(root: Path) -> None:
    (root / "a").mkdir()
    (root / "a" / "z.txt").write_bytes(b"")
    listed = [(file.path, file.size) for file in LocalSource(root).files()]
    assert listed == [("a.txt", 1), ("a/z.txt", 0), ("b/c.txt", 2)]


def test_hidden_files_and_folders_are_left_out(root: Path) -> None:
    (root / ".DS_Store").write_bytes(b"x")
    (root / ".git").mkdir()
    (root / ".git" / "config").write_bytes(b"x")
    assert [file.path for file in LocalSource(root).files()] == ["a.txt", "b/c.txt"]


def test_links_out_of_the_folder_are_not_followed(root: Path) -> None:
    (root / "out.txt").symlink_to(root.parent / "secret.txt")
    (root / "up").symlink_to(root.parent)
    (root / "broken.txt").symlink_to(root / "nowhere")
    (root / "inside.txt").symlink_to(root / "a.txt")
    source = LocalSource(root)
    assert [file.path for file in source.files()] == ["a.txt", "b/c.txt", "inside.txt"]
    for path in ("out.txt", "../secret.txt", "up/secret.txt", str(root.parent / "secret.txt")):
        with pytest.raises(InputRejected, match="outside-root"):
            source.read(path)


def test_read_and_local_path_give_the_same_bytes(root: Path) -> None:
    source = LocalSource(root)
    assert source.read("b/c.txt") == source.local_path("b/c.txt").read_bytes() == b"22"


def test_an_absent_root_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a folder that exists"):
        list(LocalSource(tmp_path / "nothing").files())


def test_build_sources_hands_on_site_and_rules(root: Path) -> None:
    config = PipelineConfig(name="x", sources=(SourceConfig(root=root, site="north"),))
    (source,) = build_sources(config)
    assert source.site == "north"
    assert source.rules is config.ingest  # type: ignore[attr-defined]
