"""The flow of subjects through a cohort, counted as in a CONSORT diagram (consort-statement.org)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Step:
    """One line of the diagram: how many came, how many left and why, how many stayed.

    Attributes:
        name: what the cohort file calls it.
        kind: which part of the file it comes from.
        reasons: why they left -> how many; adds up to ``left``.
    """

    name: str
    kind: Literal["index", "inclusion", "exclusion", "label"]
    before: int
    left: int
    reasons: dict[str, int] = field(default_factory=dict)

    @property
    def after(self) -> int:
        """How many stayed."""
        return self.before - self.left


@dataclass(frozen=True)
class Flow:
    """``cohort/flow.json``: the whole diagram.

    Attributes:
        cohort, question: from the cohort file.
        subjects, events: how many the data hold.
        steps: in the order of the cohort file.
        label: ``task``, ``kind``, ``labelled``, ``unlabelled`` and ``classes`` (name -> subjects).
        inputs: modality -> ``subjects`` that have something visible, and ``events`` they have.
        split: ``kind``, ``repeats``, ``folds`` and ``parts``, each with ``name``, ``subjects`` and
            ``classes``; with more than one fold the parts are means over the folds.
        warnings: what a reader should know before believing a figure.
    """

    cohort: str
    question: str
    subjects: int
    events: int
    steps: tuple[Step, ...]
    label: Mapping[str, Any]
    inputs: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    split: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()

    def to_json(self) -> str:
        """The text of ``flow.json``."""
        content = asdict(self)
        for step, row in zip(self.steps, content["steps"], strict=True):
            row["after"] = step.after
        return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
