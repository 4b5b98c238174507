"""What the verbs print at their end."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from clinimm.cli import summary
from clinimm.config import PipelineConfig
from clinimm.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(PipelineConfig(name="x", runs_dir=tmp_path))


def test_run_without_evaluation_has_nothing_to_say(workspace: Workspace) -> None:
    assert summary.evaluation_lines(workspace) == []
    assert summary.report_lines(workspace) == []


def test_brief_evaluation_is_sentence_and_recommendation(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    from clinimm.evaluate import stage

    monkeypatch.setattr(stage, "summary_lines", lambda metrics: ["table", "", "Sentence.", "Recommended."])
    (workspace.stage("evaluate") / "metrics.json").write_text("{}")
    assert summary.evaluation_lines(workspace, brief=True) == ["Sentence.", "Recommended."]
    assert len(summary.evaluation_lines(workspace)) == 4


def test_documents_that_are_there_are_named(workspace: Workspace) -> None:
    (workspace.stage("report") / "model_card.html").write_text("")
    text = json.dumps({"sentence": "x is a candidate: the audit passed."})
    (workspace.stage("register") / "registration.json").write_text(text)
    lines = summary.report_lines(workspace)
    assert lines[0].startswith("gate: x is a candidate")
    assert lines[1] == f"model card: {workspace.root / 'report' / 'model_card.html'}"
    assert len(lines) == 2


def test_audit_names_what_did_not_pass() -> None:
    findings = [{"verdict": "pass", "sentence": "fine"}, {"verdict": "fail", "sentence": "fnr of men"}]
    lines = summary.audit_lines({"findings": findings, "sentence": "The audit failed."})
    assert lines == ["fail          fnr of men", "The audit failed."]


def _parts(scores: list[float]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "class_name": "ill",
            "modality": ["ehr", "ehr", "notes"],
            "baseline": ["a fact of which nothing is known"] * 2 + ["the average training token"],
            "score": scores,
            "text": ["lab a", "lab b", "words"],
        }
    )


def _standings(state: str = "shown") -> pd.DataFrame:
    return pd.DataFrame([{"class_name": "ill", "modality": "notes", "state": state, "sentence": "Because."}])


def test_budget_adds_up_and_shows_the_largest_first() -> None:
    row = {"task": "t", "class_name": "ill", "logit": 0.8, "baseline_logit": 1.0, "convergence_delta": -0.03}
    total = pd.DataFrame([row | {"method": "integrated_gradients"}])
    lines = summary.budget_lines(_parts([0.1, -0.5, 0.17]), total, _standings())
    assert lines[0] == "t = ill by integrated gradients"
    rows = [line.split() for line in lines[1:6]]
    assert [row[0] for row in rows] == ["reference", "ehr", "notes", "residual", "logit"]
    assert sum(float(row[1]) for row in rows[:4]) == pytest.approx(float(rows[4][1]), abs=0.002)
    assert "a fact of which nothing is known" in lines[2]
    assert [line.split()[-1] for line in lines[-3:]] == ["b", "words", "a"]
    assert not any("Because." in line for line in lines)


def test_what_does_not_sum_says_so_and_keeps_its_residual() -> None:
    row = {"task": "t", "class_name": "ill", "logit": 0.8, "baseline_logit": 1.0, "convergence_delta": 0.7}
    total = pd.DataFrame([row | {"method": "occlusion"}])
    lines = summary.budget_lines(_parts([0.1, -0.5, 0.2]), total, _standings("struck_out"))
    assert any(line.split()[:2] == ["residual", "-0.700"] for line in lines)
    assert any("not meant to sum up" in line for line in lines)
    assert "  map of notes: Because." in lines


def test_shares_are_never_added_to_a_logit_and_rollout_is_called_context() -> None:
    row = {"task": "t", "class_name": "ill", "logit": 0.8, "baseline_logit": float("nan")}
    total = pd.DataFrame([row | {"convergence_delta": float("nan"), "method": "attention_rollout"}])
    lines = summary.budget_lines(_parts([0.5, 0.25, 0.25]), total, _standings())
    assert lines[0].endswith("context, not attribution")
    assert "  ehr            75.0% of the map" in lines
    assert not any("residual" in line or "nan" in line for line in lines)
