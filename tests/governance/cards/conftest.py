"""A small audit of two classes of figure: enough for every document."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clinimm.audit.engine.measures import MEASURES

Audit = dict[str, Any]


def figures(start: float) -> dict[str, list[float | None]]:
    """A different figure for every measure, so that a wrong pointer shows."""
    return {
        name: [
            round(start + 0.01 * at, 4),
            round(start + 0.01 * at - 0.05, 4),
            round(start + 0.01 * at + 0.05, 4),
        ]
        for at, name in enumerate(MEASURES)
    }


def group(attributes: list[str], levels: list[str], n: int | None, start: float = 0.0) -> Audit:
    """One row of ``groups``; without n it is hidden."""
    counts = {"true_positive": 1, "false_negative": 1, "false_positive": 1, "true_negative": 1}
    return {
        "class_name": "sepsis",
        "attributes": attributes,
        "levels": levels,
        "n": n,
        "positives": None if n is None else n // 4,
        "small": False,
        "withheld": False,
        "counts": None if n is None else counts,
        "figures": None if n is None else figures(start),
    }


def finding(rule: str, level: str, verdict: str, value: float | None) -> Audit:
    """One row of ``findings``."""
    ends = (None, None) if value is None else (round(value - 0.04, 4), round(value + 0.04, 4))
    return {
        "class_name": "sepsis",
        "rule": rule,
        "metric": "fnr",
        "stat": "difference",
        "reference": "rest",
        "attribute": "sex",
        "level": level,
        "verdict": verdict,
        "value": value,
        "low": ends[0],
        "high": ends[1],
        "pointwise": list(ends),
        "group_value": 0.3,
        "reference_value": 0.2,
        "n": 200,
        "count": 50,
        "unit": "positives",
        "needed": None,
        "allocation": None,
        "gates": True,
        "blocks": verdict == "fail",
        "waived": None,
        "sentence": f"fnr of {level}",
    }


@pytest.fixture
def audit() -> Audit:
    """The content of an ``audit.json`` of a run."""
    return {
        "schema": "clinimm.audit/2",
        "code_version": "1.0+abc",
        "run": "ward",
        "verdict": "fail",
        "exit_status": 1,
        "blocks": True,
        "sentence": "At least one group is served worse than the policy allows.",
        "tested": {
            "kind": "run",
            "file": "predictions.parquet",
            "sha256": "a" * 64,
            "subjects": 400,
            "subject_known": True,
            "rows": 401,
            "subjects_repeat": False,
            "repeats": 1,
            "columns": {},
            "model_digest": "b" * 64,
            "classes": [
                {
                    "class_name": "sepsis",
                    "threshold": 0.21,
                    "how": "sensitivity 0.8 on tuning subjects",
                    "n": 400,
                    "positives": 101,
                    "prevalence": 0.2525,
                    "flagged": 140,
                }
            ],
            "attributes": [
                {"name": "sex", "levels": ["female", "male"], "source": "self_report", "missing": 3}
            ],
        },
        "findings": [
            finding("missed", "female", "fail", 0.17),
            finding("missed", "male", "pass", -0.17),
            finding("missed", "(missing)", "inconclusive", None),
        ],
        "worst": [{"rule": "missed", "finding": 0}],
        "not_known": ["Whether the 3 without sex fare worse."],
        "groups": [
            group([], [], 400, 0.3),
            group(["sex"], ["female"], 200, 0.5),
            group(["sex"], ["male"], 197, 0.1),
            group(["sex"], ["(missing)"], None),
        ],
        "spread": [],
        "missing": [],
        "modalities": None,
        "signals": None,
        "mitigation": None,
        "waivers": [],
        "statistics": {
            "level": 0.95,
            "joint_level": 0.98,
            "judged_together": 3,
            "minimum_cell": 10,
            "draws": 2000,
            "permutations": 2000,
            "seed": 1,
            "published_minimum": 11,
            "bootstrap_check": {"draws": 1000, "intervals": 10, "largest_distance": 0.01},
            "methods": dict.fromkeys(MEASURES, "Wilson interval"),
        },
        "policy": {
            "path": "policy.yaml",
            "sha256": "c" * 64,
            "rules": [
                {"id": "useful", "metric": "auroc", "stat": "value", "above": 0.5},
                {"id": "missed", "metric": "fnr", "stat": "difference", "attribute": ["sex"], "margin": 0.1},
            ],
        },
    }


@pytest.fixture
def audit_file(audit: Audit, tmp_path):
    """The audit as a file."""
    path = tmp_path / "audit.json"
    path.write_text(json.dumps(audit))
    return path
