"""What holds for a whole release: randomised weights, and contributions and checks by group of people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from scipy.stats import t as student_t

from clinimm.core.attribution import RANDOMISATION_COLUMNS, REFUSED_COLUMNS
from clinimm.explain.attribute import Explanation, attribute
from clinimm.explain.checks import Check
from clinimm.explain.contribution import contributions
from clinimm.explain.curves import FEWEST_TOKENS
from clinimm.explain.groups import Statistics, by_group, contribution_figures
from clinimm.explain.hide import ALL
from clinimm.explain.randomise import DEEPEST, Likeness, cascade
from clinimm.explain.subject import Explainer, refusal
from clinimm.model import FusionModel

#: Nodes of the path for maps that are only compared with each other.
_STEPS = 8
#: Shuffles of the weights; all but the first look at the deepest randomisation alone.
_SHUFFLES = 6


def randomisation(
    explainer: Explainer, model: FusionModel, targets: pd.DataFrame
) -> Iterator[dict[str, Any]]:
    """Rows of ``randomisation.parquet``: the maps of some subjects as the weights are randomised.

    Args:
        explainer: how subjects are explained.
        model: the fit that held all of them out.
        targets: rows of ``explained_class``, of one class each.
    """
    for class_name, rows in targets.groupby("class_name", sort=True):
        subjects = [str(subject) for subject in rows["subject_id"]]
        batch, setting = explainer.batch(model, subjects)
        index = list(model.classes).index(str(class_name))

        def explain(one: Any, batch: Any = batch, index: int = index, setting: Any = setting) -> Explanation:
            return attribute(one, batch, index, explainer.method, _STEPS, setting)

        common = {
            "task": str(rows["task"].iloc[0]),
            "class_name": str(class_name),
            "method": explainer.method,
            "model_digest": model.digest,
        }
        for one in cascade(model, explain, setting.layout, _SHUFFLES):
            yield common | _named(one, subjects)


def randomisation_checks(table: pd.DataFrame) -> dict[str, list[Check]]:
    """Modality -> what is surely left of its maps once all weights are random.

    A shuffled weight may turn a map round, or turn some of its parts round: a map of the input comes
    back with another sign each time. So what counts of each subject and shuffle is the larger size of
    the correlations of signed scores and of sizes, less what that is by chance, as a share of what it
    could at most be more than chance. The subjects of one shuffle share its weights, so each shuffle
    counts once, by its mean over subjects. Maps of fewer than four tokens are left out: they have
    hardly an order.
    """
    table = table.reindex(columns=list(RANDOMISATION_COLUMNS))
    deep = table[(table["depth"] == DEEPEST) & (table["tokens"] >= FEWEST_TOKENS)]
    found = {}
    for name, rows in deep.assign(left=above_chance(deep)).groupby("modality", sort=True):
        shuffles = rows.groupby("seed")["left"].mean().dropna().to_numpy(float)
        if len(shuffles) > 1:
            found[str(name)] = [Check("randomisation", str(name), surely_left(shuffles))]
    return found


def likeness(rows: pd.DataFrame) -> pd.Series:
    """The larger size of the correlations of signed scores and of sizes, a row."""
    return rows[["correlation", "correlation_of_sizes"]].astype(float).abs().max(axis=1)


def above_chance(rows: pd.DataFrame) -> pd.Series:
    """``likeness`` between chance (0) and the same map again (1); negative below chance."""
    chance = rows["chance"].astype(float)
    return (likeness(rows) - chance) / (1 - chance)


def surely_left(left: Float[np.ndarray, " shuffle"], level: float = 0.95) -> float:
    """Lower end of the one-sided interval (Student) of the mean over shuffles, at least 0.

    >>> round(surely_left(np.array([0.5, 0.5, 0.5])), 3), surely_left(np.array([0.6, -0.5]))
    (0.5, 0.0)
    """
    error = float(np.std(left, ddof=1)) / len(left) ** 0.5
    margin = float(student_t.ppf(level, len(left) - 1)) * error
    return max(0.0, float(np.mean(left)) - margin)


def cohort_contributions(
    explainer: Explainer, model: FusionModel, targets: pd.DataFrame
) -> dict[str, pd.DataFrame]:
    """Class -> figures of modality contributions of the subjects that this fit held out.

    A subject of whom a coalition's logit is not a finite number has no figure at all, so NaN throughout.
    """
    found = {}
    for class_name, rows in targets.groupby("class_name", sort=True):
        subjects = [str(one) for one in rows["subject_id"] if _has_tokens(explainer, model, str(one))]
        if subjects:
            index = list(model.classes).index(str(class_name))
            batch = explainer.corpus.batch(subjects, model.statistics)
            together = contributions(model, batch, index)
            whole = np.isfinite(together.worth).all(axis=1)
            figures = contribution_figures(together, subjects)
            found[str(class_name)] = figures.where(pd.Series(whole, index=figures.index), axis=0)
    return found


def without_figures(targets: pd.DataFrame, figures: Mapping[str, pd.DataFrame], part: str) -> pd.DataFrame:
    """The rows of ``refused.parquet`` of subjects of whom ``cohort_contributions`` has no figure.

    Args:
        targets: rows of ``explained_class``.
        figures: what it gave.
        part: what of the stage goes without them.
    """
    bad = {str(one) for table in figures.values() for one in table.index[table.isna().all(axis=1)]}
    rows = [
        refusal(target, part, "the logit of a coalition of its modalities is not a finite number.")
        for target in targets.itertuples()
        if str(target.subject_id) in bad
    ]
    return pd.DataFrame(rows, columns=list(REFUSED_COLUMNS))


def group_rows(
    task: str,
    about: str,
    figures: Mapping[str, pd.DataFrame],
    attributes: pd.DataFrame,
    statistics: Statistics,
) -> Iterator[dict[str, Any]]:
    """Rows of ``groups.parquet``, class by class.

    Args:
        task: its name.
        about: ``contribution`` or ``check``.
        figures: class -> table of figures, index ``subject_id``.
        attributes: audit attributes, index ``subject_id``.
        statistics: how intervals are made.
    """
    for class_name, table in figures.items():
        for row in by_group(table, attributes, statistics):
            yield {"task": task, "class_name": class_name, "about": about, **row}


def check_figures(checks: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Class -> what each check of each map came to, index ``subject_id``, columns ``CHECK, MODALITY``."""
    named = checks.assign(figure=checks["check"] + ", " + checks["modality"])
    return {
        str(class_name): rows.pivot(index="subject_id", columns="figure", values="judged")
        for class_name, rows in named.groupby("class_name", sort=True)
    }


def _has_tokens(explainer: Explainer, model: FusionModel, subject: str) -> bool:
    return bool(set(explainer.corpus.modalities_of(subject)) & set(model.modalities))


def _named(one: Likeness, subjects: Sequence[str]) -> dict[str, Any]:
    return {
        "subject_id": subjects[one.subject],
        "depth": one.depth,
        "seed": one.seed,
        "modality": one.modality,
        "tokens": one.tokens,
        "correlation": one.correlation,
        "correlation_of_sizes": one.correlation_of_sizes,
        "chance": one.chance,
        "ssim": one.ssim,
    }


def mean_left(table: pd.DataFrame) -> float | None:
    """Mean ``likeness`` of whole budgets after full randomisation; None where it was not measured."""
    deep = likeness(table[(table["depth"] == DEEPEST) & (table["modality"] == ALL)]).dropna()
    return None if deep.empty else float(deep.mean())
