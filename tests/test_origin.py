"""A saved model knows its making: the rules, the settings, and whom it was fitted to."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from clinimm.cohort.spec import CohortSpec, load_cohort
from clinimm.config import IngestConfig, ModelConfig, PipelineConfig
from clinimm.core.errors import MissingStageError, ModelError
from clinimm.core.record import RunRecord
from clinimm.origin import KEY_INPUT, ORIGIN_NAME, Origin, read_origin, write_origin
from clinimm.workspace import Workspace
from tests.small_export import COHORT


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "cohort.yaml").write_text(COHORT)
    spec = load_cohort(tmp_path / "cohort.yaml")
    config = PipelineConfig(
        name="run",
        runs_dir=tmp_path / "runs",
        seed=3,
        model=ModelConfig(width=16),
        ingest=IngestConfig(
            timezone="Asia/Tokyo", workers=3, pseudonym_key_file=Path("/somewhere/secret.key")
        ),
    )
    workspace = Workspace(config)
    text = spec.model_dump_json(exclude_unset=True)
    (workspace.stage("cohort") / "spec.json").write_text(text)
    (workspace.stage("train") / "model").mkdir()
    return workspace


def _written(workspace: Workspace, subjects: list[str], digest: str = "d" * 64) -> Path:
    write_origin(workspace, subjects, digest)
    return workspace.root / "train" / "model"


def test_training_subjects_are_known_again_and_others_are_not(workspace: Workspace) -> None:
    origin = read_origin(_written(workspace, ["A", "B"]))
    assert origin.trained_on(["B", "C", "A", "a"]) == [True, False, True, False]


def test_no_pseudonym_stands_in_the_file_and_two_models_cannot_be_joined(workspace: Workspace) -> None:
    name = "QWERTYUIOPASDFGHJKLZXCVBNM"
    path = _written(workspace, [name]) / ORIGIN_NAME
    first = json.loads(path.read_text())["subjects"]
    assert name not in path.read_text()
    second = json.loads((_written(workspace, [name], "e" * 64) / ORIGIN_NAME).read_text())["subjects"]
    assert not set(first) & set(second)


def test_place_and_machine_are_not_told(workspace: Workspace, tmp_path: Path) -> None:
    text = (_written(workspace, ["A"]) / ORIGIN_NAME).read_text()
    assert str(tmp_path) not in text
    assert "secret.key" not in text
    assert "workers" not in json.loads(text)["settings"]["ingest"]


def test_equal_trainings_have_equal_files_in_any_order(workspace: Workspace) -> None:
    first = (_written(workspace, ["A", "B"]) / ORIGIN_NAME).read_bytes()
    assert (_written(workspace, ["B", "A"]) / ORIGIN_NAME).read_bytes() == first


def test_rules_and_settings_come_back_as_they_were(workspace: Workspace) -> None:
    origin = read_origin(_written(workspace, ["A"]))
    text = (workspace.root / "cohort" / "spec.json").read_text()
    assert origin.cohort == CohortSpec.model_validate_json(text)
    other = PipelineConfig(name="other", seed=9, model=ModelConfig(width=64))
    again = origin.of_the_model(other)
    assert (again.name, again.seed, again.model.width) == ("other", 3, 16)


@pytest.mark.parametrize(
    ("asked", "timezone"),
    [((), "Asia/Tokyo"), (("ingest.timezone=UTC",), "UTC"), (("ingest={timezone: UTC}",), "UTC")],
)
def test_exports_are_read_as_in_training_unless_asked(
    workspace: Workspace, asked: tuple[str, ...], timezone: str
) -> None:
    origin = read_origin(_written(workspace, ["A"]))
    now = PipelineConfig(name="now", ingest=IngestConfig(timezone="UTC", workers=7))
    read = origin.reading(now, asked).ingest
    assert (read.timezone, read.workers, read.pseudonym_key_file) == (timezone, 7, None)


def test_key_is_known_by_the_record_of_ingest(workspace: Workspace) -> None:
    assert read_origin(_written(workspace, ["A"])).key_fingerprint is None
    times = {"started": "2026-01-01T00:00:00+00:00", "finished": "2026-01-01T00:00:01+00:00"}
    record = RunRecord("ingest", {KEY_INPUT: "F"}, {}, {}, code_version="0", seed=0, cost={}, **times)
    record.write(workspace.stage("ingest"))
    assert read_origin(_written(workspace, ["A"])).key_fingerprint == "F"


def test_model_without_origin_or_with_another_form_is_refused(workspace: Workspace) -> None:
    folder = workspace.root / "train" / "model"
    with pytest.raises(MissingStageError, match=r"whom this model was fitted to.*clinimm train"):
        read_origin(folder)
    (folder / ORIGIN_NAME).write_text('{"schema": "clinimm.origin/9"}')
    with pytest.raises(ModelError, match=r"clinimm\.origin/9"):
        read_origin(folder)


def test_subjects_do_not_show_in_a_traceback(workspace: Workspace) -> None:
    origin: Origin = read_origin(_written(workspace, ["A"]))
    assert next(iter(origin.subjects)) not in repr(origin)
