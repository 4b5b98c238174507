"""A target is a pipeline file, a run's folder, or a run's name."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from clinimm.cli.common import find_run, find_subject, load_target
from clinimm.core.errors import ConfigError, DataError
from clinimm.core.pseudonym import load_pseudonymiser
from clinimm.settings import write_settings
from clinimm.workspace import Workspace


@pytest.fixture
def pipeline_file(tmp_path: Path) -> Path:
    (tmp_path / "export").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "cohort.yaml").write_text("name: c\n")
    file = tmp_path / "p.yaml"
    file.write_text(
        f"name: first\nruns_dir: {tmp_path / 'runs'}\ncohort: cohort.yaml\n"
        f"sources: [{{kind: local, root: {tmp_path / 'export'}, site: A}}]\n"
    )
    return file


def test_data_replaces_the_sources_by_one_folder(pipeline_file: Path, tmp_path: Path) -> None:
    config = load_target(pipeline_file, data=tmp_path / "other")
    assert [source.root for source in config.sources] == [tmp_path / "other"]
    assert config.sources[0].site is None


def test_data_that_is_no_folder_is_refused(pipeline_file: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no such folder"):
        load_target(pipeline_file, data=tmp_path / "absent")


def test_settings_are_absolute_wherever_the_command_runs(
    pipeline_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = load_target(Path("p.yaml"), ["sources.0.root=export"])
    assert config.sources[0].root == tmp_path / "export"
    assert config.cohort == tmp_path / "cohort.yaml"


def test_run_speaks_for_itself_after_its_pipeline_file_is_gone(pipeline_file: Path, tmp_path: Path) -> None:
    config = load_target(pipeline_file, ["train.epochs=5"])
    write_settings(config, tmp_path / "runs" / "first")
    pipeline_file.unlink()
    (tmp_path / "cohort.yaml").unlink()
    moved = (tmp_path / "runs").rename(tmp_path / "elsewhere")
    again = load_target(moved / "first")
    assert again.train.epochs == 5
    assert again.runs_dir == moved
    assert again.cohort == moved / "first" / "cohort.yaml"
    assert again.sources == config.sources


def test_run_is_found_by_name_below_runs_dir(pipeline_file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_settings(load_target(pipeline_file), runs / "first")
    assert find_run(Path("first"), [f"runs_dir={runs}"]) == runs / "first"
    with pytest.raises(ConfigError, match=r"Runs in .* are: first\."):
        find_run(Path("second"), [f"runs_dir={runs}"])


def test_run_can_be_taken_up_under_another_name(pipeline_file: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    write_settings(load_target(pipeline_file), runs / "first")
    config = load_target(runs / "first", ["name=second"])
    assert Workspace(config).root == runs / "second"


def test_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not the folder of a run"):
        load_target(tmp_path)


@pytest.fixture
def workspace(pipeline_file: Path) -> Workspace:
    workspace = Workspace(load_target(pipeline_file))
    key = load_pseudonymiser(None)
    rows = [("S1", key.identifier("MRN1")), ("S2", key.identifier("7")), ("S3", key.identifier("7"))]
    table = pd.DataFrame(rows, columns=["subject_id", "identifier_hash"])
    table.to_parquet(workspace.stage("ingest") / "subjects.parquet")
    return workspace


def test_subject_is_found_by_pseudonym_and_by_identifier(workspace: Workspace) -> None:
    assert find_subject(workspace, "S1") == "S1"
    assert find_subject(workspace, "MRN1") == "S1"


def test_unknown_subject_is_refused_without_repeating_the_identifier(workspace: Workspace) -> None:
    with pytest.raises(DataError) as caught:
        find_subject(workspace, "MRN-SECRET")
    assert "MRN-SECRET" not in str(caught.value)


def test_identifier_of_two_issuers_asks_for_the_pseudonym(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="S2, S3"):
        find_subject(workspace, "7")
