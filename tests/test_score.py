"""A saved model on another export: as it was trained, and no figure that cannot be known."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from clinimm.cohort.spec import load_cohort
from clinimm.config import ModalityConfig, PipelineConfig, SourceConfig, load_pipeline
from clinimm.core.errors import ConfigError, DataError, MissingStageError, ModelError
from clinimm.origin import Origin
from clinimm.pipeline import run_pipeline, run_stage
from clinimm.progress import QUIET, Progress
from clinimm.score import (
    Bundle,
    Overlap,
    Scored,
    _write_rules,
    load_bundle,
    score_export,
    select_everybody,
    write_bundle,
)
from clinimm.validate import METRICS_NAME, _judge, _name, validate_run
from clinimm.workspace import Workspace
from tests.small_export import COHORT, write_export, write_project

pytestmark = pytest.mark.xdist_group("score")  # what all of them share is made once


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    (tmp_path / "cohort.yaml").write_text(COHORT)
    write_export(tmp_path / "export", patients=6)
    sources = (SourceConfig(root=tmp_path / "export"),)
    config = PipelineConfig(
        name="run", runs_dir=tmp_path / "runs", sources=sources, cohort=tmp_path / "cohort.yaml"
    )
    return Workspace(config.model_copy(update={"ingest": config.ingest.model_copy(update={"workers": 1})}))


def _ingest(workspace: Workspace) -> None:
    from clinimm.ingest.stage import run

    run(workspace, QUIET)


def test_everybody_is_held_out_and_nobody_needs_a_label(workspace: Workspace) -> None:
    observations = workspace.config.sources[0].root / "Observation.ndjson"
    lines = [line for line in observations.read_text().splitlines() if '"outcome"' not in line]
    observations.write_text("\n".join(lines) + "\n")
    _ingest(workspace)
    notes = select_everybody(workspace, QUIET)
    cohort = pd.read_parquet(workspace.root / "cohort" / "cohort.parquet")
    splits = pd.read_parquet(workspace.root / "cohort" / "splits.parquet")
    assert notes == {"subjects": 6, "labelled": 0}
    assert set(cohort["split"]) == set(splits["split"]) == {"held_out"}
    assert cohort["label"].isna().all()


def test_export_that_nobody_belongs_to_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "cohort.yaml").write_text(COHORT.replace("LOINC//2160-0", "LOINC//9999-9"))
    _ingest(workspace)
    with pytest.raises(DataError, match=r"nobody in the export meets the rules of cohort small"):
        select_everybody(workspace, QUIET)


def _scored(folder: Path, label: float, split: str) -> Scored:
    row = {"subject_id": "A", "label": label, "probability": 0.5, "split": split}
    pd.DataFrame([row]).to_parquet(folder / "predictions.parquet")
    return Scored(folder / "predictions.parquet", Overlap(1, int(split == "trained_on")))


def test_figures_without_labels_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="1 subjects whom the model was not fitted to, and the label of none"):
        _judge(workspace.config, _scored(tmp_path, float("nan"), "held_out"), tmp_path)


def test_figures_on_training_subjects_alone_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"all 1 subjects .* training or tuning pool: .* other patients"):
        _judge(workspace.config, _scored(tmp_path, 1.0, "trained_on"), tmp_path)


def test_run_without_model_is_refused(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(MissingStageError, match="clinimm train"):
        validate_run(workspace.config, tmp_path / "export", QUIET)
    with pytest.raises(ConfigError, match="no such folder"):
        score_export(Bundle(workspace.config, tmp_path), tmp_path / "absent", tmp_path / "place", QUIET)


def test_what_was_known_is_said_in_words() -> None:
    assert Overlap(30, 0).sentence == "none of 30 subjects was in the model's training or tuning pool"
    assert Overlap(30, 7).sentence.startswith("7 of 30 subjects were in the model's training or tuning pool")
    assert "nobody can tell which of 30 subjects" in Overlap(30, None).sentence


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pipeline file of a run that was trained on 24 patients and a few epochs."""
    file = write_project(tmp_path_factory.mktemp("trained"), patients=24, epochs=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.getbasetemp() / "config"))
        run_pipeline(load_pipeline(file, ["train.workers=1"]), until_stage="train", progress=QUIET)
    return file


@pytest.fixture
def run(trained: Path) -> Workspace:
    return Workspace(load_pipeline(trained, ["train.workers=1"]))


def _pool(run: Workspace) -> set[str]:
    splits = pd.read_parquet(run.root / "cohort" / "splits.parquet")
    return set(splits.loc[splits["split"].isin(["train", "tuning"]), "subject_id"])


def _overlapping(folder: Path, old: int, new: int) -> Path:
    """An export of ``old`` of the training export's patients and ``new`` others."""
    write_export(folder / "a", patients=old)
    write_export(folder / "b", patients=new, seed=1)
    return folder


