"""One self-contained HTML page a patient: how well this works, the answer, and why.

The page leads with how well the model works for patients like this one and not with a map:
explanations alone did not protect clinicians from a biased model (Jabbour et al., JAMA 2023,
doi:10.1001/jama.2023.22295).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinimm.core.record import write_text
from clinimm.report import figures
from clinimm.report.evidence import Evidence, Picture, gather
from clinimm.report.facts import RunFacts, estimate_text
from clinimm.report.groups import patient_groups
from clinimm.report.page import render
from clinimm.report.pictures import Shown, open_pixels, show
from clinimm.report.subject import SubjectFacts, neighbours, read_subject
from clinimm.report.words import natural_frequency
from clinimm.workspace import Workspace

#: A page is smaller than this; pictures shrink until it is.
MAX_BYTES = 1_000_000
_SIDES = (512, 384, 256, 128)
_PICTURES = 3
_POINTS_ON_TIMELINE = 60


@dataclass(frozen=True)
class _Map:
    """A picture with its overlay, ready for the template."""

    picture: Picture
    shown: Shown
    title: str
    original: Any
    overlay: Any
    rows: tuple[tuple[int, str, float], ...]


def write_patient_report(workspace: Workspace, subject_id: str, out: Path) -> Path:
    """Write the page of one subject to ``out``.

    Works on any run that has predictions: what is missing (an explanation, a picture, an audit)
    is named on the page.

    Raises:
        DataError: the subject has no held-out prediction in this run.
        MissingStageError: the run has no predictions yet.
    """
    beside_card = out.parent.parent.resolve() == (workspace.root / "report").resolve()
    write_text(out, patient_page(RunFacts(workspace), subject_id, beside_card))
    return out


def patient_page(facts: RunFacts, subject_id: str, beside_card: bool = True) -> str:
    """The page as text; equal runs give equal bytes.

    Args:
        facts: the run.
        subject_id: whose page.
        beside_card: whether the page will lie where a link to the model card leads somewhere.
    """
    subject = read_subject(facts, subject_id)
    evidence = gather(subject.attributions, subject.events) if len(subject.attributions) else None
    opener = open_pixels(facts.workspace) if evidence and evidence.pictures else "nothing to open"
    page = ""
    for side in _SIDES:
        maps = [_map(facts, opener, picture, place, side) for place, picture in _chosen(evidence)]
        page = render("patient.html", beside_card=beside_card, **_values(facts, subject, evidence, maps))
        if len(page.encode("utf-8")) < MAX_BYTES:
            break
    return page


def _values(
    facts: RunFacts, subject: SubjectFacts, evidence: Evidence | None, maps: list[_Map]
) -> dict[str, Any]:
    prediction = subject.prediction
    row = facts.figures_of(str(prediction["class_name"]))
    threshold = _threshold(row, prediction)
    probability = float(prediction["probability"])
    return {
        "facts": facts,
        "subject": subject,
        "prediction": prediction,
        "probability": probability,
        "frequency": natural_frequency(probability),
        "outcome": _outcome(facts, prediction),
        "threshold": threshold,
        "above": threshold is not None and probability >= threshold,
        "operating_point": row.get("operating_point"),
        "scale": figures.probability_scale(probability, threshold),
        "figures_of_class": row.get("fused") or {},
        "neighbours": neighbours(facts, prediction, facts.workspace.config.evaluate.minimum_cell),
        "groups": patient_groups(
            facts, str(prediction["class_name"]), subject.attributes, str(prediction["modalities_present"])
        ),
        "sources": _sources(facts, subject, evidence),
        "with_these": facts.subset(subject.present),
        "with_all": facts.subset(facts.modalities),
        "fusion": facts.fusion_verdict(),
        "audit": facts.audit_verdict(),
        "contributions": _contributions(facts, subject),
        "start": _start(subject),
        "evidence": evidence,
        "maps": maps,
        "more_pictures": max(0, len(evidence.pictures) - len(maps)) if evidence else 0,
        "timeline": _timeline(evidence),
        "checks": _checks(subject),
        "records": {
            stage: facts.record(stage) for stage in ("ingest", "cohort", "encode", "train", "explain")
        },
        "estimate": estimate_text,
        "bars": figures.interval_bar,
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


def _sources(facts: RunFacts, subject: SubjectFacts, evidence: Evidence | None) -> list[dict[str, Any]]:
    """Each modality of the model: whether this patient has it, and how much of it."""
    known = subject.attributions
    found = []
    for name in facts.modalities:
        rows = known[known["modality"] == name] if len(known) else known
        oldest = float(rows["time_hours"].max()) if len(rows) else 0.0
        files = int(rows["digest"].nunique()) if len(rows) else 0
        found.append(
            {
                "title": facts.title(name),
                "present": name in subject.present,
                "count": files or len(rows),
                "noun": "item" if files else "fact",
                "oldest_hours": oldest,
            }
        )
    return found


def _contributions(facts: RunFacts, subject: SubjectFacts) -> Any:
    if not subject.contributions:
        return None
    rows = [(facts.title(name), value) for name, value in subject.contributions.items()]
    rows.sort(key=lambda row: -abs(row[1]))
    return figures.contribution_bars(rows, "What each source contributed, in logits")


def _start(subject: SubjectFacts) -> float | None:
    """The logit without any source: what the contributions are counted from."""
    if subject.summary is None or not subject.contributions:
        return None
    return float(subject.summary["logit"]) - sum(subject.contributions.values())


def _chosen(evidence: Evidence | None) -> list[tuple[int, Picture]]:
    return list(enumerate(evidence.pictures[:_PICTURES])) if evidence else []


def _map(facts: RunFacts, opener: Any, picture: Picture, place: int, side: int) -> _Map:
    shown = show(opener, picture.event, picture.kind, side)
    name, title = f"picture-{place}", facts.title(picture.modality)
    ranked = tuple(
        (rank, _region(box, shown.size), score)
        for rank, (box, score) in enumerate(picture.strongest, start=1)
    )
    if shown.uri is None:
        return _Map(picture, shown, title, None, None, ranked)
    said = f"{title}, {picture.when}; contributions total {picture.total:+.2f} logits. " + "; ".join(
        f"{where} {score:+.2f}" for _, where, score in ranked[:3]
    )
    if picture.kind == "tile":
        overlay = figures.outlines(picture.strongest, shown.size, name, said)
    else:
        overlay = figures.overlay(picture.boxes, shown.size, name, said)
    original = figures.original(shown.uri, shown.size, name, f"{title}, {picture.when}, without overlay.")
    return _Map(picture, shown, title, original, overlay, ranked)


def _region(box: tuple[float, ...], size: tuple[float, float]) -> str:
    """Where a box lies, in words and pixels."""
    left, top, right, bottom = box
    pixels = f"x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f}"
    if not all(size):
        return pixels
    across = ("left", "centre", "right")[min(2, int(3 * (left + right) / 2 / size[0]))]
    down = ("upper", "middle", "lower")[min(2, int(3 * (top + bottom) / 2 / size[1]))]
    return f"{down} {across} of the picture ({pixels})"


def _timeline(evidence: Evidence | None) -> Any:
    dated = [] if evidence is None else [fact for fact in evidence.facts if fact.when != "timeless"]
    if len({fact.hours for fact in dated}) < 2:
        return None
    strongest = sorted(dated, key=lambda fact: -abs(fact.score))[:_POINTS_ON_TIMELINE]
    points = [(fact.hours, fact.score, fact.what) for fact in strongest]
    return figures.timeline(points, f"{len(points)} record entries over time, height shows the contribution.")


def _checks(subject: SubjectFacts) -> dict[str, Any] | None:
    if subject.summary is None:
        return None
    summary = subject.summary
    change = max(abs(summary["logit"] - summary["baseline_logit"]), 1e-3)
    return {
        **summary,
        "relative": abs(summary["convergence_delta"]) / change,
        "complete": abs(summary["convergence_delta"]) / change <= 0.05,
        "faithful": summary["deletion_auc"] < summary["deletion_auc_random"],
    }
