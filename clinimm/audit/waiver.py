"""Waivers: two owners let a finding stand until a day, for a reason; the finding stays visible."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from clinimm.config import Frozen
from clinimm.core.names import same_name
from clinimm.yaml_lines import read_yaml, validate

#: No waiver outlives a quarter: a defect that is known must be mended or decided on again.
LONGEST_DAYS = 90


class Waiver(Frozen):
    """One finding that two people answer for."""

    rule: str = Field(description="Id of the rule.")
    attribute: str | None = Field(None, description="Attribute of the finding; none is every attribute.")
    level: str | None = Field(None, description="Group of the finding; none is every group.")
    reason: str = Field(min_length=10, description="Why it may stand, for people.")
    owners: tuple[str, ...] = Field(min_length=2, description="At least two different people.")
    signed: date = Field(description="The day on which they agreed.")
    until: date = Field(description="The last day on which it holds.")

    @model_validator(mode="after")
    def _two_owners_and_an_end(self) -> Waiver:
        if len({same_name(owner) for owner in self.owners}) < 2:
            raise ValueError("a waiver needs two different owners")
        if self.until < self.signed:
            raise ValueError("`until` lies before `signed`")
        if self.until > self.signed + timedelta(days=LONGEST_DAYS):
            raise ValueError(f"a waiver lasts at most {LONGEST_DAYS} days after `signed`")
        return self

    def covers(self, rule: str, attribute: str, level: str, day: date) -> bool:
        """Whether a finding may stand on a day."""
        here = self.rule == rule and self.attribute in (None, attribute) and self.level in (None, level)
        return here and self.signed <= day <= self.until

    def ended(self, day: date) -> bool:
        """Whether its last day is over."""
        return day > self.until


class Waivers(Frozen):
    """A file of waivers."""

    schema_: Literal["clinimm.waivers/1"] = Field(alias="schema", description="Format of the file.")
    waivers: tuple[Waiver, ...] = Field(description="What may stand.")


def load_waivers(path: Path) -> tuple[Waiver, ...]:
    """Read a file of waivers.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    return validate(read_yaml(path), Waivers).waivers


def covering(waivers: Sequence[Waiver], rule: str, attribute: str, level: str, day: date) -> Waiver | None:
    """The waiver under which a finding may stand, if there is one."""
    return next((waiver for waiver in waivers if waiver.covers(rule, attribute, level, day)), None)
