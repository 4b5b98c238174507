from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from clinimm.config import PipelineConfig
from clinimm.core.attribution import ATTRIBUTION_COLUMNS, EXPLANATION_SUMMARY_COLUMNS
from clinimm.core.errors import DataError
from clinimm.core.prediction import PREDICTION_COLUMNS
from clinimm.explain.stage import REQUESTED, explain_subjects, run
from clinimm.model import FusionModel
from clinimm.progress import QUIET
from clinimm.workspace import Workspace
from tests.toy import toy_modalities, toy_modality, toy_spec, toy_table

SUBJECTS = [f"s{place:02d}" for place in range(12)]


@pytest.fixture(autouse=True)
def _toy() -> Iterator[None]:
    find = lambda name, plugins=(): toy_modality(name)  # noqa: E731
    with toy_modalities(), mock.patch("clinimm.explain.stage.get_modality", find):
        yield


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two fits of the real fused model; everybody has ``a``, every third also ``b``."""
    settings = {"name": "toy", "runs_dir": tmp_path, "explain": {"subjects": 5, "steps": 24}}
    found = Workspace(PipelineConfig.model_validate(settings))
    signal = np.linspace(-1, 1, len(SUBJECTS))
    for name, subjects in (("a", SUBJECTS), ("b", SUBJECTS[::3])):
        table = toy_table(subjects, signal[: len(subjects)], seed=len(name))
        folder = found.root / "encode" / name
        folder.mkdir(parents=True)
        table.tokens.to_parquet(folder / "tokens.parquet")
        np.save(folder / "values.npy", table.values)
    digests = []
    for fold in range(2):
        torch.manual_seed(fold)
        model = FusionModel(toy_spec(("a", "b")))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        digests.append(model.save_pretrained(found.root / "train" / "fits" / f"r0-f{fold}"))
    predictions = pd.DataFrame(
        {
            "subject_id": SUBJECTS,
            "index_time": pd.Timestamp("2024-01-01T00:00:00Z"),
            "task": "toy",
            "class_name": "yes",
            "probability": np.linspace(0.1, 0.9, len(SUBJECTS)),
            "label": [float(place % 2) for place in range(len(SUBJECTS))],
            "modalities_present": "a",
            "model_digest": [digests[place % 2] for place in range(len(SUBJECTS))],
            "split": "held_out",
            "repeat": 0,
            "fold": [place % 2 for place in range(len(SUBJECTS))],
        },
        columns=list(PREDICTION_COLUMNS),
    )
    predictions.to_parquet(found.stage("predict") / "predictions.parquet")
    return found


def _tables(folder: Path) -> dict[str, pd.DataFrame]:
    names = ("attributions", "summary", "contributions")
    return {name: pd.read_parquet(folder / f"{name}.parquet") for name in names}


def test_parts_sum_to_the_logit_of_the_real_model(workspace: Workspace) -> None:
    notes = run(workspace, QUIET)
    tables = _tables(workspace.root / "explain")
    assert list(tables["attributions"].columns) == list(ATTRIBUTION_COLUMNS)
    assert list(tables["summary"].columns) == list(EXPLANATION_SUMMARY_COLUMNS)
    sums = tables["attributions"].groupby("subject_id")["score"].sum()
    for row in tables["summary"].itertuples():
        assert row.baseline_logit + sums[row.subject_id] == pytest.approx(row.logit, abs=0.01)
        assert row.attribution_sum == pytest.approx(sums[row.subject_id], abs=1e-9)
    assert notes["explained"] == 5
    assert notes["worst_relative_delta"] < 0.05


def test_each_subject_is_explained_by_the_fit_that_predicted_it(workspace: Workspace) -> None:
    run(workspace, QUIET)
    predicted = pd.read_parquet(workspace.root / "predict" / "predictions.parquet")
    by = predicted.set_index("subject_id")["model_digest"]
    for table in _tables(workspace.root / "explain").values():
        assert (table["model_digest"] == by.loc[table["subject_id"]].to_numpy()).all()


def test_only_present_modalities_have_rows_and_padding_has_none(workspace: Workspace) -> None:
    found = explain_subjects(workspace, ["s00", "s01"], QUIET)
    counts = found.attributions.groupby(["subject_id", "modality"]).size()
    assert counts.to_dict() == {("s00", "a"): 3, ("s00", "b"): 3, ("s01", "a"): 3}
    assert set(found.contributions.query("subject_id == 's01'")["modality"]) == {"a"}


def test_contributions_sum_to_the_logit_above_no_modality(workspace: Workspace) -> None:
    found = explain_subjects(workspace, ["s00", "s02"], QUIET)
    logit = found.summary.set_index("subject_id")["logit"]
    rest = logit - found.contributions.groupby("subject_id")["shapley"].sum()
    assert rest["s00"] == pytest.approx(rest["s02"], abs=1e-5), "both fits are the same fold's"


def test_two_runs_write_the_same_bytes(workspace: Workspace) -> None:
    folder = workspace.root / "explain"
    run(workspace, QUIET)
    first = {path.name: path.read_bytes() for path in folder.glob("*.parquet")}
    run(workspace, QUIET)
    assert len(first) == 3
    assert first == {path.name: path.read_bytes() for path in folder.glob("*.parquet")}


def test_an_explanation_on_request_lies_apart_and_goes_with_the_next_run(workspace: Workspace) -> None:
    found = explain_subjects(workspace, ["s03"], QUIET)
    folder = workspace.root / "explain" / REQUESTED / "s03"
    assert len(_tables(folder)["attributions"]) == len(found.attributions) > 0
    run(workspace, QUIET)
    assert not folder.exists()


def test_a_subject_that_was_never_held_out_is_refused(workspace: Workspace) -> None:
    with pytest.raises(DataError, match="no held-out prediction"):
        explain_subjects(workspace, ["nobody"], QUIET)