def test_training_subjects_are_counted_and_left_out(run: Workspace, tmp_path: Path) -> None:
    found = validate_run(run.config, _overlapping(tmp_path / "export", 24, 10), QUIET)
    table = pd.read_parquet(found.predictions)
    known = set(table.loc[table["split"] == "trained_on", "subject_id"])
    assert known == _pool(run)
    assert found.overlap == Overlap(34, len(known))
    assert found.metrics["n"] == 34 - len(known)
    assert f"n = {34 - len(known)} " in found.line
    kept = json.loads((found.predictions.parents[1] / METRICS_NAME).read_text())
    assert kept["overlap"] == {
        "subjects": 34,
        "trained_on": len(known),
        "sentence": found.overlap.sentence,
    }


def test_other_patients_are_all_judged(run: Workspace, tmp_path: Path) -> None:
    write_export(tmp_path / "export", patients=10, seed=1)
    found = validate_run(run.config, tmp_path / "export", QUIET)
    assert found.overlap == Overlap(10, 0)
    assert found.metrics["n"] == 10


def test_export_of_training_subjects_alone_is_refused_and_leaves_no_figure(
    run: Workspace, tmp_path: Path
) -> None:
    export = _overlapping(tmp_path / "export", 24, 4)
    place = validate_run(run.config, export, QUIET).predictions.parents[1]
    assert (place / METRICS_NAME).is_file()
    pool, others = _pool(run), set(pd.read_parquet(place / "predict" / "predictions.parquet")["subject_id"])
    origin = json.loads((run.root / "train" / "model" / "origin.json").read_text())
    from clinimm.origin import _hash

    origin["subjects"] = sorted(_hash(one, origin["model_digest"]) for one in pool | others)
    copy = shutil.copytree(run.root, tmp_path / "runs" / "small")
    (copy / "train" / "model" / "origin.json").write_text(json.dumps(origin))
    again = run.config.model_copy(update={"runs_dir": tmp_path / "runs"})
    with pytest.raises(DataError, match="all 28 subjects"):
        validate_run(again, export, QUIET)
    (left,) = (one for one in (copy / "validate").iterdir() if one.name == place.name)
    assert not (left / METRICS_NAME).exists()
    assert (left / "predict" / "predictions.parquet").is_file()


