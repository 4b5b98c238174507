"""Whether each map on a page is shown, struck out or left out, with the checks behind it in words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from clinimm.audit.explanation_policy import ExplanationPolicy, MapRule
from clinimm.audit.policy import find_policy, load_policy
from clinimm.core.errors import CliniMMError
from clinimm.explain.check import CHECKS, Check
from clinimm.explain.standing import passes
from clinimm.report.facts import RunFacts
from clinimm.report.subject import SubjectFacts
from clinimm.report.words import number, signed

ALL = "all"
_DEEPEST = "encoders"


@dataclass(frozen=True)
class MapState:
    """What the policy lets a page do with a map.

    Attributes:
        state: ``shown``, ``struck_out`` or ``hidden``.
        sentence: why, for people.
        measured: whether any of the policy's checks was made.
    """

    state: str
    sentence: str
    measured: bool = True

    @property
    def struck(self) -> bool:
        """Whether it is shown struck out."""
        return self.state == "struck_out"

    @property
    def hidden(self) -> bool:
        """Whether it is left out."""
        return self.state == "hidden"


@dataclass(frozen=True)
class CheckRow:
    """One check of one map, as a reader needs it.

    Attributes:
        title, found, asked, why: words.
        holds: whether the policy's limit is kept; None where the policy has no rule about it.
    """

    title: str
    found: str
    asked: str
    holds: bool | None
    why: str


def map_states(facts: RunFacts, subject: SubjectFacts) -> dict[str, MapState]:
    """Modality, or ``all`` for the budget as a whole -> its state.

    A map without a row in ``standings.parquet`` was not checked, and stands as the policy says of
    unmeasured maps.
    """
    found = {
        str(row["modality"]): MapState(str(row["state"]), str(row["sentence"]), _measured(subject, row))
        for row in subject.standings.to_dict("records")
    }
    unmeasured = MapState(explanation_policy(facts).unmeasured, "Nobody checked this map in this run.", False)
    named = dict.fromkeys((*subject.present, *subject.attributions.get("modality", ()), ALL))
    return {name: found.get(name, unmeasured) for name in named}


def check_rows(facts: RunFacts, subject: SubjectFacts) -> list[tuple[str, list[CheckRow]]]:
    """Each map's title and its checks, the whole budget first."""
    rules: dict[str, MapRule] = {rule.check: rule for rule in explanation_policy(facts).rules}
    found: dict[str, list[CheckRow]] = {}
    for row in subject.checks.to_dict("records"):
        against = None if pd.isna(row["against"]) else float(row["against"])
        check = Check(str(row["check"]), str(row["modality"]), float(row["value"]), against)
        if check.name in CHECKS:
            found.setdefault(check.modality, []).append(_row(check, rules.get(check.name)))
    order = [ALL, *facts.modalities]
    known = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
    return [("All sources together" if name == ALL else facts.title(name), found[name]) for name in known]


def left_after_randomisation(facts: RunFacts) -> list[tuple[str, float, int]]:
    """Title of each map, how like itself it is once all weights are random, and how many shuffles.

    Likeness is the larger of the rank correlations of scores and of their sizes, without its sign: a
    shuffle draws signs, so a map that survives comes back with either.
    """
    path = facts.root / "explain" / "randomisation.parquet"
    if not path.is_file():
        return []
    table = pd.read_parquet(path)
    deep = table[(table["depth"] == _DEEPEST) & table["correlation"].notna()]
    ways = [name for name in ("correlation", "correlation_of_sizes") if name in deep]
    deep = deep.assign(likeness=deep[ways].abs().max(axis=1))
    return [
        (
            "All sources together" if name == ALL else facts.title(str(name)),
            float(rows.groupby("seed")["likeness"].mean().mean()),
            int(rows["seed"].nunique()),
        )
        for name, rows in deep.groupby("modality", sort=True)
    ]


def explanation_policy(facts: RunFacts) -> ExplanationPolicy:
    """The rules about maps; where the policy cannot be read no unchecked map stands."""

    def load() -> ExplanationPolicy:
        try:
            return load_policy(find_policy(facts.workspace.config.audit.policy)).explanations
        except CliniMMError:
            return ExplanationPolicy(unmeasured="struck_out")

    return facts.remember("explanation policy", load)


def _measured(subject: SubjectFacts, row: Mapping[Any, Any]) -> bool:
    return bool(json.loads(str(row["failed"]))) or bool((subject.checks["modality"] == row["modality"]).any())


def _row(check: Check, rule: MapRule | None) -> CheckRow:
    kind = CHECKS[check.name]
    found = signed(check.value) if check.value < 0 or check.against is not None else number(check.value, 2)
    if check.against is not None:
        found += f" against {signed(check.against)}, a gain of {signed(check.judged)}"
    if rule is None:
        return CheckRow(kind.title, found, "no limit in the policy", None, "")
    higher = check.against is not None or kind.better == "higher"
    asked = f"{'at least' if higher else 'at most'} {rule.limit:g}"
    return CheckRow(kind.title, found, asked, passes(rule, check), rule.why)
