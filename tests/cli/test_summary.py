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
    text = json.dumps({"sentence": "x version 3; alias candidate moved to it: the audit passed."})
    (workspace.stage("register") / "registration.json").write_text(text)
    lines = summary.report_lines(workspace)
    assert lines[0].startswith("registered: x version 3;")
    assert lines[1] == f"model card: {workspace.root / 'report' / 'model_card.html'}"
    assert len(lines) == 2


def test_audit_names_what_did_not_pass() -> None:
    findings = [{"verdict": "pass", "sentence": "fine"}, {"verdict": "fail", "sentence": "fnr of men"}]
    lines = summary.audit_lines({"findings": findings, "sentence": "The audit failed."})
    assert lines == ["fail          fnr of men", "The audit failed."]


def test_budget_adds_up_and_shows_the_largest_first() -> None:
    scores = [0.1, -0.5, 0.2]
    parts = pd.DataFrame(
        {
            "class_name": "ill",
            "modality": ["ehr", "ehr", "notes"],
            "score": scores,
            "text": ["lab a", "lab b", "words"],
        }
    )
    row = {"task": "t", "class_name": "ill", "logit": 0.8, "baseline_logit": 1.0}
    total = pd.DataFrame([row | {"attribution_sum": sum(scores), "convergence_delta": 0.0}])
    lines = summary.budget_lines(parts, total)
    assert lines[0] == "t = ill: logit +0.800 = reference +1.000 + parts -0.200 (completeness error +0.0000)"
    assert lines[1:3] == ["  ehr        -0.400", "  notes      +0.200"]
    assert [line.split()[-1] for line in lines[4:]] == ["b", "words", "a"]
