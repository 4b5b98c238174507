"""One self-contained HTML page a patient: how well this works, the answer, and why.

The page leads with how well the model works for patients like this one and not with a map:
explanations alone did not protect clinicians from a biased model (Jabbour et al., JAMA 2023,
doi:10.1001/jama.2023.22295).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import Any

import pandas as pd

from clinimm.audit.explanation_policy import ExplanationPolicy
from clinimm.core.record import write_text
from clinimm.explain.promise import PROMISES
from clinimm.report import figures
from clinimm.report.budget import budget_of
from clinimm.report.calibrated import calibrated
from clinimm.report.evidence import Evidence, gather
from clinimm.report.facts import RunFacts, estimate_text
from clinimm.report.groups import patient_groups, range_of, unsettled_of
from clinimm.report.labs import lab_chart, labs_of
from clinimm.report.localised import localised
from clinimm.report.maps import Map, make_map
from clinimm.report.nearest import cases_of
from clinimm.report.notes import fitted, readable
from clinimm.report.page import asset, render
from clinimm.report.pictures import open_pixels
from clinimm.report.sources import sources_of
from clinimm.report.standings import (
    ALL,
    MapState,
    check_rows,
    explanation_policy,
    left_after_randomisation,
    map_states,
)
from clinimm.report.subject import SubjectFacts, neighbours, read_subject
from clinimm.report.unusual import distances, familiar_verdict
from clinimm.report.words import of_hundred, percent_range
from clinimm.workspace import Workspace

#: A page is smaller than this; pictures shrink until it is.
MAX_BYTES = 1_000_000
_SIDES = (512, 384, 256, 128)
_PICTURES = 3
#: Notes that are shown whole, or as much of them as a page has room for; of others their marked passages.
_NOTES = 10
#: Sheets of a printed page part; each says what the banner on the first one says.
_ON_EVERY_SHEET = (
    '@page { @bottom-left { content: "Research use only. Not for diagnosis or treatment decisions."; '
    "font: 8pt sans-serif; } }\n"
)
_STAGES = ("ingest", "cohort", "encode", "train", "predict", "explain", "audit")


def write_patient_report(
    workspace: Workspace, subject_id: str, out: Path, nearest: pd.DataFrame | None = None
) -> Path:
    """Write the page of one subject to ``out``; ``nearest`` as in ``patient_page``.

    Works on any run that has predictions: what is missing (an explanation, a picture, an audit)
    is named on the page.

    Raises:
        DataError: the subject has no held-out prediction in this run.
        MissingStageError: the run has no predictions yet.
    """
    beside_card = out.parent.parent.resolve() == (workspace.root / "report").resolve()
    write_text(out, patient_page(RunFacts(workspace), subject_id, beside_card, nearest))
    return out


def patient_page(
    facts: RunFacts,
    subject_id: str,
    beside_card: bool = True,
    nearest: pd.DataFrame | None = None,
    framed: bool = False,
) -> str:
    """The page as text; equal runs give equal bytes.

    Args:
        facts: the run.
        subject_id: whose page.
        beside_card: whether the page will lie where a link to the model card leads somewhere.
        nearest: rows of ``explain/nearest.parquet``; None leaves the training patients out, as who may
            see this patient may not be one who may see those.
        framed: whether a page around it shows the banner, on the screen; on paper it has its own.
    """
    subject = read_subject(facts, subject_id)
    evidence = gather(subject.attributions, subject.events) if len(subject.attributions) else None
    values = _first_screen(facts, subject) | _evidence(facts, subject, evidence) | _origin(facts, subject)
    page = ""
    for side in _SIDES:
        page = render(
            "patient.html",
            more_style=asset("patient_page.css") + ("" if facts.released else _ON_EVERY_SHEET),
            script=asset("patient_viewer.js"),
            beside_card=beside_card,
            framed=framed,
            nearest=cases_of(facts, subject, nearest),
            facts=facts,
            subject=subject,
            prediction=subject.prediction,
            estimate=estimate_text,
            bars=figures.interval_bar,
            percent_range=percent_range,
            maps=_maps(facts, subject, evidence, values["states"], side),
            **values,
        )
        if len(page.encode("utf-8")) < MAX_BYTES:
            break
    return page


def _first_screen(facts: RunFacts, subject: SubjectFacts) -> dict[str, Any]:
    """What a reader needs before any evidence."""
    prediction = subject.prediction
    class_name, probability = str(prediction["class_name"]), float(prediction["probability"])
    row = facts.figures_of(class_name)
    threshold = _threshold(row, prediction)
    minimum = facts.workspace.config.evaluate.minimum_cell
    groups = patient_groups(facts, class_name, subject.attributes, str(prediction["modalities_present"]))
    return {
        "outcome": _outcome(facts, prediction),
        "probability": probability,
        "frequency": of_hundred(probability),
        "icons": figures.icons(probability),
        "calibrated": calibrated(facts, prediction, minimum),
        "neighbours": neighbours(facts, prediction, minimum),
        "threshold": threshold,
        "above": threshold is not None and probability >= threshold,
        "operating_point": row.get("operating_point"),
        "scale": figures.probability_scale(probability, threshold),
        "figures_of_class": row.get("fused") or {},
        "groups": groups,
        "group_range": range_of(groups),
        "unsettled": unsettled_of(groups),
        "sources": sources_of(facts, subject),
        "with_these": facts.subset(subject.present),
        "with_all": facts.subset(facts.modalities),
        "fusion": facts.fusion_verdict(),
        "audit": facts.audit_verdict(),
        "familiar": familiar_verdict(facts, distances(facts, prediction, subject.present), subject.present),
    }


def _evidence(facts: RunFacts, subject: SubjectFacts, evidence: Evidence | None) -> dict[str, Any]:
    """What moved the answer, and whether that may be believed."""
    budget = budget_of(facts, subject)
    states = map_states(facts, subject)
    hidden = [name for name, state in states.items() if state.hidden]
    shown = subject.attributions
    if hidden and len(shown):  # the order of the charts would tell what the policy hides
        shown = shown.iloc[:0] if ALL in hidden else shown[~shown["modality"].isin(hidden)]
    labs = labs_of(subject.events, shown)
    notes = fitted(readable(evidence.notes, hidden)) if evidence else ()
    return {
        "evidence": evidence,
        "notes": notes[:_NOTES],
        "more_notes": notes[_NOTES:],
        "states": states,
        "method": None if subject.summary is None else PROMISES.get(str(subject.summary["method"])),
        "baselines": _baselines(facts, subject),
        "budget": budget,
        "waterfall": None
        if budget is None
        else figures.waterfall(budget.start, budget.steps, "How the logit is put together"),
        "labs": [(lab, lab_chart(lab)) for lab in labs],
        "labs_by_weight": any(lab.weight for lab in labs),
        "more_pictures": max(0, len(evidence.pictures) - _PICTURES) if evidence else 0,
        "checks": _checks(subject, explanation_policy(facts)),
        "check_rows": check_rows(facts, subject),
        "randomised": left_after_randomisation(facts),
    }


def _origin(facts: RunFacts, subject: SubjectFacts) -> dict[str, Any]:
    """Where everything comes from."""
    return {
        "records": {stage: facts.record(stage) for stage in _STAGES},
        "policy_digest": ((facts.audit or {}).get("policy") or {}).get("sha256"),
        "inputs": [
            (str(name), sorted({str(digest) for digest in rows["digest"].dropna()}))
            for name, rows in (subject.attributions.groupby("modality") if len(subject.attributions) else ())
            if rows["digest"].notna().any()
        ],
    }


def _outcome(facts: RunFacts, prediction: Mapping[str, Any]) -> str:
    task, name = facts.task["name"], str(prediction["class_name"])
    return name if name == task else f"{task}: {name}"


def _threshold(row: Mapping[str, Any], prediction: Mapping[str, Any]) -> float | None:
    """The operating point of the fit that answered for this subject."""
    point = row.get("operating_point")
    if not point:
        return None
    for fit in point.get("fits") or ():
        if (fit["repeat"], fit["fold"]) == (prediction["repeat"], prediction["fold"]):
            return float(fit["threshold"])
    return float(point["threshold"])


def _baselines(facts: RunFacts, subject: SubjectFacts) -> list[tuple[str, str]]:
    """What each source's parts are counted from; sources with the same baseline stand together."""
    if not len(subject.attributions):
        return []
    known = subject.attributions.drop_duplicates("modality")
    found = [
        (str(words), [facts.title(str(name)) for name in rows["modality"]])
        for words, rows in known.groupby("baseline", sort=True)
    ]
    return [("every source" if len(found) == 1 else ", ".join(titles), words) for words, titles in found]


