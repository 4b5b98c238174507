"""What clinicians objected to, from the table that ``clinimm feedback export`` writes."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from clinimm.audit.engine.intervals import clopper_pearson
from clinimm.core.errors import DataError
from clinimm.evaluate.estimate import rounded
from clinimm.monitor.betting import bet
from clinimm.monitor.finding import BREACH, QUIET, Finding, Scribe
from clinimm.monitor.plan import MonitoringPlan
from clinimm.monitor.snapshot import period_of
from clinimm.report.words import percent

AGREE, OBJECT = "FEEDBACK//agree", "FEEDBACK//object"
_FEWEST = 10
_NEEDED = ("subject_id", "time", "code", "attributes")


def read_feedback(path: Path) -> pd.DataFrame:
    """Verdicts in the order in which they were given: time, whether it objects, reason, model.

    Raises:
        DataError: the file cannot be read or is no table of feedback.
    """
    try:
        events = pd.read_parquet(path)
    except (FileNotFoundError, pa.ArrowInvalid) as error:
        raise DataError(f"{path}: no table of feedback; `clinimm feedback export` writes one.") from error
    if absent := [name for name in _NEEDED if name not in events]:
        raise DataError(f"{path.name}: no column {', '.join(absent)}; `clinimm feedback export` writes them.")
    verdicts = events[events["code"].isin([AGREE, OBJECT])].sort_values("time", kind="stable")
    about = [json.loads(text) for text in verdicts["attributes"]]
    return pd.DataFrame(
        {
            "time": pd.to_datetime(verdicts["time"], utc=True).to_numpy(),
            "objects": (verdicts["code"] == OBJECT).to_numpy(float),
            "reason": [one.get("reason") for one in about],
            "model_digest": [one.get("model_digest") for one in about],
        }
    ).assign(time=lambda table: pd.to_datetime(table["time"], utc=True))


def check_objections(
    feedback: pd.DataFrame, models: list[str], plan: MonitoringPlan
) -> tuple[list[Finding], dict[str, Any]]:
    """Whether more verdicts object than the plan lets pass, told at any moment, and counts for the board.

    Args:
        feedback: of ``read_feedback``.
        models: whose answers count; empty takes all.
        plan: bound and alpha.
    """
    scribe, rules = Scribe("objections", plan.objections), plan.objections
    mine = feedback[feedback["model_digest"].isin(models)] if models else feedback
    objects, n = int(mine["objects"].sum()), len(mine)
    board = {
        "reasons": dict(sorted(Counter(mine.loc[mine["objects"] == 1, "reason"].dropna()).items())),
        "periods": _periods(mine, plan),
        "other_models": len(feedback) - n,
    }
    if n < _FEWEST:
        return [scribe.too_few("objections", n, None, _FEWEST)], board
    one = bet(mine["objects"].to_numpy(float), rules.bound, rules.alpha)
    low, high = (float(end) for end in clopper_pearson(np.asarray(objects), np.asarray(n), plan.level))
    said = f"Clinicians objected to {objects} of {n} answers ({percent(objects / n)}); the bound is "
    said += f"{percent(rules.bound)}. "
    if one.alarm is None:
        said += f"The e-value never reached {one.needed:.3g} (highest {one.highest:.3g})."
    else:
        day = mine["time"].iloc[one.alarm].date().isoformat()
        said += f"The e-value reached {one.needed:.3g} on {day}."
    finding = scribe.write(
        "objections",
        QUIET if one.alarm is None else BREACH,
        said,
        (objects / n, low, high),
        limit=rules.bound,
        p_value=min(1.0, one.p_value),
        n=n,
    )
    return [finding], board


def _periods(verdicts: pd.DataFrame, plan: MonitoringPlan) -> list[dict[str, Any]]:
    found = []
    for period, rows in verdicts.groupby(period_of(verdicts["time"], plan), sort=True):
        low, high = clopper_pearson(np.asarray(rows["objects"].sum()), np.asarray(len(rows)), plan.level)
        value = float(rows["objects"].mean())
        found.append(
            {
                "period": str(period),
                "n": len(rows),
                "value": rounded(value),
                "low": rounded(float(low)),
                "high": rounded(float(high)),
            }
        )
    return found
