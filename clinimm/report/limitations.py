"""Limitations, written from the run's own figures so that nobody can leave them out."""

from __future__ import annotations

import pandas as pd

from clinimm.report.facts import RunFacts, split_key
from clinimm.report.words import percent, plural

#: Rules of thumb for validation samples: 100 events and 100 non-events (Vergouwe et al. 2005,
#: doi:10.1016/j.jclinepi.2004.06.017).
_FEWEST_EVENTS = 100
_RARE = 0.5
_UNKNOWN = 0.2
#: Counts from 1 to below this are not told, where no audit says another.
_SMALL = 11


def limitations(facts: RunFacts) -> list[str]:
    """Sentences that a reader must see before the figures are used."""
    return [
        *_validation(facts),
        *_size(facts),
        *_warnings(facts),
        *_missing_sources(facts),
        *_people(facts),
        *_not_read(facts),
        "Nobody has yet tested whether patients are better off when this model is used.",
    ]


def _validation(facts: RunFacts) -> list[str]:
    metrics = facts.metrics
    if metrics is None:
        return ["The run was not evaluated: no figure of how well it works exists."]
    rounds = metrics["repeats"] * metrics["folds"]
    found = []
    if rounds > 1:
        found.append(
            f"Figures come from {rounds} fits on parts of the data (cross-validation); the shipped model "
            "is a further fit, and no figure was measured on it directly."
        )
    sites = facts.cohort["site_id"].dropna().nunique()
    if sites <= 1:
        found.append("All data come from one site: how well it works elsewhere is unknown.")
    else:
        found.append(
            f"Data come from {sites} sites; none of them was a separate hospital's validation "
            "(`clinimm validate`)."
        )
    return found


def _size(facts: RunFacts) -> list[str]:
    metrics = facts.metrics
    if metrics is None:
        return []
    found = []
    rows = [row for row in metrics["classes"] if row["positives"] is not None]
    for row in rows:
        fewest = min(row["positives"], row["n"] - row["positives"])
        if fewest < _FEWEST_EVENTS:
            found.append(
                f"Only {row['n']} labelled held-out patients, {row['positives']} of them positive for "
                f"{row['class_name']}; below about {_FEWEST_EVENTS} of each kind intervals are wide and "
                "calibration is not settled."
            )
    if metrics["unlabelled"]:
        found.append(
            f"{plural(metrics['unlabelled'], 'held-out patient')} have no known outcome and are in no figure."
        )
    return found


def _warnings(facts: RunFacts) -> list[str]:
    own = [str(text) for text in (facts.flow or {}).get("warnings", ())]
    verdict = (facts.metrics or {}).get("verdict") or {}
    return own + [str(text) for text in verdict.get("warnings", ())]


def _missing_sources(facts: RunFacts) -> list[str]:
    held_out = facts.predictions[facts.predictions["split"] == "held_out"].drop_duplicates("subject_id")
    if held_out.empty:
        return []
    sets = held_out["modalities_present"].map(lambda key: set(split_key(key)))
    having = {name: sum(name in found for found in sets) for name in facts.modalities}
    return [
        f"{facts.title(name)} is there for {_part(facts, count, len(sets))} held-out patients only; what it "
        "adds rests on those."
        for name, count in having.items()
        if count / len(sets) < _RARE
    ]


def _part(facts: RunFacts, count: int, n: int) -> str:
    """``12% of``, or in words where the share would tell a count that the published audit hides."""
    minimum = (facts.audit or {}).get("statistics", {}).get("published_minimum", _SMALL)
    if 0 < count < minimum:
        return "a few"
    return "nearly all" if 0 < n - count < minimum else f"{percent(count / n)} of"


def _people(facts: RunFacts) -> list[str]:
    found = []
    for column in ("sex", "age_years", "race", "ethnicity"):
        if column not in facts.cohort:
            continue
        unknown, n = int(pd.isna(facts.cohort[column]).sum()), len(facts.cohort)
        if unknown and unknown >= _UNKNOWN * n:
            name = column.replace("_years", "")
            found.append(
                f"{name.capitalize()} is unknown for {_part(facts, unknown, n)} patients, so unequal "
                f"service by {name} could go unseen."
            )
    groups = [row for row in (facts.audit or {}).get("groups", ()) if len(row["attributes"]) <= 1]
    small = sum(bool(row["small"]) for row in groups)
    if small:
        found.append(f"{plural(small, 'group')} too small to show: nobody knows how they are served.")
    return found


def _not_read(facts: RunFacts) -> list[str]:
    if facts.refusals is None or facts.refusals.empty:
        return []
    return [
        f"{plural(len(facts.refusals), 'item')} of the export could not be read and are not in the data "
        "(listed in ingest/refusals.parquet)."
    ]
