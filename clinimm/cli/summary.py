"""What the verbs print at their end."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

    from clinimm.workspace import Workspace

_BUDGET_ROWS = 12
_VERDICT_LINES = 2  # the sentence and the recommendation


def evaluation_lines(workspace: Workspace, brief: bool = False) -> list[str]:
    """The evaluation as a table, with its verdict; nothing before there is one.

    ``brief`` gives the verdict alone, for where the stage has just shown the table.
    """
    metrics = _read(workspace.root / "evaluate" / "metrics.json")
    if metrics is None:
        return []
    if "stains" in metrics:  # a run for virtual staining: a verdict a stain
        return [str(entry["verdict"]["sentence"]) for entry in metrics["stains"].values()]
    from clinimm.evaluate.stage import summary_lines

    lines = list(summary_lines(metrics))
    return lines[-_VERDICT_LINES:] if brief else lines


def report_lines(workspace: Workspace) -> list[str]:
    """Where the documents for people are, and whether the model was registered."""
    documents = {
        "refusals": workspace.root / "ingest" / "refusals.parquet",
        "audit": workspace.root / "audit" / "audit.html",
        "model card": workspace.root / "report" / "model_card.html",
        "stain reports" if workspace.config.staining else "patient reports": workspace.root
        / "report"
        / "index.html",
    }
    lines = [f"{name}: {path}" for name, path in documents.items() if path.exists()]
    for stage in ("explain", "report"):
        if refused := refused_lines(workspace, stage):
            path = workspace.root / stage / "refused.parquet"
            lines.append(f"{stage}: {len(refused)} refused, see {path}")
    registration = _read(workspace.root / "register" / "registration.json")
    if registration is not None:
        lines.insert(0, f"gate: {registration['sentence']}")
    return lines


def refused_lines(workspace: Workspace, stage: str) -> list[str]:
    """The subjects that a stage went on without, each with the reason; nothing where it refused nobody."""
    import pandas as pd

    path = workspace.root / stage / "refused.parquet"
    if not path.is_file():
        return []
    table = pd.read_parquet(path)
    parts = " (" + table["part"] + ")" if "part" in table else ""
    return list("refused " + table["subject_id"] + parts + ": " + table["reason"])


def audit_lines(audit: Mapping[str, Any]) -> list[str]:
    """Each finding that is not a pass, and the audit's sentence."""
    findings = [row for row in audit.get("findings", ()) if row["verdict"] != "pass"]
    return [*(f"{row['verdict']:<13} {row['sentence']}" for row in findings), audit["sentence"]]


def budget_lines(attributions: pd.DataFrame, summary: pd.DataFrame, standings: pd.DataFrame) -> list[str]:
    """One subject's budget: what each part of the input added to the logit, largest first.

    The rows from the reference to the residual sum to the logit. Shares of a map are no amounts of
    the logit, and are printed as shares.
    """
    from clinimm.explain.methods import get_method
    from clinimm.explain.promise import CONTEXT, SHARE

    lines: list[str] = []
    for row in summary.itertuples():
        mine = attributions[attributions["class_name"] == row.class_name]
        states = standings[standings["class_name"] == row.class_name]
        method = get_method(str(row.method))
        role = "; context, not attribution" if method.role == CONTEXT else ""
        lines.append(f"{row.task} = {row.class_name} by {method.title.lower()}{role}")
        totals = mine.groupby("modality")["score"].sum()
        if method.unit == SHARE:
            lines += [f"  {name:<12} {total:7.1%} of the map" for name, total in totals.items()]
            lines.append(f"  shares of a map, which do not sum to the logit {row.logit:+.3f}")
        else:
            lines += _sum_lines(row, totals, mine)
            lines += (
                [] if method.sums else ["  parts of this method are not meant to sum up; see the residual"]
            )
        lines.append(f"  {method.caveat}")
        lines += [
            f"  map of {one.modality}: {one.sentence}"
            for one in states[states["state"] != "shown"].itertuples()
        ]
        largest = mine.reindex(mine["score"].abs().sort_values(ascending=False).index).head(_BUDGET_ROWS)
        lines.append("  largest parts:")
        lines += [f"  {part.score:+.3f}  {part.modality:<12} {part.text}" for part in largest.itertuples()]
    return lines


def _sum_lines(row: Any, totals: pd.Series, mine: pd.DataFrame) -> list[str]:
    words = dict(zip(mine["modality"], mine["baseline"], strict=True))
    rows = [("reference", row.baseline_logit, "the logit that parts are counted from")]
    rows += [(str(name), total, f"counted from {words[name]}") for name, total in totals.items()]
    rows.append(("residual", -row.convergence_delta, "what the parts leave over"))
    lines = [f"  {name:<12} {value:+8.3f}  {text}" for name, value, text in rows]
    return [*lines, f"  {'logit':<12} {row.logit:+8.3f}  the sum of these rows"]


def _read(path: Path) -> Any:
    if not path.is_file():
        return None
    return json.loads(path.read_text(encoding="utf-8"))
