from __future__ import annotations

import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pandas as pd
import pytest

import clinimm.audit
from clinimm.audit.policy import PACKAGED, Policy, load_policy
from clinimm.audit.run_studies import Judged
from clinimm.audit.stage import audit_export, audit_predictions, audit_run, policy_of, run
from clinimm.audit.table.page import audit_page
from clinimm.core.errors import ConfigError, DataError, MissingStageError
from clinimm.evaluate.operating import OperatingPoint
from clinimm.progress import QUIET
from tests.audit.conftest import write_run

VOID = {"meta", "br"}
SCHEMA = json.loads(Path(clinimm.audit.__file__).with_name("audit.schema.json").read_text(encoding="utf-8"))
TESTED = {"kind": "run", "file": "predictions.parquet", "sha256": "0" * 64}


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


def read(workspace, name="audit.json"):
    return json.loads((workspace.stage("audit") / name).read_text())


def audited(predictions, cohort, policy, threshold=0.5, classes=("severe",), kind="binary"):
    points = {name: OperatingPoint(threshold, "given") for name in classes}
    return audit_predictions(predictions, Judged(cohort, policy, points, classes, kind), TESTED).content


@pytest.fixture(scope="module")
def policy():
    return load_policy(PACKAGED)


def test_stage_writes_the_evidence_and_tells_the_exit_status(workspace):
    notes = run(workspace, QUIET)
    content = read(workspace)
    assert notes["exit_status"] == content["exit_status"] == 0
    assert content["run"] == "toy" and len(content["policy"]["sha256"]) == 64
    for name in ("audit.json", "published/audit.json"):
        jsonschema.validate(read(workspace, name), SCHEMA)
    page = parsed((workspace.stage("audit") / "audit.html").read_text())
    beside = [link for link in page.fetched if not link.startswith("#")]
    assert beside == ["signals.html"] and "script" not in page.tags and "svg" in page.tags
    suite = ElementTree.parse(workspace.stage("audit") / "junit.xml").getroot()
    assert int(suite.get("tests")) == len(content["findings"])
    assert sum(1 for _ in suite.iter("failure")) == 0


def test_every_intersection_up_to_order_four_has_its_figures(workspace):
    run(workspace, QUIET)
    table = pd.read_csv(workspace.stage("audit") / "groups.csv")
    orders = table["attributes"].str.count("×") + 1
    assert set(orders) == {1, 2, 3, 4}
    site_sex = table[table["attributes"] == "site × sex"]
    assert site_sex["n"].sum() == 120
    assert {len(row["attributes"]) for row in read(workspace)["groups"]} >= {0, 1, 2, 3}


def test_overall_figures_are_those_of_the_evaluation(tmp_path):
    for repeats in (1, 3):
        made = write_run(tmp_path / str(repeats), repeats=repeats)
        run(made, QUIET)
        metrics = json.loads((made.stage("evaluate") / "metrics.json").read_text())["fused"]
        overall = read(made)["groups"][0]
        for name in ("auroc", "sensitivity", "specificity", "ppv", "npv"):
            assert overall["figures"][name][0] == pytest.approx(metrics[name]["value"], abs=2e-6), name
        assert overall["n"] == 120


def test_a_second_run_writes_the_same_bytes(workspace):
    files = lambda: [path.read_bytes() for path in sorted(workspace.stage("audit").rglob("*.*"))]  # noqa: E731
    run(workspace, QUIET)
    first = files()
    run(workspace, QUIET)
    assert files() == first and len(first) == 11


def test_hostile_text_in_the_cohort_stays_text(workspace):
    path = workspace.stage("cohort") / "cohort.parquet"
    hostile = "<script>alert(1)</script>{{ 7*7 }}\"'><img src=x>"
    pd.read_parquet(path).assign(race=hostile).to_parquet(path)
    run(workspace, QUIET)
    text = (workspace.stage("audit") / "audit.html").read_text()
    page = parsed(text)
    beside = [link for link in page.fetched if not link.startswith("#")]
    assert beside == ["signals.html"] and not {"script", "img"} & page.tags
    assert "{{ 7*7 }}" in text
    found = parsed((workspace.stage("audit") / "signals.html").read_text())
    assert found.fetched == ["audit.html"] and not {"script", "img"} & found.tags


