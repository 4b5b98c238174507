"""Incidents: what went wrong on somebody's page, and what now fails if it happens again."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from clinimm.config import Frozen
from clinimm.governance.hazards import Severity
from clinimm.yaml_lines import read_yaml, validate


class Incident(Frozen):
    """One incident; a file of ``governance/incidents/``. It names no patient."""

    schema_: Literal["clinimm.governance-incident/1"] = Field(
        alias="schema", description="Format of the file."
    )
    title: str = Field(min_length=5, description="What happened, in a line.")
    seen: date = Field(description="The day on which somebody noticed.")
    run: str = Field(description="Run and model digest, so far as known; a pseudonym, never a name.")
    record: str = Field(
        "", description="File of the monitor's own record in this folder, where there is one."
    )
    happened: str = Field(min_length=10, description="What happened, in a paragraph.")
    affected: str = Field(
        min_length=5, description="Whether a patient could have been affected, and how known."
    )
    severity: Severity = Field(description="Of the worst that could have come of it.")
    hazard: str = Field(pattern=r"^H\d+$", description="The hazard that it belongs to.")
    at_once: str = Field(min_length=5, description="What was done at once.")
    owner: str = Field(description="Role that answers for it.")
    due: date = Field(description="The day by which it is to be closed.")
    closed: date | None = Field(None, description="The day on which it was closed.")
    cause: str = Field("", description="The cause, and how it is known.")
    mended: str = Field("", description="What was changed.")
    tests: tuple[str, ...] = Field((), description="Tests that now fail if it happens again: file::name.")

    @model_validator(mode="after")
    def _closed_with_a_cause_and_a_test(self) -> Self:
        if self.closed is None:
            return self
        if self.closed < self.seen:
            raise ValueError("`closed` lies before `seen`")
        missing = [name for name in ("cause", "mended", "tests") if not getattr(self, name)]
        if missing:
            raise ValueError(f"an incident is closed with its {', '.join(missing)}")
        return self

    def overdue(self, day: date) -> bool:
        """Whether it should have been closed by a day."""
        return self.closed is None and day > self.due


def load_incident(path: Path) -> Incident:
    """Read one incident.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    return validate(read_yaml(path), Incident)
