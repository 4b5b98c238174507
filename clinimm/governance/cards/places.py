"""Where things stand in ``audit.json``: the one file that knows its paths.

A ``Place`` is a label and pointers, never a figure; figures are read through it at the moment of writing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from clinimm.audit.engine.measures import MEASURES
from clinimm.core.errors import ConfigError
from clinimm.governance.cards.pointer import AuditDocument

#: Names that a text may use as ``{{name}}``, and what they point at; an audit need not have them all.
NAMES = {
    "verdict": "/verdict",
    "sentence": "/sentence",
    "subjects": "/tested/subjects",
    "rows": "/tested/rows",
    "level": "/statistics/level",
    "policy_digest": "/policy/sha256",
    "model_digest": "/tested/model_digest",
    "code_version": "/code_version",
    "run": "/run",
    "file": "/tested/file",
    "kind": "/tested/kind",
}
USEFUL = ("auroc", "auprc", "sensitivity", "specificity", "ppv", "npv", "net_benefit")
SAFE = ("brier", "ece", "observed_less_predicted", "calibration_slope", "calibration_intercept", "fnr", "fpr")

#: Control characters, and those that turn the direction of writing; names of groups come from data.
_UNSEEN = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]")


@dataclass(frozen=True)
class Place:
    """A figure's whereabouts.

    Attributes:
        label: what it is, in words.
        value, low, high, n, verdict: pointers; None where it has none.
    """

    label: str
    value: str
    low: str | None = None
    high: str | None = None
    n: str | None = None
    verdict: str | None = None


@dataclass(frozen=True)
class Shown:
    """A figure, resolved, beside the pointer that it was read through."""

    label: str
    pointer: str
    value: Any
    low: float | None = None
    high: float | None = None
    n: int | None = None
    verdict: str | None = None

    @property
    def has_interval(self) -> bool:
        """Whether value and both ends are known."""
        return None not in (self.value, self.low, self.high)


def show(document: AuditDocument, place: Place) -> Shown:
    """Read the figure of a place.

    Raises:
        ConfigError: a pointer leads nowhere.
    """

    def at(pointer: str | None) -> Any:
        found = None if pointer is None else document.resolve(pointer)
        return seen(found) if isinstance(found, str) else found

    # The figure's own pointer: [value, low, high] are one array, those of a finding three neighbours.
    base = place.value.rpartition("/")[0] if place.low else place.value
    ends, n = (at(place.low), at(place.high)), at(place.n)
    return Shown(seen(place.label), base, at(place.value), *ends, n, at(place.verdict))


def seen(text: str) -> str:
    """A text without what nobody sees.

    >>> seen("a\\x00b")
    'a\ufffdb'
    """
    return _UNSEEN.sub("\ufffd", text)


def tested(document: AuditDocument) -> list[Place]:
    """What was tested: subjects, rows, outcomes, thresholds."""
    found = [
        Place("subjects tested", "/tested/subjects"),
        Place("rows tested", "/tested/rows"),
        Place("file tested", "/tested/file"),
        Place("SHA-256 of the file tested", "/tested/sha256"),
    ]
    for index, one in enumerate(document.resolve("/tested/classes")):
        at, name = f"/tested/classes/{index}", one["class_name"]
        found += [
            Place(f"subjects with {name}", f"{at}/positives"),
            Place(f"prevalence of {name}", f"{at}/prevalence"),
            Place(f"threshold for {name}", f"{at}/threshold"),
            Place(f"flagged for {name}", f"{at}/flagged"),
        ]
    return found


def identity(document: AuditDocument) -> list[Place]:
    """Which model, policy and code."""
    found = [Place("code version", "/code_version")]
    if document.content["tested"].get("model_digest") is not None:  # a table has none
        found.append(Place("digest of the model", "/tested/model_digest"))
    if document.resolve("/policy/sha256") is not None:
        found.append(Place("SHA-256 of the policy", "/policy/sha256"))
    return found


def verdict(document: AuditDocument) -> list[Place]:
    """The audit's answer."""
    return [Place("verdict of the audit", "/verdict"), Place("in words", "/sentence")]


def useful(document: AuditDocument) -> list[Place]:
    """How well it works for everybody."""
    return list(_of_groups(document, USEFUL, order=0))


def safe(document: AuditDocument) -> list[Place]:
    """How far its probabilities can be trusted, for everybody."""
    return list(_of_groups(document, SAFE, order=0))


def validity(document: AuditDocument) -> list[Place]:
    """Both of the above."""
    return [*useful(document), *safe(document)]


