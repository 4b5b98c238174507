"""What all pages of a run say: read once, and honest about what is not there yet."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, TypeVar, cast

import pandas as pd

from clinimm.audit.engine.measures import MEASURES
from clinimm.core.prediction import JOIN
from clinimm.core.record import RunRecord, digest_bytes, digest_file
from clinimm.gate.check import Allowed, release_of
from clinimm.modalities import all_modalities
from clinimm.report.words import number
from clinimm.workspace import Workspace

FoundT = TypeVar("FoundT")


#: Groups that a page does not show: small ones on pages that stay with those who treat the patients, and
#: those that would give a small one away too, where a page goes with the model.
Hidden = Literal["small", "withheld"]


@dataclass(frozen=True)
class Verdict:
    """A judgement for people.

    Attributes:
        tone: ``pass``, ``fail`` or ``unsure``; the colour, never the only sign.
        title, text: what it says.
        points: further sentences that belong to it.
    """

    tone: str
    title: str
    text: str
    points: tuple[str, ...] = ()


class RunFacts:
    """A finished run, read lazily.

    Args:
        workspace: the run.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.root = workspace.root
        self._remembered: dict[Hashable, object] = {}

    def remember(self, key: Hashable, make: Callable[[], FoundT]) -> FoundT:
        """What ``make`` gives, made once for all pages of the run.

        Args:
            key: names it; another key is another value.
            make: called at most once a key.
        """
        if key not in self._remembered:
            self._remembered[key] = make()
        return cast(FoundT, self._remembered[key])

    @cached_property
    def task(self) -> dict[str, Any]:
        """``cohort/task.json``; ``name``, ``kind`` and ``classes``."""
        return dict(_json(self.workspace.need("cohort", "task.json")))

    @cached_property
    def flow(self) -> dict[str, Any] | None:
        """``cohort/flow.json``, or None."""
        return self._optional("cohort", "flow.json")

    @cached_property
    def metrics(self) -> dict[str, Any] | None:
        """``evaluate/metrics.json``, or None."""
        return self._optional("evaluate", "metrics.json")

    @cached_property
    def audit(self) -> dict[str, Any] | None:
        """``audit/audit.json``, or None."""
        return self._optional("audit", "audit.json")

    @cached_property
    def registration(self) -> dict[str, Any] | None:
        """``register/registration.json``, or None."""
        return self._optional("register", "registration.json")

    @cached_property
    def predictions(self) -> pd.DataFrame:
        """``predict/predictions.parquet``."""
        return pd.read_parquet(self.workspace.need("predict", "predictions.parquet"))

    @cached_property
    def cohort(self) -> pd.DataFrame:
        """``cohort/cohort.parquet``."""
        return pd.read_parquet(self.workspace.need("cohort", "cohort.parquet"))

    @cached_property
    def model(self) -> dict[str, Any] | None:
        """``train/model/config.json``, or None."""
        return self._optional("train", "model/config.json")

    @cached_property
    def model_digest(self) -> str | None:
        """Digest of the shipped model: of its configuration and its weights (``clinimm/model.py``)."""
        folder = self.root / "train" / "model"
        parts = [folder / "config.json", folder / "model.safetensors"]
        if not all(part.is_file() for part in parts):
            return None
        return digest_bytes("".join(digest_file(part) for part in parts).encode("ascii"))

    @cached_property
    def encoded(self) -> dict[str, Any]:
        """``encode/index.json``; empty where there is none."""
        return self._optional("encode", "index.json") or {}

    @cached_property
    def refusals(self) -> pd.DataFrame | None:
        """``ingest/refusals.parquet``, or None."""
        path = self.root / "ingest" / "refusals.parquet"
        return pd.read_parquet(path) if path.exists() else None

    @property
    def question(self) -> str:
        """The cohort's question, else the task's name."""
        asked = (self.flow or {}).get("question")
        return str(asked) if asked else f"{self.task['name']}?"

    @cached_property
    def titles(self) -> dict[str, str]:
        """Modality -> what a clinician calls it."""
        return {name: item.title for name, item in all_modalities(self.workspace.config.plugins).items()}

    def title(self, modality: str) -> str:
        """What a clinician calls a modality; its name where it is not in the table any more."""
        return self.titles.get(modality, modality)

    @property
    def modalities(self) -> tuple[str, ...]:
        """The modalities that the model can read, in the table's order."""
        used = set((self.model or {}).get("modalities") or {})
        if not used:
            used = {name for key in self.predictions["modalities_present"] for name in split_key(key)}
        known = [name for name in self.titles if name in used]
        return (*known, *sorted(used - set(known)))

    def figures_of(self, class_name: str) -> dict[str, Any]:
        """The row of ``metrics.json`` of one class; empty before the evaluation."""
        for row in (self.metrics or {}).get("classes", ()):
            if row["class_name"] == class_name:
                return dict(row)
        return {}

    def subset(self, modalities: tuple[str, ...]) -> dict[str, Any] | None:
        """How well the model does when it is given only these modalities."""
        for row in (self.metrics or {}).get("subsets", ()):
            if sorted(row["modalities"]) == sorted(modalities):
                return dict(row)
        return None

    @cached_property
    def release(self) -> Allowed | None:
        """Who let this model be used for patients, and until when; None is research use only."""
        return release_of(self.root)

    @property
    def released(self) -> bool:
        """Whether the gate lets this model be used for patients; no approval, no release."""
        return self.release is not None

    def fusion_verdict(self) -> Verdict:
        """Whether fusion helps, in the evaluation's own words."""
        verdict = (self.metrics or {}).get("verdict")
        if not verdict:
            return Verdict(
                "unsure", "Fusion", "This run was not evaluated, so nobody knows how well it works."
            )
        tone = {"helps": "pass", "does_not_help": "fail"}.get(verdict["key"], "unsure")
        points = tuple(verdict.get("warnings") or ())
        if points and tone == "pass":
            tone = "unsure"
        return Verdict(tone, "Does combining the sources help?", verdict["sentence"], points)

    def audit_verdict(self, hidden: Hidden = "small") -> Verdict:
        """The audit's verdict, with each rule that is not met.

        Args:
            hidden: which groups the page does not show.
        """
        if not self.audit:
            return Verdict("fail", "Audit", "This run was not audited. It must not be used for patients.")
        key = str(self.audit["verdict"])
        findings = [row for row in self.audit["findings"] if row["verdict"] != "pass"]
        findings.sort(key=lambda row: row["verdict"] != "fail")
        points = tuple(f"{row['verdict']}: {self.finding_text(row, hidden)}" for row in findings)
        broken = sum(row["verdict"] == "fail" for row in findings)
        if broken:
            text = f"{broken} of {len(self.audit['findings'])} checks of the policy are broken."
        else:
            text = str(self.audit["sentence"])
        return Verdict(key if key in {"pass", "fail"} else "unsure", f"Audit: {key}", text, points)

    def finding_text(self, finding: Mapping[str, Any], hidden: Hidden = "small") -> str:
        """A finding's sentence; of a group that the page does not show, without its figures."""
        name = tuple(str(finding[key]) for key in ("class_name", "attribute", "level"))
        n, minimum = finding.get("n"), (self.audit or {}).get("statistics", {}).get("minimum_cell", 0)
        if name not in self._hidden_groups[hidden] and (n is None or n >= minimum):
            return str(finding["sentence"])
        group = f"{finding['attribute'].replace('_', ' ')}: {finding['level']}"
        return f"{MEASURES[finding['metric']].title}, {group} (figures hidden, as a count is small)"

    @cached_property
    def _hidden_groups(self) -> dict[str, set[tuple[str, ...]]]:
        """Class, attribute and level of the small and of the withheld groups by one attribute."""
        rows = [row for row in (self.audit or {}).get("groups", ()) if len(row["attributes"]) == 1]
        return {
            key: {(row["class_name"], *row["attributes"], *row["levels"]) for row in rows if row[key]}
            for key in ("small", "withheld")
        }

    def record(self, stage: str) -> RunRecord | None:
        """``record.json`` of a stage, or None where it did not finish."""
        return RunRecord.read(self.root / stage)

    def _optional(self, stage: str, file: str) -> dict[str, Any] | None:
        path = self.root / stage / file
        return dict(_json(path)) if path.exists() else None


def split_key(key: str) -> list[str]:
    """The names in a ``modalities_present`` key.

    >>> split_key("ehr+notes"), split_key("none")
    (['ehr', 'notes'], [])
    """
    return [] if key in ("none", "") else key.split(JOIN)


def estimate_text(estimate: Mapping[str, Any] | None, digits: int = 2) -> str:
    """``0.81 (0.75 to 0.87)``, or why there is no figure.

    >>> estimate_text({"value": 0.812, "low": 0.75, "high": 0.87})
    '0.81 (0.75 to 0.87)'
    >>> estimate_text({"value": None, "low": None, "high": None, "reason": "fewer than 10"})
    'not shown: fewer than 10'
    """
    if not estimate:
        return "not measured"
    if estimate.get("value") is None:
        return f"not shown: {estimate.get('reason') or 'too few subjects'}"
    value = number(estimate["value"], digits)
    if estimate.get("low") is None or estimate.get("high") is None:
        return f"{value} (no interval)"
    return f"{value} ({number(estimate['low'], digits)} to {number(estimate['high'], digits)})"


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
