"""The stage ``audit`` of a staining run: is the stain worse, or refused more often, for anybody?

A stain has no threshold of a policy yet. The rules are few and stand here: every stain must be
learnable, and no group may have a larger error or more refused tissue than everybody else, shown by
an interval that excludes zero at a level that allows for the number of comparisons (Bonferroni). Where
groups are too small to be compared, the audit cannot decide.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from clinimm.core.record import write_text
from clinimm.progress import Progress
from clinimm.staining.agreement import mean_by_unit
from clinimm.staining.clusters import cluster_figure, ratio
from clinimm.staining.verdict import CANNOT_TELL, LEARNABLE
from clinimm.workspace import Workspace

FORMAT = "clinimm.staining-audit/1"
PASSED, BROKEN, UNDECIDED = 0, 1, 2
_ATTRIBUTES = ("sex", "age_band", "race", "ethnicity", "site_id")
_MEASURES = {"error": "mean absolute colour error of a tile", "refused": "share of tiles refused"}
_FEWEST = 5
_ALPHA = 0.05
_DRAWS = 4_000


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Write ``audit/audit.json``; groups of fewer than five subjects show no figure."""
    tiles = pd.read_parquet(workspace.need("predict", "tiles.parquet"))
    cohort = pd.read_parquet(workspace.need("cohort", "cohort.parquet"))
    metrics = json.loads(workspace.need("evaluate", "metrics.json").read_text(encoding="utf-8"))
    rows = audit_groups(tiles, cohort, workspace.config.seed)
    findings = _findings(metrics, rows)
    status = _status(findings)
    content = {
        "format": FORMAT,
        "run": workspace.config.name,
        "groups": rows,
        "findings": findings,
        "exit_status": status,
        "verdict": {PASSED: "passed", BROKEN: "broken", UNDECIDED: "undecided"}[status],
        "sentence": " ".join(one["sentence"] for one in findings if one["verdict"] != "passed")
        or "Every stain is learnable from these data, and no group is shown to be served worse.",
    }
    text = json.dumps(content, indent=1, sort_keys=True, allow_nan=False)
    write_text(workspace.stage("audit") / "audit.json", text + "\n")
    progress.say(f"  {content['sentence']}")
    return {"verdict": content["verdict"], "exit_status": status, "groups": len(rows)}


def audit_groups(tiles: pd.DataFrame, cohort: pd.DataFrame, seed: int = 0) -> list[dict[str, Any]]:
    """A row a stain, attribute, group and measure: the group, everybody else, and the difference.

    Args:
        tiles: ``predict/tiles.parquet``.
        cohort: ``cohort/cohort.parquet``.
        seed: of the bootstrap by subject.
    """
    known = [name for name in _ATTRIBUTES if name in cohort]
    table = tiles.merge(cohort[["subject_id", *known]], on="subject_id", how="left")
    rows: list[dict[str, Any]] = []
    comparisons = _comparisons(table, known)
    for stain, own in table.groupby("stain", sort=True):
        for attribute in known:
            for group in sorted(own[attribute].dropna().astype(str).unique()):
                member = (own[attribute].astype(str) == group).to_numpy()
                for measure in _MEASURES:
                    rows.append(
                        {"stain": str(stain), "attribute": attribute, "group": group, "measure": measure}
                        | _compared(own, member, measure, seed, 1 - _ALPHA / max(1, comparisons))
                    )
    return rows


def _comparisons(table: pd.DataFrame, attributes: list[str]) -> int:
    """How many groups can be compared, over all stains and measures."""
    people = table.drop_duplicates("subject_id")
    judged = 0
    for attribute in attributes:
        counts = people[attribute].dropna().astype(str).value_counts()
        judged += int(((counts >= _FEWEST) & (len(people) - counts >= _FEWEST)).sum())
    return judged * table["stain"].nunique() * len(_MEASURES)


def _compared(
    tiles: pd.DataFrame, member: np.ndarray, measure: str, seed: int, level: float
) -> dict[str, Any]:
    value = tiles[measure].to_numpy(float)
    kept = np.isfinite(value)
    subjects = tiles["subject_id"].astype(str).to_numpy()
    inside, outside = (sorted(set(subjects[kept & side])) for side in (member, ~member))
    found: dict[str, Any] = {"n": len(inside), "others": len(outside), "value": None, "difference": None}
    if min(len(inside), len(outside)) < _FEWEST:
        return found
    own = mean_by_unit(value[kept & member], list(subjects[kept & member]))

    def difference(weights: np.ndarray) -> np.ndarray:
        sides = [
            ratio(weights @ (value[kept] * side), weights @ side.astype(float))
            for side in (member[kept], ~member[kept])
        ]
        return np.asarray(sides[0] - sides[1])

    against = cluster_figure(difference, list(subjects[kept]), "", seed, _DRAWS, level)
    return found | {"value": _plain(asdict(own)), "difference": _plain(asdict(against))}


def _findings(metrics: dict[str, Any], rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    found = []
    for stain, entry in metrics["stains"].items():
        key = entry["verdict"]["key"]
        verdict = "passed" if key == LEARNABLE else "undecided" if key == CANNOT_TELL else "broken"
        found.append(
            {
                "rule": "learnable",
                "stain": stain,
                "verdict": verdict,
                "sentence": entry["verdict"]["sentence"],
            }
        )
    if not metrics["stains"]:
        found.append(
            {"rule": "learnable", "stain": "", "verdict": "broken", "sentence": "There is no stain."}
        )
    unjudged = sorted({r["attribute"] for r in rows} - {r["attribute"] for r in rows if r["difference"]})
    if unjudged or not rows:
        sentence = (
            f"Groups by {', '.join(unjudged) or 'anything'} are too small to be compared (n < {_FEWEST})."
        )
        found.append({"rule": "groups", "stain": "", "verdict": "undecided", "sentence": sentence})
    for row in rows:
        difference = row["difference"]
        if difference and difference["low"] is not None and difference["low"] > 0:
            who = f"{row['attribute']} {row['group']}"
            by = f"{difference['value']:.3f} ({difference['low']:.3f} to {difference['high']:.3f})"
            sentence = (
                f"{row['stain']}: {_MEASURES[row['measure']]} is higher for {who} than for everybody else, "
                f"by {by}, n = {row['n']} against {row['others']} subjects."
            )
            found.append({"rule": "groups", "stain": row["stain"], "verdict": "broken", "sentence": sentence})
    return found


def _status(findings: list[dict[str, Any]]) -> int:
    verdicts = {one["verdict"] for one in findings}
    return BROKEN if "broken" in verdicts else UNDECIDED if "undecided" in verdicts else PASSED


def _plain(value: dict[str, Any]) -> dict[str, Any]:
    return {k: None if isinstance(v, float) and not np.isfinite(v) else v for k, v in value.items()}