def subgroups(document: AuditDocument) -> list[Place]:
    """Key figures of the groups of each attribute."""
    return list(_of_groups(document, ("auroc", "fnr", "fpr", "observed_less_predicted"), order=1))


def fairness(document: AuditDocument) -> list[Place]:
    """Every rule on every group: the difference that was judged, and the answer."""
    found = []
    for index, row in enumerate(document.resolve("/findings")):
        at = f"/findings/{index}"
        what = "" if row["stat"] == "value" else f", {row['stat']} against {row['reference']}"
        label = f"{row['rule']}: {_title(row['metric'])} of {_group(row)}{what} ({row['class_name']})"
        found.append(Place(label, f"{at}/value", f"{at}/low", f"{at}/high", f"{at}/n", f"{at}/verdict"))
    return found


def amplification(document: AuditDocument) -> list[Place]:
    """Whether combining the sources widens a gap beyond that of the worst single one."""
    if document.content.get("modalities") is None:
        return []
    found = []
    for index, row in enumerate(document.resolve("/modalities/amplification")):
        at = f"/modalities/amplification/{index}/index"
        label = f"{row['rule']}: amplification by combining sources, {_group(row)} ({row['class_name']})"
        found.append(Place(label, f"{at}/0", f"{at}/1", f"{at}/2"))
    return found


def representation(document: AuditDocument) -> list[Place]:
    """How many subjects each group has, and how many lack the attribute."""
    found = []
    for index, row in enumerate(document.resolve("/groups")):
        if len(row["attributes"]) == 1 and row["n"] is not None:
            label = f"subjects, {row['attributes'][0]} {row['levels'][0]} ({row['class_name']})"
            found.append(Place(label, f"/groups/{index}/n"))
    for index, row in enumerate(document.resolve("/tested/attributes")):
        if row["missing"] is not None:
            found.append(Place(f"without {row['name']}", f"/tested/attributes/{index}/missing"))
        found.append(Place(f"source of {row['name']}", f"/tested/attributes/{index}/source"))
    return found


def unknown(document: AuditDocument) -> list[Place]:
    """What the audit says that nobody knows."""
    return [Place("not known", f"/not_known/{index}") for index in range(len(document.resolve("/not_known")))]


def methods(document: AuditDocument) -> list[Place]:
    """How the intervals were made."""
    used = [
        Place(f"interval of {_title(name)}", f"/statistics/methods/{name}")
        for name in document.resolve("/statistics/methods")
    ]
    return [
        Place("confidence level", "/statistics/level"),
        Place("level at which all findings hold together", "/statistics/joint_level"),
        Place("draws", "/statistics/draws"),
        *used,
    ]


def waived(document: AuditDocument) -> list[Place]:
    """What stands under a waiver."""
    return [Place("waiver", f"/waivers/{index}/reason") for index in range(len(document.resolve("/waivers")))]


#: What an item of a document may ask for.
SETS: dict[str, Callable[[AuditDocument], list[Place]]] = {
    "tested": tested,
    "identity": identity,
    "verdict": verdict,
    "useful": useful,
    "safe": safe,
    "validity": validity,
    "subgroups": subgroups,
    "fairness": fairness,
    "amplification": amplification,
    "representation": representation,
    "unknown": unknown,
    "methods": methods,
    "waived": waived,
}


def pointer_of(name: str) -> str:
    """The pointer behind ``{{name}}`` or ``{{/a/pointer}}``.

    Raises:
        ConfigError: the name is not known.
    """
    if name.startswith("/"):
        return name
    if name not in NAMES:
        raise ConfigError(f"{name} is no name for a place in audit.json; known: {', '.join(sorted(NAMES))}.")
    return NAMES[name]


def _of_groups(document: AuditDocument, metrics: tuple[str, ...], order: int) -> Iterator[Place]:
    for index, row in enumerate(document.resolve("/groups")):
        if len(row["attributes"]) != order or row["figures"] is None:
            continue
        whom = "everybody" if not order else f"{row['attributes'][0]} {row['levels'][0]}"
        for name in metrics:
            at = f"/groups/{index}/figures/{name}"
            if name in row["figures"]:
                label = f"{_title(name)}, {whom} ({row['class_name']})"
                yield Place(label, f"{at}/0", f"{at}/1", f"{at}/2", f"/groups/{index}/n")


def _group(row: dict[str, Any]) -> str:
    return "everybody" if row["attribute"] == "overall" else f"{row['attribute']} {row['level']}"


def _title(metric: str) -> str:
    return MEASURES[metric].title if metric in MEASURES else metric
