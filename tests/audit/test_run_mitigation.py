"""Mitigations of a run: tried on held-out people, told for everybody, and failing where somebody loses."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

import clinimm.audit
from clinimm.audit.run_mitigation import MITIGATION_PAGE
from clinimm.audit.stage import evidence_of_run, policy_of
from clinimm.config import Accepted, MitigationConfig
from clinimm.core.errors import ConfigError
from clinimm.workspace import Workspace
from tests.audit.conftest import write_run
from tests.browsing import chromium, complaints

SCHEMA = json.loads(Path(clinimm.audit.__file__).with_name("audit.schema.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return write_run(tmp_path_factory.mktemp("runs"), n=1200)


def _asking(run: Workspace, **asked: object) -> tuple[dict, dict[str, bytes]]:
    settings = MitigationConfig(attribute="sex", **asked)
    audit = run.config.audit.model_copy(update={"mitigation": settings, "detectors": False})
    workspace = Workspace(run.config.model_copy(update={"audit": audit}))
    found, files = evidence_of_run(workspace, policy_of(workspace))
    jsonschema.validate(found.content, SCHEMA)
    return found.content, files


def _changed(run: Workspace, folder: Path, how: Callable[[pd.DataFrame], pd.DataFrame | None]) -> Path:
    """A copy of the run with other predictions: what training without the mitigation gave."""
    shutil.copytree(run.root, folder)
    path = folder / "predict" / "predictions.parquet"
    table = pd.read_parquet(path)
    other = how(table)
    (table if other is None else other).to_parquet(path)
    return folder


def test_fewer_are_missed_more_are_alarmed_and_the_audit_fails_until_that_is_accepted(run: Workspace) -> None:
    content, files = _asking(run, most_missed=0.05)
    (trial,) = content["mitigation"]
    by_key = {(row["attribute"], row["level"], row["measure"]): row for row in trial["changes"]}
    assert by_key["overall", "everybody", "fnr"]["verdict"] == "better"
    assert by_key["overall", "everybody", "fpr"]["verdict"] == "worse"
    assert trial["fails"] and content["blocks"]
    assert (content["exit_status"], content["verdict"]) == (1, "fail")
    assert "serves somebody worse" in content["sentence"]
    taken = float(re.search(r"operating_value: ([\d.]+)", trial["how"]).group(1))  # type: ignore[union-attr]
    table = pd.read_parquet(run.root / "predict" / "predictions.parquet").query("split == 'held_out'")
    sex = pd.read_parquet(run.root / "cohort" / "cohort.parquet").set_index("subject_id")["sex"]
    positive = table[table["label"] == 1]
    missed = positive["probability"].lt(taken).groupby(positive["subject_id"].map(sex)).mean()
    assert missed.max() <= 0.05 and trial["how"] in html.unescape(files[MITIGATION_PAGE].decode())
    page = files[MITIGATION_PAGE].decode()
    assert "false alarms" in page and "<script" not in page
    worse = [key for key, row in by_key.items() if row["verdict"] == "worse"]
    reasons = [Accepted(attribute=a, level=b, measure=c, reason="fewer are missed") for a, b, c in worse]
    content, _ = _asking(run, most_missed=0.05, accepted=reasons)
    assert not content["mitigation"][0]["fails"] and content["exit_status"] == 0
    assert {row["accepted"] for row in content["mitigation"][0]["changes"]} == {"", "fewer are missed"}


def test_the_answers_themselves_stay_and_nothing_of_it_is_published(run: Workspace) -> None:
    with_it, files = _asking(run, recalibrate=True)
    assert with_it["mitigation"][0]["how"] == ""
    (by_group,) = _asking(run, largest_gap=0.1, by_group=True)[0]["mitigation"]
    assert "not done anywhere" in by_group["how"] and "operating_value" not in by_group["how"]
    plain, _ = evidence_of_run(run, policy_of(run))
    assert with_it["findings"] == plain.content["findings"] and with_it["groups"] == plain.content["groups"]
    assert json.loads(files["published/audit.json"])["mitigation"] is None
    assert files["audit.json"] == _asking(run, recalibrate=True)[1]["audit.json"]


def test_training_that_levels_down_is_found_by_comparing_with_the_run_before_it(
    run: Workspace, tmp_path: Path
) -> None:
    def better_for_men(table: pd.DataFrame) -> None:
        cohort = pd.read_parquet(run.root / "cohort" / "cohort.parquet").set_index("subject_id")
        male = table["subject_id"].map(cohort["sex"]).eq("male").to_numpy()
        toward = np.where(table["label"] == 1, 0.95, 0.02)
        table.loc[male, "probability"] = toward[male]

    content, _ = _asking(run, before=_changed(run, tmp_path / "plain", better_for_men))
    (trial,) = content["mitigation"]
    assert trial["fails"] and any(text.startswith("Levelling down") for text in trial["sentences"])
    assert content["exit_status"] == 1
    same, _ = _asking(run, before=_changed(run, tmp_path / "same", lambda table: None))
    assert not same["mitigation"][0]["fails"]
    assert all(row["before"] == row["after"] for row in same["mitigation"][0]["changes"])


def test_a_run_of_other_people_is_no_run_to_compare_with(run: Workspace, tmp_path: Path) -> None:
    def fewer(table: pd.DataFrame) -> pd.DataFrame:
        return table.drop(table.index[table["split"] == "held_out"][:5])

    with pytest.raises(ConfigError, match=r"another cohort|held other people out"):
        _asking(run, before=_changed(run, tmp_path / "fewer", fewer))
    with pytest.raises(ConfigError, match="no run that was evaluated"):
        _asking(run, before=tmp_path)


def test_settings_that_ask_for_nothing_or_for_an_unknown_attribute_are_refused(run: Workspace) -> None:
    with pytest.raises(ValidationError, match="name what is tried"):
        MitigationConfig(attribute="sex")
    with pytest.raises(ValidationError, match="by_group needs"):
        MitigationConfig(attribute="sex", recalibrate=True, by_group=True)
    audit = run.config.audit.model_copy(
        update={"mitigation": MitigationConfig(attribute="shoe_size", recalibrate=True)}
    )
    workspace = Workspace(run.config.model_copy(update={"audit": audit}))
    with pytest.raises(ConfigError, match="shoe_size is no audit attribute"):
        evidence_of_run(workspace, policy_of(workspace))


def test_axe_finds_nothing_to_complain_about_on_the_pages_of_a_run(run: Workspace, tmp_path: Path) -> None:
    """The audit with its part by modality, and what mitigations would do."""
    _, files = _asking(run, recalibrate=True, most_missed=0.05)
    with chromium() as browser:
        for name in ("audit.html", MITIGATION_PAGE):
            (tmp_path / name).write_bytes(files[name])
            assert complaints(browser, tmp_path / name) == []
