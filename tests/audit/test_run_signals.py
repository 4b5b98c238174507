"""The detectors on a run: what was planted in its tables is found, and what was not is not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from clinimm.audit.run_signals import EMBEDDINGS_NAME, METADATA_NAME
from clinimm.audit.stage import evidence_of_run, policy_of
from clinimm.core.errors import ConfigError
from clinimm.workspace import Workspace
from tests.audit.conftest import write_run

N = 400


@pytest.fixture
def planted(tmp_path: Path) -> Workspace:
    """Two repeats; the device goes with the label, the second of two fits' embeddings with sex."""
    made = write_run(tmp_path, n=N, repeats=2)
    rows = pd.read_parquet(made.stage("predict") / "predictions.parquet")
    label = rows.drop_duplicates("subject_id").set_index("subject_id")["label"].sort_index()
    generator = np.random.default_rng(0)
    device = np.where(generator.random(N) < 0.15 + 0.7 * label.to_numpy(), "Röntgen <b>", "other")
    view = np.where(generator.random(N) < 0.5, "AP", "PA").astype(object)
    view[generator.random(N) < 0.2] = None
    metadata = pd.DataFrame({"subject_id": label.index, "radiology:device": device, "radiology:view": view})
    metadata.to_parquet(made.stage("predict") / METADATA_NAME)
    cohort = pd.read_parquet(made.stage("cohort") / "cohort.parquet").set_index("subject_id")
    female = cohort.loc[label.index, "sex"].eq("female").to_numpy()
    fold = np.arange(N) % 2
    values = generator.normal(size=(N, 6))
    values[:, 0] += np.where(fold == 0, 3.0, -3.0) * female  # the fits' spaces differ
    embedding = pd.DataFrame(values, columns=[f"e{place}" for place in range(6)])
    embedding.insert(0, "subject_id", label.index)
    embedding.insert(1, "fold", fold.astype(np.int32))
    embedding.to_parquet(made.stage("predict") / EMBEDDINGS_NAME)
    return made


def _with(workspace: Workspace, **audit: object) -> Workspace:
    settings = workspace.config.audit.model_copy(update=audit)
    return Workspace(workspace.config.model_copy(update={"audit": settings}))


def _found(workspace: Workspace) -> dict[str, dict]:
    audit, files = evidence_of_run(workspace, policy_of(workspace))
    (only,) = json.loads(files["signals.json"])["classes"]
    assert {row["detector"] for row in audit.content["signals"]["found"]} == set(only["detectors"])
    return only["detectors"]


def test_a_device_that_goes_with_the_label_is_told(planted: Workspace) -> None:
    found = _found(planted)["metadata"]
    assert found["raised"] and "radiology:device" in found["sentences"][0]
    (result,) = found["result"]
    assert result["n"] == N and 0.75 < result["auroc"] < 0.95


def test_sex_is_told_from_an_embedding_whose_fits_disagree_and_view_is_not(planted: Workspace) -> None:
    by_target = {one["target"]: one for one in _found(planted)["embedding"]["result"]}
    assert by_target["sex: male"]["p"] <= 0.05 and by_target["sex: male"]["auroc"] > 0.85
    assert by_target["radiology:view: PA"]["p"] > 0.05
    assert not any("(missing)" in name or "modalities" in name or "has " in name for name in by_target)


def test_the_verdict_is_that_of_the_rules_alone(planted: Workspace) -> None:
    policy = policy_of(planted)
    with_them, _ = evidence_of_run(planted, policy)
    without, files = evidence_of_run(_with(planted, detectors=False), policy)
    assert with_them.content["signals"]["raised"] >= 2 and without.content["signals"] is None
    assert set(files) & {"signals.json", "signals.html"} == set()
    assert with_them.content | {"signals": None} == without.content


def test_an_attribute_that_should_not_tell_the_outcome_is_named_by_the_pipeline(planted: Workspace) -> None:
    path = planted.stage("cohort") / "cohort.parquet"
    cohort = pd.read_parquet(path)
    rows = pd.read_parquet(planted.stage("predict") / "predictions.parquet")
    label = rows.drop_duplicates("subject_id").set_index("subject_id")["label"]
    own = cohort["subject_id"].map(label)
    cohort.assign(confirmed_by=np.where(own == 1, "histology", "follow-up")).to_parquet(path)
    (planted.stage("predict") / METADATA_NAME).unlink()
    assert "metadata" not in _found(planted)
    found = _found(_with(planted, metadata=("confirmed_by",)))["metadata"]
    assert found["raised"] and "confirmed_by alone" in found["sentences"][0]
    with pytest.raises(ConfigError, match=r"audit\.metadata: site_of_biopsy is no audit attribute"):
        _found(_with(planted, metadata=("site_of_biopsy",)))


def test_an_outcome_that_did_not_make_the_label_is_compared_at_equal_risk(planted: Workspace) -> None:
    path = planted.stage("cohort") / "cohort.parquet"
    cohort = pd.read_parquet(path)
    cohort.assign(died=np.where(cohort["sex"] == "female", 1, 0)).to_parquet(path)
    found = _found(_with(planted, outcome="died"))["label_validity"]
    assert found["raised"] and any("sex female" in text for text in found["sentences"])


def test_a_run_of_an_earlier_version_still_has_its_slices(workspace: Workspace) -> None:
    assert set(_found(workspace)) <= {"slices", "drift"} and "slices" in _found(workspace)
