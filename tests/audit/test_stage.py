from __future__ import annotations

import json
from html.parser import HTMLParser

import pandas as pd
import pytest

from clinimm.audit.page import audit_page
from clinimm.audit.stage import run
from clinimm.core.errors import ConfigError, MissingStageError
from clinimm.progress import QUIET

VOID = {"meta", "br"}


class Balanced(HTMLParser):
    """Fails on a tag that is not closed, and collects what a browser would fetch."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []
        self.fetched: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.fetched += [value for name, value in attrs if name in {"src", "href", "xlink:href", "data"}]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def parsed(page):
    parser = Balanced()
    parser.feed(page)
    assert parser.open == []
    return parser


def test_stage_writes_json_and_page_and_tells_the_exit_status(workspace):
    notes = run(workspace, QUIET)
    content = json.loads((workspace.stage("audit") / "audit.json").read_text())
    assert notes["exit_status"] == content["exit_status"] == 0
    assert content["policy"]["rules"][0]["id"] == "useful" and len(content["policy"]["sha256"]) == 64
    page = parsed((workspace.stage("audit") / "audit.html").read_text())
    assert page.fetched == [] and "script" not in page.tags and "svg" in page.tags


def test_overall_figures_are_those_of_the_evaluation(workspace):
    run(workspace, QUIET)
    metrics = json.loads((workspace.stage("evaluate") / "metrics.json").read_text())["fused"]
    overall = json.loads((workspace.stage("audit") / "audit.json").read_text())["classes"][0]["groups"][0]
    for name in ("auroc", "sensitivity", "specificity", "ppv", "npv"):
        assert overall["figures"][name]["value"] == metrics[name]["value"], name


def test_a_second_run_writes_the_same_bytes(workspace):
    read = lambda: [path.read_bytes() for path in sorted(workspace.stage("audit").iterdir())]  # noqa: E731
    run(workspace, QUIET)
    first = read()
    run(workspace, QUIET)
    assert read() == first


def test_hostile_text_in_the_cohort_stays_text(workspace):
    path = workspace.stage("cohort") / "cohort.parquet"
    hostile = "<script>alert(1)</script>{{ 7*7 }}\"'><img src=x>"
    pd.read_parquet(path).assign(race=hostile).to_parquet(path)
    run(workspace, QUIET)
    text = (workspace.stage("audit") / "audit.html").read_text()
    page = parsed(text)
    assert page.fetched == [] and not {"script", "img"} & page.tags
    assert "{{ 7*7 }}" in text


def test_evaluate_must_have_run(workspace):
    (workspace.stage("evaluate") / "metrics.json").unlink()
    with pytest.raises(MissingStageError, match="clinimm evaluate"):
        run(workspace, QUIET)


def test_a_wrong_policy_is_a_config_error_with_a_line(workspace, tmp_path):
    policy = tmp_path / "mine.yaml"
    policy.write_text("schema: clinimm.policy/1\nrules:\n  - id: A\n    metric: fnr\n    stat: value\n")
    config = workspace.config
    changed = config.model_copy(update={"audit": config.audit.model_copy(update={"policy": policy})})
    from dataclasses import replace

    with pytest.raises(ConfigError, match=r"mine\.yaml:3"):
        run(replace(workspace, config=changed), QUIET)


def test_page_of_a_blocking_audit_says_so(workspace):
    run(workspace, QUIET)
    content = json.loads((workspace.stage("audit") / "audit.json").read_text())
    page = audit_page(content | {"blocks": True, "exit_status": 2})
    assert "alias does not move (exit status 2)" in page