def test_evaluate_must_have_run(workspace):
    (workspace.stage("evaluate") / "metrics.json").unlink()
    with pytest.raises(MissingStageError, match="clinimm evaluate"):
        run(workspace, QUIET)


def test_a_wrong_policy_is_a_config_error_with_a_line(workspace, tmp_path):
    policy = tmp_path / "mine.yaml"
    policy.write_text("schema: clinimm.policy/1\nrules:\n  - id: A\n    metric: fnr\n    stat: value\n")
    with pytest.raises(ConfigError, match=r"mine\.yaml:3"):
        run(with_audit(workspace, policy=policy), QUIET)


def test_page_of_a_blocking_audit_says_so(workspace):
    run(workspace, QUIET)
    page = audit_page(read(workspace) | {"blocks": True, "exit_status": 2})
    assert "no candidate for approval (exit status 2)" in page


def test_evidence_says_what_the_policy_is_and_not_where_it_lies(workspace, tmp_path):
    places = []
    for folder in (tmp_path / "one", tmp_path / "two"):
        folder.mkdir()
        (folder / "strict.yaml").write_bytes(PACKAGED.read_bytes())
        run(with_audit(workspace, policy=folder / "strict.yaml"), QUIET)
        places.append((workspace.stage("audit") / "audit.json").read_bytes())
    assert places[0] == places[1] and json.loads(places[0])["policy"]["path"] == "strict.yaml"
    assert str(tmp_path).encode() not in places[0]


def test_a_planted_gap_is_found_and_fails(tables, policy):
    n, generator = 2000, np.random.default_rng(0)
    label = (np.arange(n) % 5 < 2).astype(float)
    female = generator.random(n) < 0.5
    score = np.clip(tables.scores(generator, label, 3.0) - 0.35 * female, 0, 1)
    cohort = tables.cohort(n, sex=np.where(female, "female", "male"))
    found = audited(tables.frame(label, score), cohort, policy)
    assert (found["verdict"], found["exit_status"], found["blocks"]) == ("fail", 1, True)
    failed = {(row["rule"], row["level"]) for row in found["findings"] if row["verdict"] == "fail"}
    assert ("missed", "female") in failed and ("missed", "male") not in failed
    assert ("calibration", "female") in failed
    worst = {row["rule"]: found["findings"][row["finding"]]["level"] for row in found["worst"]}
    assert worst["missed"] == "female"


def test_a_fair_model_with_enough_subjects_passes(tables, policy):
    cohort = tables.cohort(6000, sex=["female", "male"] * 3000)
    predictions = tables.run_tables(n=6000, singles={}, others={}, fused=3.0).predictions
    found = audited(predictions, cohort, policy)
    assert (found["verdict"], found["exit_status"], found["blocks"]) == ("pass", 0, False)


def test_a_model_without_signal_blocks(tables, policy):
    predictions = tables.run_tables(n=120, fused=0.0, seed=3).predictions
    found = audited(predictions, tables.cohort(120), policy)
    assert found["exit_status"] == 2 and found["blocks"]


def test_several_classes_are_audited_one_by_one_and_hold_together(tables, policy):
    n = 90
    parts = [tables.frame(np.arange(n) % 3 == k, np.full(n, 0.3), class_name=c) for k, c in enumerate("abc")]
    found = audited(pd.concat(parts), tables.cohort(n), policy, 0.5, tuple("abc"), "multiclass")
    assert [row["class_name"] for row in found["tested"]["classes"]] == ["a", "b", "c"]
    assert {row["class_name"] for row in found["findings"]} == {"a", "b", "c"}
    assert {row["class_name"] for row in found["groups"]} == {"a", "b", "c"}
    jsonschema.validate(found, SCHEMA)
    assert "(b)" in audit_page(found)