def _maps(
    facts: RunFacts,
    subject: SubjectFacts,
    evidence: Evidence | None,
    states: Mapping[str, MapState],
    side: int,
) -> list[Map]:
    if evidence is None or not evidence.pictures:
        return []
    opener, method = open_pixels(facts.workspace), str((subject.summary or {}).get("method"))
    return [
        replace(
            make_map(facts, opener, picture, place, side, states[picture.modality]),
            localised=localised(facts, picture.modality, method),
        )
        for place, picture in enumerate(evidence.pictures[:_PICTURES])
    ]


def _checks(subject: SubjectFacts, policy: ExplanationPolicy) -> dict[str, Any] | None:
    if subject.summary is None:
        return None
    summary = subject.summary
    change = max(abs(summary["logit"] - summary["baseline_logit"]), 1e-3)
    relative = abs(summary["convergence_delta"]) / change
    limit = next((rule.limit for rule in policy.rules if rule.check == "completeness"), None)
    measured = isfinite(summary["deletion_auc"]) and isfinite(summary["deletion_auc_random"])
    return {
        **summary,
        "relative": relative,
        "limit": limit,
        "complete": None if limit is None else relative <= limit,
        "faithful": summary["deletion_auc"] < summary["deletion_auc_random"] if measured else None,
    }