def test_under_another_key_nobody_can_tell(
    run: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINIMM_PSEUDONYM_KEY", "another key of some length")
    found = validate_run(run.config, _overlapping(tmp_path / "export", 24, 10), QUIET)
    assert found.overlap == Overlap(34, None)
    assert found.metrics["overlap"]["trained_on"] is None
    assert "another pseudonym key" in found.overlap.sentence


def test_bundle_knows_whom_its_model_was_fitted_to_without_the_run(run: Workspace, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "bundle")
    moved = (tmp_path / "bundle").rename(tmp_path / "moved")
    scored = score_export(
        load_bundle(moved), _overlapping(tmp_path / "export", 24, 10), tmp_path / "place", QUIET
    )
    assert scored.overlap == Overlap(34, len(_pool(run)))


def test_model_of_another_folder_is_refused(run: Workspace, tmp_path: Path) -> None:
    write_bundle(run, tmp_path / "bundle")
    path = tmp_path / "bundle" / "model" / "origin.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"model_digest": "0" * 64}))
    write_export(tmp_path / "export", patients=4, seed=1)
    with pytest.raises(ModelError, match="do not belong together"):
        score_export(load_bundle(tmp_path / "bundle"), tmp_path / "export", tmp_path / "place", QUIET)


def _with_other_settings(run: Workspace, folder: Path) -> Workspace:
    """The run, after somebody saved other settings and another cohort file into its folder."""
    copy = Workspace(run.config.model_copy(update={"runs_dir": folder / "runs"}))
    shutil.copytree(run.root, copy.root)
    other = COHORT.replace("which: first", "which: last").replace("365 d", "1 min")
    (folder / "cohort.yaml").write_text(other)
    config = copy.config.model_copy(
        update={
            "cohort": folder / "cohort.yaml",
            "seed": 5,
            "modalities": {"notes": ModalityConfig(enabled=False)},
            "ingest": copy.config.ingest.model_copy(update={"timezone": "Asia/Tokyo"}),
        }
    )
    run_stage(config, "ingest", QUIET)
    run_stage(config, "cohort", QUIET)
    return Workspace(config)


def test_validation_is_that_of_the_training_whatever_was_saved_since(run: Workspace, tmp_path: Path) -> None:
    write_export(tmp_path / "export", patients=10, seed=1)
    before = validate_run(run.config, tmp_path / "export", QUIET)
    changed = _with_other_settings(run, tmp_path)
    after = validate_run(changed.config, tmp_path / "export", QUIET)
    pd.testing.assert_frame_equal(pd.read_parquet(after.predictions), pd.read_parquet(before.predictions))
    assert after.metrics == before.metrics
    spec = load_cohort(after.predictions.parents[1] / "cohort.yaml")
    assert spec.index.which == "first"


def test_settings_that_are_not_the_training_s_are_named(
    run: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_export(tmp_path / "export", patients=6, seed=1)
    config = run.config.model_copy(update={"seed": 5, "modalities": {"notes": ModalityConfig(enabled=False)}})
    validate_run(config, tmp_path / "export", Progress())
    assert "settings of seed, modalities are not those of the training" in capsys.readouterr().err


@pytest.mark.parametrize("override", ["modalities.ehr.max_tokens=3", "seed=4", "cohort=other.yaml"])
def test_validation_cannot_be_asked_for_another_model(run: Workspace, tmp_path: Path, override: str) -> None:
    with pytest.raises(ConfigError, match="under the settings and the cohort that it was trained under"):
        validate_run(run.config, tmp_path, QUIET, [override])


def test_bundle_is_that_of_the_training_and_names_no_source(run: Workspace, tmp_path: Path) -> None:
    write_bundle(_with_other_settings(run, tmp_path), tmp_path / "bundle")
    moved = (tmp_path / "bundle").rename(tmp_path / "moved")
    bundle = load_bundle(moved)
    assert bundle.config.sources == ()
    assert (bundle.config.seed, bundle.config.modalities) == (run.config.seed, run.config.modalities)
    assert bundle.config.ingest.timezone == "UTC"
    assert str(tmp_path) not in (moved / "pipeline.yaml").read_text()
    write_export(tmp_path / "other", patients=6, seed=1)
    score_export(bundle, tmp_path / "other", tmp_path / "place", QUIET)
    assert load_cohort(tmp_path / "place" / "cohort.yaml").index.which == "first"


def test_key_file_that_is_not_on_this_machine_is_no_hindrance(run: Workspace, tmp_path: Path) -> None:
    ingest = run.config.ingest.model_copy(update={"pseudonym_key_file": tmp_path / "absent.key"})
    write_bundle(Workspace(run.config.model_copy(update={"ingest": ingest})), tmp_path / "bundle")
    assert load_bundle(tmp_path / "bundle").config.ingest.pseudonym_key_file is None


def test_cross_validated_model_was_fitted_to_every_labelled_subject(tmp_path: Path) -> None:
    file = write_project(tmp_path, patients=24, epochs=1)
    text = (tmp_path / "cohort.yaml").read_text()
    folds = "split: {kind: repeated_group_k_fold, repeats: 1, folds: 2}"
    (tmp_path / "cohort.yaml").write_text(re.sub(r"split: .*", folds, text))
    config = load_pipeline(file, ["train.workers=1"])
    run_pipeline(config, until_stage="train", progress=QUIET)
    with pytest.raises(DataError, match=r"all 24 subjects .* training or tuning pool"):
        validate_run(config, tmp_path / "export", QUIET)


def test_folds_file_of_the_training_is_not_looked_for_elsewhere(tmp_path: Path) -> None:
    file = write_project(tmp_path, patients=24, epochs=1)
    rows = [f"MRN-p0-{number},0,{number // 2 % 2}" for number in range(24)]
    (tmp_path / "folds.csv").write_text("\n".join(["patient_id,repeat,fold", *rows]) + "\n")
    text = (tmp_path / "cohort.yaml").read_text()
    (tmp_path / "cohort.yaml").write_text(
        re.sub(r"split: .*", "split: {kind: folds_file, path: folds.csv}", text)
    )
    config = load_pipeline(file, ["train.workers=1"])
    run_pipeline(config, until_stage="train", progress=QUIET)
    (tmp_path / "folds.csv").unlink()
    write_export(tmp_path / "other", patients=10, seed=1)
    assert validate_run(config, tmp_path / "other", QUIET).metrics["n"] == 10


def test_rules_come_back_from_the_file_whatever_language_they_are_in(tmp_path: Path) -> None:
    text = COHORT.replace("get worse", 'get "worse", é 悪化 \U0001f600 \\')
    (tmp_path / "given.yaml").write_text(text + "inclusion: [{name: n, code: x, value: {min: 1.0e-7}}]\n")
    spec = load_cohort(tmp_path / "given.yaml")
    origin = Origin("d", PipelineConfig(name="x"), spec, None, frozenset())
    again = load_cohort(_write_rules(origin, tmp_path))
    assert again == spec.model_copy(update={"split": again.split})


def test_exports_of_one_name_have_different_places(tmp_path: Path) -> None:
    assert _name(tmp_path / "a" / "export") != _name(tmp_path / "b" / "export")
    assert _name(tmp_path / ".hidden name").startswith("hidden_name-")