def test_an_attribute_that_nobody_recorded_is_inconclusive(tables):
    rule = {"id": "a", "metric": "fnr", "stat": "difference", "attribute": "insurance", "margin": 0.1}
    asked = Policy.model_validate(
        {"schema": "clinimm.policy/1", "statistics": {"inconclusive": "block"}, "rules": [rule]}
    )
    found = audited(tables.run_tables(n=120).predictions, tables.cohort(120), asked)
    assert found["exit_status"] == 2
    assert "nobody recorded insurance" in found["findings"][0]["sentence"]


@pytest.mark.parametrize(
    "more",
    [
        {"metric": "brier"},
        {"stat": "ratio", "margin": 0.8},
        {"reference": "female"},
        {"attribute": "sex*race"},
    ],
)
def test_a_run_is_judged_by_every_rule_that_a_table_is(tables, more):
    rule = {"id": "a", "metric": "fnr", "stat": "difference", "attribute": "sex", "margin": 0.1} | more
    asked = Policy.model_validate({"schema": "clinimm.policy/1", "rules": [rule]})
    found = audited(tables.run_tables(n=300).predictions, tables.cohort(300), asked)
    assert found["findings"] and all(row["n"] for row in found["findings"])


def test_no_label_and_one_outcome_are_data_errors(tables, policy):
    with pytest.raises(DataError, match="nothing"):
        audited(tables.frame([np.nan] * 4, [0.1] * 4), tables.cohort(4), policy)
    with pytest.raises(DataError, match="the same outcome"):
        audited(tables.frame([0] * 4, [0.1] * 4), tables.cohort(4), policy)


def test_a_waiver_of_the_run_is_looked_at_today(workspace, tmp_path):
    from datetime import date, timedelta

    today = date.today()
    path = tmp_path / "waivers.yaml"
    path.write_text(
        "schema: clinimm.waivers/1\nwaivers:\n  - rule: missed\n    reason: more data are on their way\n"
        f"    owners: [A, B]\n    signed: {today}\n    until: {today + timedelta(days=3)}\n"
    )
    run(with_audit(workspace, waivers=path), QUIET)
    content = read(workspace)
    assert content["judged_on"] == today.isoformat()
    assert all(
        row["waived"] for row in content["findings"] if row["rule"] == "missed" and row["verdict"] != "pass"
    )


def test_an_export_is_judged_at_the_threshold_that_ships(workspace, tables):
    place = workspace.root / "validate" / "other"
    for stage in ("cohort", "predict"):
        (place / stage).mkdir(parents=True)
    (place / "cohort" / "task.json").write_text((workspace.stage("cohort") / "task.json").read_text())
    tables.cohort(200).to_parquet(place / "cohort" / "cohort.parquet")
    predictions = tables.run_tables(n=200, seed=5).predictions.assign(repeat=0, fold=0)
    predictions.loc[:9, "split"] = "trained_on"
    predictions.to_parquet(place / "predict" / "predictions.parquet")
    found = audit_export(workspace, place, policy_of(workspace)).content
    jsonschema.validate(found, SCHEMA)
    shipped = json.loads((workspace.stage("evaluate") / "metrics.json").read_text())["classes"][0]
    assert found["tested"]["kind"] == "export" and found["tested"]["subjects"] == 190
    assert found["tested"]["classes"][0]["threshold"] == shipped["operating_point"]["threshold"]


def test_a_run_of_an_earlier_version_has_no_part_by_modality(workspace):
    assert audit_run(workspace, policy_of(workspace)).content["modalities"] is not None
    (workspace.stage("predict") / "nothing.parquet").unlink()
    assert audit_run(workspace, policy_of(workspace)).content["modalities"] is None


def with_audit(workspace, **changes):
    config = workspace.config
    return replace(
        workspace, config=config.model_copy(update={"audit": config.audit.model_copy(update=changes)})
    )
