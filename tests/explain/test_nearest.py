from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import pdist
from sklearn.neighbors import NearestNeighbors

from clinimm.config import PipelineConfig
from clinimm.core.attribution import NEAREST_COLUMNS
from clinimm.core.errors import DataError, ModelError
from clinimm.core.prediction import PREDICTION_COLUMNS
from clinimm.corpus import Corpus
from clinimm.explain.nearest import nearest_cases
from clinimm.explain.stage import run
from clinimm.model import FusionModel
from clinimm.progress import QUIET
from clinimm.workspace import Workspace
from tests.toy import toy_modalities, toy_modality, toy_spec, toy_table

SUBJECTS = [f"s{place:02d}" for place in range(24)]
HELD_OUT = SUBJECTS[:4]
TRAINED = SUBJECTS[4:20]
HAVE_B = SUBJECTS[::2]
#: Of the training patients, those with an odd number came a month before the others.
EARLY, LATE = pd.Timestamp("2024-01-01T00:00:00Z"), pd.Timestamp("2024-02-20T00:00:00Z")
ASKED = pd.Timestamp("2024-02-01T00:00:00Z")
SPEC = {
    "name": "toy", "question": "Is it so?", "index": {"modality": "a"}, "inputs": {"a": {}, "b": {}},
    "label": {"task": "toy", "code": "outcome//toy", "value": True, "window": ["0 d", "30 d"]},
}  # fmt: skip


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    with toy_modalities():
        yield


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One fit of the real fused model; s00 to s03 are held out, s20 to s23 tuned it."""
    found = Workspace(PipelineConfig.model_validate({"name": "toy", "runs_dir": tmp_path}))
    for name, subjects in (("a", SUBJECTS), ("b", HAVE_B)):
        table = toy_table(subjects, np.linspace(-1, 1, len(subjects)), seed=len(subjects))
        table.values[3 * subjects.index("s00") :][:3] = table.values[3 * subjects.index("s12") :][:3]
        folder = found.root / "encode" / name
        folder.mkdir(parents=True)
        table.tokens.to_parquet(folder / "tokens.parquet")
        np.save(folder / "values.npy", table.values)
    torch.manual_seed(0)
    model = FusionModel(toy_spec(("a", "b"), members=2))
    digest = model.save_pretrained(found.root / "train" / "fits" / "r0-f0")
    cohort = found.stage("cohort")
    (cohort / "spec.json").write_text(json.dumps(SPEC))
    (cohort / "task.json").write_text(json.dumps({"name": "toy", "kind": "binary", "classes": ["yes"]}))
    splits = ["held_out"] * 4 + ["train"] * 16 + ["tuning"] * 4
    times = [ASKED] * 4 + [EARLY if place % 2 else LATE for place in range(4, 24)]
    labels = [float(place % 3 == 0) for place in range(24)]
    table = pd.DataFrame(
        {
            "subject_id": SUBJECTS,
            "index_time": times,
            "label": labels,
            "split": splits,
            "repeat": 0,
            "fold": 0,
        }
    )
    table.drop(columns=["repeat", "fold"]).to_parquet(cohort / "cohort.parquet")
    table[["subject_id", "repeat", "fold", "split"]].to_parquet(cohort / "splits.parquet")
    predictions = table.assign(
        task="toy", class_name="yes", probability=0.5, modalities_present="a", model_digest=digest
    )
    predictions[predictions["split"] == "held_out"][list(PREDICTION_COLUMNS)].to_parquet(
        found.stage("predict") / "predictions.parquet"
    )
    return found


def _fused(workspace: Workspace, subjects: list[str], names: tuple[str, ...] = ("a", "b")) -> np.ndarray:
    model = FusionModel.from_pretrained(workspace.root / "train" / "fits" / "r0-f0")
    batch = Corpus.load(workspace.root / "encode").batch(subjects, model.statistics)
    with torch.no_grad():
        embedded = model.embed(batch)
        return model.fused({name: embedded[name] for name in names}).double().numpy()


def test_cases_are_the_nearest_neighbours_among_the_fits_training_patients(workspace: Workspace) -> None:
    found = nearest_cases(workspace, HELD_OUT, 5)
    assert list(found.columns) == list(NEAREST_COLUMNS)
    trained, asked = _fused(workspace, TRAINED), _fused(workspace, HELD_OUT)
    scaled = trained.std(0) + (trained.std(0) == 0)
    search = NearestNeighbors(n_neighbors=5).fit(trained / scaled)
    far, places = search.kneighbors(asked / scaled)
    for row, subject in enumerate(HELD_OUT):
        own = found[found["subject_id"] == subject]
        assert own["rank"].tolist() == [1, 2, 3, 4, 5]
        assert own["distance"].to_numpy() == pytest.approx(far[row], abs=1e-5)
        assert own["case_id"].tolist() == [TRAINED[place] for place in places[row]]


def test_nobody_held_out_or_tuned_on_is_listed_however_many_are_asked_for(workspace: Workspace) -> None:
    found = nearest_cases(workspace, HELD_OUT, 20)
    assert set(found["case_id"]) == set(TRAINED)
    assert not found.duplicated(["subject_id", "case_id"]).any(), "one row a patient"
    assert len(found) == len(HELD_OUT) * len(TRAINED)


def test_the_percentile_is_among_distances_between_training_patients(workspace: Workspace) -> None:
    found = nearest_cases(workspace, ["s01"], 16)
    trained = _fused(workspace, TRAINED)
    apart = pdist(trained / (trained.std(0) + (trained.std(0) == 0)))
    expected = [(apart < distance).mean() for distance in found["distance"]]
    assert found["percentile"].to_numpy() == pytest.approx(expected, abs=1e-9)
    assert 0 < found["percentile"].iloc[5] < 1


def test_a_patient_with_the_same_input_lies_at_no_distance_by_every_source(workspace: Workspace) -> None:
    first = nearest_cases(workspace, ["s00"], 1).iloc[0]
    assert first["case_id"] == "s12"
    assert first["distance"] == pytest.approx(0, abs=1e-4)
    assert json.loads(first["sources"]) == {"a": 0.0, "b": 0.0}


def test_a_source_counts_only_where_both_have_it(workspace: Workspace) -> None:
    found = nearest_cases(workspace, ["s01", "s02"], 16).set_index(["subject_id", "case_id"])["sources"]
    assert set(json.loads(found["s01", "s04"])) == {"a"}, "s01 lacks it"
    assert set(json.loads(found["s02", "s05"])) == {"a"}, "s05 lacks it"
    known = json.loads(found["s02", "s04"])
    trained, asked = _fused(workspace, TRAINED, ("a",)), _fused(workspace, ["s02"], ("a",))[0]
    scaled = trained.std(0) + (trained.std(0) == 0)
    distance = np.linalg.norm((trained[0] - asked) / scaled)
    assert known["a"] == pytest.approx((pdist(trained / scaled) < distance).mean(), abs=1e-4)


def test_an_outcome_that_was_not_known_when_the_question_was_asked_is_not_told(workspace: Workspace) -> None:
    """EARLY and thirty days end before ASKED; LATE came after it."""
    found = nearest_cases(workspace, ["s01"], 16).set_index("case_id")["outcome"]
    assert found["s09"] == 1 and found["s05"] == 0
    assert np.isnan(found["s06"]) and np.isnan(found["s12"])
    cohort = workspace.root / "cohort" / "cohort.parquet"
    later = pd.read_parquet(cohort)
    later["index_time"] = later["index_time"].mask(
        later["subject_id"] == "s09", EARLY + pd.Timedelta(hours=25)
    )
    later.to_parquet(cohort)
    assert np.isnan(nearest_cases(workspace, ["s01"], 16).set_index("case_id")["outcome"]["s09"])


def test_none_are_listed_unless_asked_for(workspace: Workspace) -> None:
    assert workspace.config.explain.nearest_cases == 0
    assert nearest_cases(workspace, HELD_OUT, 0).empty


def test_a_subject_that_was_never_held_out_is_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="s05 has no held-out prediction"):
        nearest_cases(workspace, ["s05"], 3)


def test_a_fit_that_did_not_predict_the_subject_has_no_say(workspace: Workspace) -> None:
    torch.manual_seed(1)
    FusionModel(toy_spec(("a", "b"), members=2)).save_pretrained(workspace.root / "train" / "fits" / "r0-f0")
    with pytest.raises(ModelError, match="may have trained on these"):
        nearest_cases(workspace, ["s01"], 3)


def _spoil(workspace: Workspace, subject: str) -> None:
    path = workspace.root / "encode" / "a" / "values.npy"
    values = np.load(path)
    values[3 * SUBJECTS.index(subject)] = np.nan
    np.save(path, values)


def test_a_training_patient_who_is_no_number_is_left_out_and_spoils_no_distance(workspace: Workspace) -> None:
    before = set(nearest_cases(workspace, ["s01"], 20)["case_id"])
    _spoil(workspace, "s09")
    found = nearest_cases(workspace, ["s01"], 20)
    assert set(found["case_id"]) == before - {"s09"}
    assert np.isfinite(found[["distance", "percentile"]].to_numpy()).all()


def test_a_patient_who_is_no_number_is_refused(workspace: Workspace) -> None:
    _spoil(workspace, "s01")
    with pytest.raises(ModelError, match="s01"):
        nearest_cases(workspace, ["s01"], 3)


def test_leaving_a_modality_out_is_as_if_nobody_had_it(workspace: Workspace) -> None:
    assert _fused(workspace, ["s01"]) == pytest.approx(_fused(workspace, ["s01"], ("a",)), abs=1e-6)
    assert np.abs(_fused(workspace, ["s00"]) - _fused(workspace, ["s00"], ("a",))).max() > 1e-3


def test_the_stage_lists_them_only_where_the_run_asks(workspace: Workspace) -> None:
    find = lambda name, plugins=(): toy_modality(name)  # noqa: E731
    path = workspace.root / "explain" / "nearest.parquet"
    with mock.patch("clinimm.explain.subject.get_modality", find):
        run(workspace, QUIET)
        assert pd.read_parquet(path).empty
        settings = {"name": "toy", "runs_dir": workspace.root.parent, "explain": {"nearest_cases": 2}}
        run(Workspace(PipelineConfig.model_validate(settings)), QUIET)
    assert pd.read_parquet(path).groupby("subject_id").size().to_dict() == dict.fromkeys(HELD_OUT, 2)
