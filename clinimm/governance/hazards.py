"""Hazards with the controls that hold them, in the order of thought of ISO 14971:2019.

A hazard leads by a sequence of events to a harm; a control breaks the sequence; what is left is
weighed. Each control names the tests that fail when it is gone, and the file of a run in which a
reviewer sees it at work.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from clinimm.config import Frozen
from clinimm.yaml_lines import YamlDocument, read_yaml, validate

HAZARDS_FILE = "hazards.yaml"
#: Least first; the place in the list is the weight.
SEVERITIES = ("negligible", "minor", "serious", "critical", "catastrophic")
LIKELIHOODS = ("improbable", "remote", "occasional", "probable", "frequent")
Severity = Literal["negligible", "minor", "serious", "critical", "catastrophic"]
Likelihood = Literal["improbable", "remote", "occasional", "probable", "frequent"]
ACCEPTABLE, TOLERABLE, UNACCEPTABLE = "acceptable", "tolerable", "unacceptable"
_NODE = r"^tests/[\w/]+\.py::\w+(::\w+)?$"


class Control(Frozen):
    """What breaks the sequence of events."""

    what: str = Field(min_length=10, description="The control, in words.")
    kind: Literal["design", "protective", "information"] = Field(
        description="Safe by design, a protective measure, or information for safety (ISO 14971, 7.1)."
    )
    tests: tuple[str, ...] = Field((), description="Tests that fail when the control is gone: file::name.")
    evidence: str = Field("", description="File of a run in which a reviewer sees the control at work.")

    @field_validator("tests", mode="after")
    @classmethod
    def _named_as_pytest_does(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if wrong := [node for node in value if not re.match(_NODE, node)]:
            raise ValueError(f"a test is named tests/FOLDER/FILE.py::NAME; got {', '.join(wrong)}")
        return value


class Hazard(Frozen):
    """One source of harm and what is done about it."""

    id: str = Field(pattern=r"^H\d+$", description="Never used again for another hazard.")
    hazard: str = Field(min_length=10, description="What could go wrong.")
    sequence: str = Field(min_length=10, description="How it comes to harm somebody, step by step.")
    harm: str = Field(min_length=5, description="Who is harmed, and how.")
    severity: Severity = Field(description="Of the harm, in the intended use.")
    before: Likelihood = Field(description="Of the harm, without the controls.")
    after: Likelihood = Field(description="Of the harm, with them.")
    controls: tuple[Control, ...] = Field(description="What holds it.")
    open: str = Field("", description="What the controls do not cover.")
    because: str = Field("", description="Why a residual risk that is only tolerable may stand.")

    @model_validator(mode="after")
    def _controls_do_not_add_risk(self) -> Self:
        if LIKELIHOODS.index(self.after) > LIKELIHOODS.index(self.before):
            raise ValueError("`after` is likelier than `before`: a control that adds risk is none")
        return self


class Matrix(Frozen):
    """Where the lines are drawn: weight of severity (1 to 5) times weight of likelihood (1 to 5)."""

    acceptable: int = Field(ge=1, le=25, description="Up to here a residual risk needs no word.")
    tolerable: int = Field(ge=1, le=25, description="Up to here it needs `because`; above, it may not stand.")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.tolerable < self.acceptable:
            raise ValueError("`tolerable` lies below `acceptable`")
        return self

    def judge(self, severity: Severity, likelihood: Likelihood) -> str:
        """``acceptable``, ``tolerable`` or ``unacceptable``."""
        weight = (SEVERITIES.index(severity) + 1) * (LIKELIHOODS.index(likelihood) + 1)
        if weight <= self.acceptable:
            return ACCEPTABLE
        return TOLERABLE if weight <= self.tolerable else UNACCEPTABLE


class Hazards(Frozen):
    """The file ``governance/hazards.yaml``."""

    schema_: Literal["clinimm.hazards/1"] = Field(alias="schema", description="Format of the file.")
    severities: dict[Severity, str] = Field(description="What each severity means here.")
    likelihoods: dict[Likelihood, str] = Field(description="What each likelihood means here.")
    matrix: Matrix = Field(description="What may stand.")
    hazards: tuple[Hazard, ...] = Field(min_length=1, description="What could go wrong.")

    @model_validator(mode="after")
    def _distinct_and_explained(self) -> Self:
        names = [hazard.id for hazard in self.hazards]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"hazard ids must differ; doubled: {', '.join(doubled)}")
        missing = [name for name in SEVERITIES if name not in self.severities]
        missing += [name for name in LIKELIHOODS if name not in self.likelihoods]
        if missing:
            raise ValueError(f"the scales do not say what these mean: {', '.join(missing)}")
        return self


def read_hazards(path: Path) -> tuple[Hazards, YamlDocument]:
    """The hazards, and the document for the lines of messages.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    document = read_yaml(path)
    return validate(document, Hazards), document
