"""Mitigations that a pipeline asks for, tried on its held-out people before anybody does them.

Three kinds. *Recalibration* of each group's risk and *thresholds* under a limit on who is missed are fitted
and judged on the held-out people, each by a fit without them. A mitigation *in training* is another run:
it is compared with the run that was trained without it. Each is judged by what every group gets, before and
after; one that makes a group surely worse, or that levels down, fails the audit.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool
from numpy import ndarray

from clinimm.audit.engine.rows import Coded, Rows
from clinimm.audit.mitigate.change import CHANGES, MitigationReport, Predictions, compare
from clinimm.audit.mitigate.recalibrate import recalibrated
from clinimm.audit.mitigate.threshold import Chosen, choose_threshold
from clinimm.audit.run_rows import subjects_of
from clinimm.audit.run_studies import Judged, held_out, studies_of
from clinimm.audit.table.assemble import Audit
from clinimm.audit.table.study import CROSS, Study
from clinimm.audit.templates import environment
from clinimm.audit.verdict import EXIT_FAIL, FAIL
from clinimm.config import MitigationConfig
from clinimm.core.errors import ConfigError
from clinimm.evaluate.operating import OperatingPoint
from clinimm.evaluate.panel import panel_of

MITIGATION_PAGE = "mitigation.html"
_FOLDS = 5


@dataclass(frozen=True)
class Trial:
    """One mitigation and what it did.

    Attributes:
        class_name: of which outcome.
        title: for people.
        report: before and after, for everybody.
        how: what to put into the pipeline file to do it; empty where a pipeline cannot.
    """

    class_name: str
    title: str
    report: MitigationReport
    how: str = ""

    @property
    def fails(self) -> bool:
        """Whether it makes a group surely worse, or levels down; both unsaid."""
        return self.report.verdict == FAIL or any(not self._said(*down) for down in self.report.levelled_down)

    def _said(self, attribute: str, measure: str) -> bool:
        """Whether all groups that are surely worse in it were accepted by name."""
        own = [one for one in self.report.changes if (one.attribute, one.measure) == (attribute, measure)]
        worse = [one for one in own if one.verdict == "worse"]
        return bool(worse) and all(one.accepted for one in worse)


def try_mitigations(
    studies: Mapping[str, Study], predictions: pd.DataFrame, judged: Judged, settings: MitigationConfig
) -> list[Trial]:
    """Try what a pipeline asks for on every class of its run.

    Args:
        studies: class -> its figures, of held-out people.
        predictions: the held-out rows that they come from.
        judged: the rules that they are judged by; groups of their attributes are looked at too.
        settings: what is asked for.

    Raises:
        ConfigError: the attribute is none of the cohort's, or the run to compare with is not of the same
            held-out people.
    """
    earlier = None if settings.before is None else _earlier(settings.before, judged)
    earlier_name = "" if settings.before is None else settings.before.name
    found = []
    for index, (name, study) in enumerate(studies.items()):
        if settings.attribute not in study.rows.attributes:
            known = ", ".join(study.rows.attributes)
            raise ConfigError(
                f"audit.mitigation: {settings.attribute} is no audit attribute; there are {known}."
            )
        rows = _of_people(study.rows, judged, settings)
        now = Predictions(rows.probability, rows.decision(study.threshold))
        judge = _judge(rows, study.threshold, settings)
        by = f"by {settings.attribute.replace('_', ' ')}"
        if settings.recalibrate:
            risk = recalibrated(rows, settings.attribute, rows.seed)
            after = Predictions(risk, risk >= study.threshold)
            found.append(Trial(name, f"Recalibration {by}", judge(now, after)))
        if settings.most_missed is not None or settings.largest_gap is not None:
            after = Predictions(rows.probability, _chosen(rows, study.threshold, settings))
            kind = f"Thresholds {by}" if settings.by_group else f"One threshold, chosen {by}"
            found.append(Trial(name, kind, judge(now, after), _how(rows, study.threshold, settings)))
        if earlier is not None:
            before = _aligned(earlier[name], _Held(study, _names(predictions, judged, index)), name)
            found.append(Trial(name, f"Training, compared with {earlier_name}", judge(before, now)))
    return found


def with_mitigations(audit: Audit, trials: list[Trial]) -> Audit:
    """The audit with what each mitigation did; one that fails makes the audit fail."""
    part = [
        {"class_name": one.class_name, "title": one.title, "fails": one.fails, "how": one.how}
        | _plain(one.report.as_json())
        for one in trials
    ]
    content = audit.content | {"mitigation": part}
    if any(one.fails for one in trials):
        worse = ", ".join(one.title for one in trials if one.fails)
        said = f"A mitigation serves somebody worse than before ({worse}). {audit.content['sentence']}"
        content |= {"verdict": FAIL, "exit_status": EXIT_FAIL, "blocks": True, "sentence": said}
    return replace(audit, content=content)


def mitigation_page(content: Mapping[str, Any]) -> str:
    """One HTML file, without script; every value escaped.

    Args:
        content: of ``audit.json``, with ``mitigation``.
    """
    template = environment().get_template(MITIGATION_PAGE)
    return template.render(audit=content, trials=content["mitigation"], changes=CHANGES)


def _judge(
    rows: Rows, threshold: float, settings: MitigationConfig
) -> Callable[[Predictions, Predictions], MitigationReport]:
    accepted: dict[tuple[str, str, str], str] = {
        (one.attribute, one.level, one.measure): one.reason for one in settings.accepted
    }

    def judge(before: Predictions, after: Predictions) -> MitigationReport:
        return compare(rows, before, after, threshold, tolerated=settings.tolerated, accepted=accepted)

    return judge


def _of_people(rows: Rows, judged: Judged, settings: MitigationConfig) -> Rows:
    """With the attributes that a rule or the mitigation is about."""
    ruled = [
        one.strip() for rule in judged.policy.rules for name in rule.attribute for one in name.split(CROSS)
    ]
    wanted = dict.fromkeys([settings.attribute, *ruled])
    attributes = {name: rows.attributes[name] for name in wanted if name in rows.attributes}
    return Rows(rows.label, rows.probability, attributes, rows.cluster, rows.seed, rows.flagged, rows.repeat)


def _chosen(rows: Rows, threshold: float, settings: MitigationConfig) -> Bool[ndarray, " row"]:
    """The decision on every row by thresholds that were chosen without its subject."""
    subject = np.arange(rows.n) if rows.cluster is None else rows.cluster
    fold = (np.random.default_rng([rows.seed, 11]).permutation(int(subject.max()) + 1) % _FOLDS)[subject]
    flagged = np.zeros(rows.n, dtype=bool)
    for number in np.unique(fold):
        chosen = _choice(_part(rows, fold != number, settings), threshold, settings)
        flagged[fold == number] = chosen.flagged(_part(rows, fold == number, settings), settings.attribute)
    return flagged


def _how(rows: Rows, threshold: float, settings: MitigationConfig) -> str:
    """The choice from all the people, and how a pipeline does it."""
    chosen = _choice(rows, threshold, settings)
    if settings.by_group:
        return f"From all of them: {chosen.sentence} A run has one threshold, so this is not done anywhere."
    (value,) = set(chosen.thresholds.values())
    return (
        f"From all of them: {chosen.sentence} To do it: evaluate: {{operating_point: threshold, "
        f"operating_value: {value:g}}}. It was chosen on these people, so judge it on others "
        "(clinimm validate)."
    )


def _choice(rows: Rows, threshold: float, settings: MitigationConfig) -> Chosen:
    return choose_threshold(
        rows,
        settings.attribute,
        threshold,
        most_missed=settings.most_missed,
        largest_gap=settings.largest_gap,
        by_group=settings.by_group,
    )


def _part(rows: Rows, here: Bool[ndarray, " row"], settings: MitigationConfig) -> Rows:
    column = rows.attributes[settings.attribute]
    own = {settings.attribute: Coded(column.code[here], column.levels)}
    return Rows(rows.label[here], rows.probability[here], own)


@dataclass(frozen=True)
class _Held:
    study: Study
    names: ndarray


def _earlier(root: Path, judged: Judged) -> dict[str, _Held]:
    """The figures of the run that was trained without the mitigation."""
    path, metrics = root / "predict" / "predictions.parquet", root / "evaluate" / "metrics.json"
    if not path.is_file() or not metrics.is_file():
        raise ConfigError(f"audit.mitigation.before: {root} is no run that was evaluated.")
    classes = json.loads(metrics.read_text(encoding="utf-8"))["classes"]
    points = {row["class_name"]: OperatingPoint.from_json(row["operating_point"]) for row in classes}
    predictions = held_out(path)
    there = set(judged.cohort["subject_id"])
    if set(points) != set(judged.classes) or not set(predictions["subject_id"]) <= there:
        raise ConfigError(f"audit.mitigation.before: {root} is of another cohort or another task.")
    own = replace(judged, points=points)
    return {
        name: _Held(study, _names(predictions, own, index))
        for index, (name, study) in enumerate(studies_of(predictions, own).items())
    }


def _names(predictions: pd.DataFrame, judged: Judged, index: int) -> ndarray:
    return subjects_of(panel_of(predictions, judged.classes, judged.kind).one(index))


def _aligned(earlier: _Held, own: _Held, name: str) -> Predictions:
    rows, labels = earlier.study.rows, own.study.rows.label
    same = np.array_equal(earlier.names, own.names) and np.array_equal(rows.label, labels)
    if not same:
        raise ConfigError(
            f"audit.mitigation.before: {name}: the runs held other people out; compare runs of one cohort, "
            "seed and split."
        )
    return Predictions(rows.probability, rows.decision(earlier.study.threshold))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float | np.floating):
        return round(float(value), 6) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value
