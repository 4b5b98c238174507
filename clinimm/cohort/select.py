"""Events and a cohort file in, the cohort table and its flow diagram out. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from clinimm.cohort.attributes import attribute_table
from clinimm.cohort.flow import Flow, Step
from clinimm.cohort.label import answers, class_counts, label_warnings
from clinimm.cohort.rules import Mask, names, says_yes
from clinimm.cohort.spec import CohortSpec, Criterion, IndexSpec
from clinimm.cohort.window import believable, between, trusted, visible, with_index
from clinimm.core.errors import DataError

_MOST_NAMED = 8


@dataclass(frozen=True)
class Selection:
    """The cohort without its split: one row a subject, in order of ``subject_id``."""

    cohort: pd.DataFrame
    flow: Flow


def select(events: pd.DataFrame, spec: CohortSpec) -> Selection:
    """Apply a cohort file to events.

    Returns:
        The cohort (``subject_id``, ``index_time``, label columns, ``labelled``, ``site_id``,
        attributes) and how everybody else left. Nobody may be left: see ``require_answerable``.
    """
    sound = trusted(events)
    subjects = int(sound["subject_id"].nunique())
    cohort = index_times(sound, spec.index)
    steps = [_index_step(subjects, len(cohort), spec.index)]
    cohort = attribute_table(sound, cohort, spec.audit_attributes)
    for kind, criteria in (("inclusion", spec.inclusion), ("exclusion", spec.exclusion)):
        for criterion in criteria:
            cohort, step = _apply(sound, cohort, criterion, excludes=kind == "exclusion")
            steps.append(step)
    cohort, steps = _labelled(sound, cohort, spec, steps)
    flow = Flow(
        cohort=spec.name,
        question=spec.question,
        subjects=subjects,
        events=len(sound),
        steps=tuple(steps),
        label={
            "task": spec.label.task,
            "kind": spec.label.kind,
            "labelled": int(cohort["labelled"].sum()),
            "unlabelled": int((~cohort["labelled"]).sum()),
            "classes": class_counts(cohort, spec.label),
        },
        inputs=_inputs(events, cohort, spec),
        warnings=tuple(_warnings(events, sound, cohort, spec)),
    )
    return Selection(_final(cohort, spec), flow)


def index_times(events: pd.DataFrame, spec: IndexSpec) -> pd.DataFrame:
    """``subject_id`` and ``index_time`` of everybody who has an index event, by ``subject_id``."""
    meant = events[names(events, spec) & says_yes(events, spec)]
    times = meant.groupby("subject_id", sort=True)["time"].agg("min" if spec.which == "first" else "max")
    table = times.rename("index_time").reset_index()
    table["index_time"] = (table["index_time"] + spec.delay).astype("datetime64[us, UTC]")
    return table


def require_answerable(selection: Selection, events: pd.DataFrame, spec: CohortSpec) -> None:
    """Refuse a cohort that nobody is in, or in which nothing is known.

    Raises:
        DataError: names the step that emptied it, and what the data do hold.
    """
    for step in selection.flow.steps:
        if not step.after:
            raise DataError(_emptied(step, events, spec))
    if not selection.flow.label["labelled"]:
        rules = "; ".join(rule.words() for rule in spec.label.resolved().values())
        raise DataError(
            f"cohort {spec.name}: none of the {len(selection.cohort)} subjects has a known label. Looked for "
            f"{rules} in the label's window. The data hold {_held(events, 'code', 'outcome')}."
        )


def _apply(
    events: pd.DataFrame, cohort: pd.DataFrame, criterion: Criterion, excludes: bool
) -> tuple[pd.DataFrame, Step]:
    if criterion.age_years is not None:
        meets, reasons = _by_age(cohort, criterion)
    elif criterion.attribute is not None:
        meets, reasons = _by_attribute(cohort, criterion.attribute)
    else:
        meets, reasons = _by_event(events, cohort, criterion)
    leaves = meets if excludes else ~meets
    why = pd.Series(reasons, dtype=object)[leaves].value_counts()
    counted = {} if excludes else {str(reason): int(count) for reason, count in sorted(why.items())}
    step = Step(
        criterion.name, "exclusion" if excludes else "inclusion", len(cohort), int(leaves.sum()), counted
    )
    return cohort[~leaves].reset_index(drop=True), step


def _by_age(cohort: pd.DataFrame, criterion: Criterion) -> tuple[Mask, np.ndarray]:
    assert criterion.age_years is not None  # _apply chose this branch by it
    age = cohort["age_years"].to_numpy(dtype=float)
    low, high = criterion.age_years.min, criterion.age_years.max
    younger = age < (-np.inf if low is None else low)
    # "max: 65" includes everybody who is 65, that is, younger than 66.
    older = np.floor(age) > (np.inf if high is None else high)
    reasons = np.select(
        [np.isnan(age), younger, older],
        ["age unknown", f"younger than {low or 0:g} years", f"older than {high or 0:g} years"],
        "",
    )
    return ~(np.isnan(age) | younger | older), reasons


def _by_attribute(cohort: pd.DataFrame, attribute: Mapping[str, tuple[str, ...]]) -> tuple[Mask, np.ndarray]:
    ((name, wanted),) = attribute.items()
    values = cohort["_site" if name == "site" else f"_{name}"]
    meets = values.str.lower().isin([text.lower() for text in wanted]).to_numpy(dtype=bool)
    unknown = values.isna() | (values.str.lower() == "unknown")
    return meets, np.where(unknown, f"{name} unknown", f"{name} is another")


def _by_event(events: pd.DataFrame, cohort: pd.DataFrame, criterion: Criterion) -> tuple[Mask, np.ndarray]:
    placed = with_index(events[names(events, criterion)], cohort)
    placed = placed[between(placed, criterion.window)]
    hits = placed["subject_id"][says_yes(placed, criterion)].value_counts()
    count = cohort["subject_id"].map(hits).fillna(0).to_numpy(dtype=float)
    present = cohort["subject_id"].isin(placed["subject_id"]).to_numpy(dtype=bool)
    some = "only with another value" if criterion.at_least == 1 else f"fewer than {criterion.at_least}"
    return count >= criterion.at_least, np.where(present, some, "nothing recorded in the window")


def _labelled(
    events: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec, steps: list[Step]
) -> tuple[pd.DataFrame, list[Step]]:
    cohort = pd.concat([cohort, answers(events, cohort, spec.label)], axis=1)
    if spec.label.absent != "exclude":
        return cohort, steps
    unknown = ~cohort["labelled"].to_numpy(dtype=bool)
    step = Step(f"{spec.label.task} is known", "label", len(cohort), int(unknown.sum()))
    return cohort[~unknown].reset_index(drop=True), [*steps, step]


def _index_step(before: int, after: int, spec: IndexSpec) -> Step:
    left = before - after
    reasons = {f"no event of {spec.words()}": left} if left else {}
    return Step(f"index: {spec.which} event of {spec.words()}", "index", before, left, reasons)


def _inputs(events: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec) -> dict[str, dict[str, int]]:
    seen = {name: visible(events, cohort, spec, name) for name in spec.inputs}
    return {
        name: {"subjects": int(table["subject_id"].nunique()), "events": len(table)}
        for name, table in seen.items()
    }


def _warnings(events: pd.DataFrame, sound: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec) -> list[str]:
    found = label_warnings(sound, cohort, spec)
    believed = len(believable(events))
    undated = int(events["flags"].astype("str").str.contains("undated_revision", regex=False).sum())
    if dropped := len(events) - believed - undated:
        found.append(f"{dropped} events have a time in the future and are left out.")
    if undated:
        found.append(f"{undated} events were changed at a time that nothing states and are left out.")
    if dropped := believed - len(sound):
        found.append(
            f"{dropped} events were replaced or withdrawn later: inputs until then, never index or label."
        )
    for criterion in (*spec.inclusion, *spec.exclusion):
        if criterion.looks_ahead:
            found.append(
                f"step {criterion.name!r} selects on what happened after the index, which nobody "
                "knows at the moment of prediction."
            )
    held = set(events["modality"].dropna().unique())
    for name in spec.inputs:
        if name not in held:
            found.append(
                f"input {name!r} sees nothing: the data hold {', '.join(sorted(held)) or 'no events'}."
            )
    return found


def _final(cohort: pd.DataFrame, spec: CohortSpec) -> pd.DataFrame:
    labels = [name for name in cohort.columns if name == "label" or name.startswith("label:")]
    rest = [
        name
        for name in cohort.columns
        if name not in {"subject_id", "index_time", "labelled", *labels} and not name.startswith("_")
    ]
    return cohort[["subject_id", "index_time", *labels, "labelled", *rest]]


def _emptied(step: Step, events: pd.DataFrame, spec: CohortSpec) -> str:
    left = f"cohort {spec.name}: nobody is left after the step {step.name!r} ({step.before} before)."
    if step.kind != "index":
        return f"{left} `clinimm cohort {spec.name}.yaml --explain` shows why they left."
    return (
        f"{left} The data hold the modalities {_held(events, 'modality')} and the categories "
        f"{_held(events, 'category')}."
    )


def _held(events: pd.DataFrame, column: str, category: str | None = None) -> str:
    chosen = events if category is None else events[(events["category"] == category).to_numpy(dtype=bool)]
    counts = chosen[column].value_counts()
    listed = [f"{name} ({count})" for name, count in sorted(counts.head(_MOST_NAMED).items())]
    more = len(counts) - len(listed)
    kind = f"of category {category}: " if category else ""
    return kind + (", ".join(listed) or "nothing") + (f" and {more} more" if more > 0 else "")
