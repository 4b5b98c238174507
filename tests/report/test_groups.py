from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from clinimm.report.facts import RunFacts
from clinimm.report.groups import audit_rows, patient_groups


def row(attributes: list[str], levels: list[str], n: int, **more: Any) -> dict[str, Any]:
    figures = {"auroc": [0.8, 0.7, 0.9], "fnr": [0.2, None, None]}
    found = {"class_name": "severe", "attributes": attributes, "levels": levels, "n": n, "positives": 5}
    return found | {"small": n < 10, "withheld": n < 10, "counts": {}, "figures": figures} | more


def facts_of(*groups: dict[str, Any]) -> Any:
    finding = {
        "verdict": "fail",
        "class_name": "severe",
        "attribute": "sex",
        "level": "female",
        "sentence": "x",
    }
    audit = {"groups": list(groups), "findings": [finding]}
    text = lambda row: row["sentence"]  # noqa: E731
    return SimpleNamespace(audit=audit, modalities=("ehr", "notes"), title=str.upper, finding_text=text)


FACTS = facts_of(
    row([], [], 100),
    row(["sex"], ["female"], 60),
    row(["sex"], ["male"], 4),
    row(["sex", "site"], ["female", "A"], 30),
    row(["sex"], ["female"], 9, class_name="other"),
)


def test_a_small_group_shows_no_figure_and_no_count() -> None:
    male = next(one for one in audit_rows(FACTS, "severe") if one["level"] == "male")
    assert male["suppressed"] and male["figures"] == {}
    assert male["n"] is None and male["positives"] is None


def test_a_group_that_would_give_a_small_one_away_has_its_name_alone(run: Any) -> None:
    facts = RunFacts(run.workspace)
    full = {(*row["attributes"], *row["levels"]): row for row in facts.audit["groups"]}  # type: ignore[index]
    rows = audit_rows(facts, "severe", "withheld")
    hidden = [one for one in rows if one["suppressed"]]
    large = [one for one in hidden if not one["small"]]
    assert large and all(full[one["attribute"], one["level"]]["n"] >= 10 for one in large)
    assert all(one["n"] is one["positives"] is None and one["figures"] == {} for one in hidden)
    finding = {"class_name": "severe", "metric": "fnr", "n": 50, "sentence": "missed 0.300"}
    finding |= {"attribute": large[0]["attribute"], "level": large[0]["level"]}
    assert "0.300" not in facts.finding_text(finding, "withheld")
    assert "0.300" in facts.finding_text(finding), "a patient's own page stays with those who treat"
    everybody = rows[0]["n"]
    for attribute in {one["attribute"] for one in rows[1:]}:
        own = [one for one in rows if one["attribute"] == attribute]
        left = everybody - sum(one["n"] or 0 for one in own)
        assert left == 0 or left >= 10, "what is left over tells of a small group"


def test_pages_show_everybody_and_single_attributes_of_their_class() -> None:
    rows = audit_rows(FACTS, "severe")
    assert [(one["attribute"], one["level"]) for one in rows] == [
        ("overall", "overall"),
        ("sex", "female"),
        ("sex", "male"),
    ]
    assert rows[0]["figures"]["auroc"] == {"value": 0.8, "low": 0.7, "high": 0.9, "reason": None}
    assert rows[0]["figures"]["fnr"]["reason"] == "too few patients of one outcome"


def test_a_patient_sees_the_own_groups_and_what_is_broken_for_them() -> None:
    (group,) = patient_groups(FACTS, "severe", {"sex": "female", "age_years": 40.0}, "ehr+notes")
    assert (group.name, group.n, group.warnings) == ("sex: female", "60", ("x",))


def test_a_finding_on_a_small_group_is_told_without_its_figures(run: Any) -> None:
    facts = RunFacts(run.workspace)
    finding = {"class_name": "severe", "metric": "fnr", "attribute": "age_band", "level": "x", "n": 9}
    finding["sentence"] = "missed 0.300"
    hidden = "missed (false negative rate), age band: x (figures hidden, as a count is small)"
    assert facts.finding_text(finding) == hidden
    assert facts.finding_text(finding | {"n": 10}) == "missed 0.300"
