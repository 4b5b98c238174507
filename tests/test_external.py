"""What lies outside a run is part of the evidence, too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from clinimm.config import AuditConfig, ExplainConfig, MitigationConfig, PipelineConfig, SourceConfig
from clinimm.external import external_inputs, sources_are_here
from clinimm.workspace import Workspace

COHORT = """
name: c
question: Who?
index: {modality: radiology}
label: {task: t, code: outcome//t, value: true, window: [0 d, 1 d]}
inputs: {ehr: {}}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    export = tmp_path / "export"
    export.mkdir()
    (export / "a.json").write_text("{}")
    (tmp_path / "cohort.yaml").write_text(COHORT)
    sources = (SourceConfig(root=export),)
    return Workspace(
        PipelineConfig(name="x", runs_dir=tmp_path / "runs", sources=sources, cohort=tmp_path / "cohort.yaml")
    )


def test_new_changed_and_removed_files_change_the_listing(workspace: Workspace) -> None:
    file = workspace.config.sources[0].root / "a.json"
    seen = [external_inputs(workspace, ("sources",))]
    (file.parent / "b.json").write_text("{}")
    seen.append(external_inputs(workspace, ("sources",)))
    os.utime(file, ns=(1, 1))
    seen.append(external_inputs(workspace, ("sources",)))
    file.unlink()
    seen.append(external_inputs(workspace, ("sources",)))
    assert len({value["source 0"] for value in seen}) == 4


def test_other_key_is_another_input_and_the_key_is_not_told(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = external_inputs(workspace, ("sources",))
    monkeypatch.setenv("CLINIMM_PSEUDONYM_KEY", "another key of some length")
    second = external_inputs(workspace, ("sources",))
    assert first["source 0"] == second["source 0"]
    assert first["pseudonym key"] != second["pseudonym key"]
    assert "another" not in str(second)


def test_cohort_counts_with_its_folds_file(workspace: Workspace, tmp_path: Path) -> None:
    cohort = tmp_path / "cohort.yaml"
    plain = external_inputs(workspace, ("cohort",))
    assert set(plain) == {"cohort file"}
    cohort.write_text(COHORT + "split: {kind: folds_file, path: folds.csv}\n")
    (workspace.config.sources[0].root / "folds.csv").write_text("patient_id,repeat,fold\n")
    assert set(external_inputs(workspace, ("cohort",))) == {"cohort file", "folds file"}


def test_cohort_file_counts_by_its_content_and_not_by_its_name(workspace: Workspace, tmp_path: Path) -> None:
    first = external_inputs(workspace, ("cohort",))
    copy = (tmp_path / "cohort.yaml").rename(tmp_path / "kept.yaml")
    assert (
        external_inputs(Workspace(workspace.config.model_copy(update={"cohort": copy})), ("cohort",)) == first
    )


def test_what_lies_in_absent_sources_is_left_out(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "cohort.yaml").write_text(COHORT + "split: {kind: folds_file, path: folds.csv}\n")
    assert sources_are_here(workspace)
    workspace.config.sources[0].root.rename(tmp_path / "elsewhere")
    assert not sources_are_here(workspace)
    assert external_inputs(workspace, ("sources",), without_sources=True) == {}
    assert set(external_inputs(workspace, ("cohort",), without_sources=True)) == {"cohort file"}


def test_policy_is_digested_by_content(workspace: Workspace, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("a: 1\n")
    config = workspace.config.model_copy(update={"audit": AuditConfig(policy=policy)})
    first = external_inputs(Workspace(config), ("policy",))
    policy.write_text("a: 2\n")
    assert external_inputs(Workspace(config), ("policy",)) != first


def test_run_that_a_mitigation_is_compared_with_counts_by_what_is_read_of_it(
    workspace: Workspace, tmp_path: Path
) -> None:
    before = tmp_path / "plain"
    audit = AuditConfig(mitigation=MitigationConfig(attribute="sex", before=before))
    compared = Workspace(workspace.config.model_copy(update={"audit": audit}))
    assert external_inputs(compared, ("before",)) == {} == external_inputs(workspace, ("before",))
    seen = []
    for name in ("predict/predictions.parquet", "evaluate/metrics.json", "train/model.txt"):
        (before / name).parent.mkdir(parents=True, exist_ok=True)
        (before / name).write_text("one")
        seen.append(external_inputs(compared, ("before",)))
    assert [len(found) for found in seen] == [1, 2, 2]
    (before / "evaluate" / "metrics.json").write_text("two")
    assert external_inputs(compared, ("before",)) != seen[-1]


def test_known_findings_count_where_there_are_any(workspace: Workspace, tmp_path: Path) -> None:
    assert external_inputs(workspace, ("findings",)) == {}
    path, config = tmp_path / "findings.csv", workspace.config
    path.write_text("digest,left,top,right,bottom\n")
    named = config.model_copy(update={"explain": ExplainConfig(findings=path)})
    first = external_inputs(Workspace(named), ("findings",))
    path.write_text("digest,left,top,right,bottom\na,0,0,1,1\n")
    assert external_inputs(Workspace(named), ("findings",)) != first
