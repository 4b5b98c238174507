"""Attributions: what each part of the input added to one subject's logit."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Place:
    """Where a token came from, in the source's own terms.

    Attributes:
        kind: ``pixels``, ``tile``, ``event`` or ``characters``.
        digest: SHA-256 of the file, or of the note's text, that the place lies in.
        box: ``(left, top, right, bottom)`` in pixels of the original image for ``pixels``, in
            level-0 pixels for ``tile``, ``(start, stop)`` characters for ``characters``, empty
            for ``event``.
        text: what a person calls it: the quoted words, ``LOINC//2160-0 = 1.9 mg/dL``.
        time_hours: hours before the index time at which it became available.
    """

    kind: str
    digest: str | None
    box: tuple[float, ...]
    text: str
    time_hours: float


#: Columns of ``explain/attributions.parquet``, one row a token.
ATTRIBUTION_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "index_time": "timestamp[us, tz=UTC]",
    "task": "string",
    "class_name": "string",
    "modality": "string",
    "method": "string",
    "baseline": "string",
    "score": "float64",
    "kind": "string",
    "digest": "string",
    "box": "string",
    "text": "string",
    "time_hours": "float64",
    "model_digest": "string",
}

#: Columns of ``explain/checks.parquet``, one row a figure of a map.
CHECK_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "task": "string",
    "class_name": "string",
    "method": "string",
    "modality": "string",
    "check": "string",
    "value": "float64",
    "against": "float64",
    "judged": "float64",
    "model_digest": "string",
}

#: Columns of ``explain/standings.parquet``, one row a map: whether it is shown, struck out or hidden.
STANDING_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "task": "string",
    "class_name": "string",
    "method": "string",
    "modality": "string",
    "state": "string",
    "failed": "string",
    "sentence": "string",
    "model_digest": "string",
}

#: Columns of ``explain/interactions.parquet``, one row a pair of modalities that a subject has.
INTERACTION_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "task": "string",
    "class_name": "string",
    "modality": "string",
    "other": "string",
    "interaction": "float64",
    "model_digest": "string",
}

#: Columns of ``explain/randomisation.parquet``, one row a map, a depth and a shuffle of the weights.
RANDOMISATION_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "task": "string",
    "class_name": "string",
    "method": "string",
    "depth": "string",
    "seed": "int64",
    "modality": "string",
    "tokens": "int64",
    "correlation": "float64",
    "correlation_of_sizes": "float64",
    "chance": "float64",
    "ssim": "float64",
    "model_digest": "string",
}

#: Columns of ``explain/groups.parquet``: means over the cohort and by group of people.
GROUP_COLUMNS: dict[str, str] = {
    "task": "string",
    "class_name": "string",
    "about": "string",
    "attribute": "string",
    "level": "string",
    "figure": "string",
    "n": "Int64",
    "mean": "float64",
    "low": "float64",
    "high": "float64",
}

#: Columns of ``explain/localisation.parquet``, one row a map of a picture whose findings are known.
LOCALISATION_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "task": "string",
    "class_name": "string",
    "method": "string",
    "modality": "string",
    "digest": "string",
    "findings": "int64",
    "leaning": "int64",
    "hit": "bool",
    "hit_by_chance": "float64",
    "iou": "float64",
    "mass_inside": "float64",
    "area": "float64",
    "size": "string",
    "model_digest": "string",
}

#: A page lists at most so many training patients: it is about one patient and no way into the others.
MOST_CASES = 20

#: Columns of ``explain/nearest.parquet``, one row a training patient near an explained subject.
NEAREST_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "task": "string",
    "class_name": "string",
    "rank": "int64",
    "case_id": "string",
    "distance": "float64",
    "percentile": "float64",
    "outcome": "float64",
    "sources": "string",
    "model_digest": "string",
}

#: Columns of ``explain/refused.parquet``, one row a subject and part of the stage that goes without them.
REFUSED_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "task": "string",
    "class_name": "string",
    "part": "string",
    "reason": "string",
    "model_digest": "string",
}

#: Columns of ``explain/summary.parquet``, one row a subject, task and class.
EXPLANATION_SUMMARY_COLUMNS: dict[str, str] = {
    "subject_id": "string",
    "task": "string",
    "class_name": "string",
    "method": "string",
    "logit": "float64",
    "baseline_logit": "float64",
    "empty_logit": "float64",
    "attribution_sum": "float64",
    "convergence_delta": "float64",
    "deletion_auc": "float64",
    "deletion_auc_random": "float64",
    "model_digest": "string",
}
