"""One subject's explanation, with its checks and its standing, as rows of the stage's tables."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from clinimm.audit.explanation_policy import ExplanationPolicy
from clinimm.core.attribution import Place
from clinimm.core.errors import DataError, ModelError
from clinimm.corpus import Corpus
from clinimm.explain.attribute import Explanation
from clinimm.explain.checks import Check, attribute_fully, check_maps, check_stability
from clinimm.explain.contribution import Contributions, contributions
from clinimm.explain.edges import Edges
from clinimm.explain.hide import ALL
from clinimm.explain.layout import layout_of
from clinimm.explain.problem import Setting, pose
from clinimm.explain.standing import judge_map
from clinimm.modalities import get_modality
from clinimm.model import FusionModel
from clinimm.nn.tokens import Batch

Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Explainer:
    """How the subjects of a run are explained.

    Attributes:
        corpus: the encoded tokens.
        plugins: modules of outside modalities.
        method: a name in ``METHODS``.
        setting: of the method; places are added a subject.
        policy: what a map must show.
        full: whether the checks are made that cost as much as the map.
        edges: finds an edge detector's scores; None leaves that comparison out.
        release: checks of the release that hold for every map: modality -> its figures.
    """

    corpus: Corpus
    plugins: tuple[str, ...]
    method: str
    setting: Setting
    policy: ExplanationPolicy
    full: bool = False
    edges: Edges | None = None
    release: Mapping[str, Sequence[Check]] = field(default_factory=dict)

    def places(self, model: FusionModel, subject: str) -> dict[str, list[Place]]:
        """Where each embedded token of a subject came from, a modality that the model reads."""
        found = {}
        for name in self.corpus.modalities_of(subject):
            if name in model.modalities:
                locate = get_modality(name, self.plugins).locate
                cells = range(int(getattr(model.encoders[name], "cells", 1)))
                rows = self.corpus.rows(subject, name).to_dict("records")
                named = ({str(key): value for key, value in row.items()} for row in rows)
                found[name] = [locate(row, cell) for row in named for cell in cells]
        return found

    def batch(self, model: FusionModel, subjects: Sequence[str]) -> tuple[Batch, Setting]:
        """Raw tokens of some subjects, and the setting that knows where they lie."""
        batch = self.corpus.batch(subjects, model.statistics)
        places = [self.places(model, subject) for subject in subjects]
        widths = {
            name: tokens.mask.shape[1] * int(getattr(model.encoders[name], "cells", 1))
            for name, tokens in batch.items()
        }
        for subject in places:
            for name, known in subject.items():
                if len(known) > widths[name]:
                    raise DataError(
                        f"{name}: {len(known)} places, but the model embedded {widths[name]} tokens."
                    )
        return batch, replace(self.setting, layout=layout_of(places, widths))

    def explain(self, model: FusionModel, target: Any) -> Rows:
        """Rows of every table for one subject and class; none where the model has no token of it.

        Args:
            model: the fit that held the subject out.
            target: a row of ``explained_class``.

        Raises:
            DataError: the subject's places do not fit its tokens, or it lacks what its baseline is made of.
            ModelError: a logit or a gradient is not a finite number.
        """
        subject = str(target.subject_id)
        if not set(self.corpus.modalities_of(subject)) & set(model.modalities):
            return {}  # no token, nothing to attribute; the page says that no modality was there
        index = list(model.classes).index(str(target.class_name))
        batch, setting = self.batch(model, [subject])
        found = attribute_fully(model, batch, index, self.method, setting.steps, setting)
        together = contributions(model, batch, index)
        _check_finite(found, together)
        places = self.places(model, subject)
        problem = pose(model, batch, index, setting)
        edges = self.edges.of(self.corpus, subject, places) if self.edges else None
        checks = check_maps(problem, found, edges)
        checks += check_stability(problem, batch, self.method, found.steps) if self.full else []
        common = {
            "subject_id": subject,
            "task": str(target.task),
            "class_name": str(target.class_name),
            "model_digest": model.digest,
        }
        rows: Rows = defaultdict(list)
        for row in _token_rows(found, places):
            rows["attributions"].append(common | {"index_time": target.index_time} | row)
        rows["summary"].append(common | _summary(found, together, checks))
        named = common | {"method": self.method}
        rows["checks"] += [
            named | vars(check) | {"check": check.name, "judged": check.judged} for check in checks
        ]
        rows["standings"] += [named | row for row in self._standings(found, checks)]
        _add_contributions(rows, together, common)
        return rows

    def _standings(self, found: Explanation, checks: Sequence[Check]) -> Iterator[dict[str, Any]]:
        for name in (*found.scores, ALL):
            own = [check for check in checks if check.modality == name]
            standing = judge_map([*own, *self.release.get(name, ())], self.policy)
            yield {
                "modality": name,
                "state": standing.state,
                "failed": json.dumps(list(standing.failed)),
                "sentence": standing.sentence,
            }


def refusal(target: Any, part: str, error: object) -> dict[str, Any]:
    """A row of ``refused.parquet``.

    Args:
        target: a row of ``explained_class``.
        part: what of the stage goes without the subject.
        error: the reason, in words.
    """
    named = {name: str(getattr(target, name)) for name in ("subject_id", "task", "class_name")}
    return named | {"part": part, "reason": str(error), "model_digest": str(target.model_digest)}


def _check_finite(found: Explanation, together: Contributions) -> None:
    if not np.isfinite([*found.logit, *found.total, *together.worth.flat]).all():
        raise ModelError("the model's logit or its gradient is not a finite number.")


def _token_rows(found: Explanation, places: Mapping[str, Sequence[Place]]) -> Iterator[dict[str, Any]]:
    """One row an embedded token, in the source's own terms."""
    for name, scores in found.scores.items():
        baseline = found.baselines.get(name, found.baseline)
        for token, where in enumerate(places.get(name, ())):
            yield {
                "modality": name,
                "method": found.method,
                "baseline": baseline,
                "score": float(scores[0, token]),
                "kind": where.kind,
                "digest": where.digest,
                "box": json.dumps([float(edge) for edge in where.box]),
                "text": where.text,
                "time_hours": float(where.time_hours),
            }


def _summary(found: Explanation, together: Contributions, checks: Sequence[Check]) -> dict[str, Any]:
    deletion = next((check for check in checks if (check.name, check.modality) == ("deletion", ALL)), None)
    return {
        "method": found.method,
        "logit": float(found.logit[0]),
        "baseline_logit": float(found.baseline_logit[0]),
        "empty_logit": together.empty[0].item(),
        "attribution_sum": float(found.total[0]),
        "convergence_delta": float(found.delta[0]),
        "deletion_auc": np.nan if deletion is None else deletion.value,
        "deletion_auc_random": np.nan if deletion is None else deletion.against,
    }


def _add_contributions(rows: Rows, found: Contributions, common: Mapping[str, Any]) -> None:
    for one, name in enumerate(found.names):
        rows["contributions"].append({**common, "modality": name, "shapley": float(found.values[0, one])})
        for two in range(one + 1, len(found.names)):
            value = float(found.interactions[0, one, two])
            rows["interactions"].append(
                {**common, "modality": name, "other": found.names[two], "interaction": value}
            )
