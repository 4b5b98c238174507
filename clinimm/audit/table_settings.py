"""The `table` part of a policy: sources of attributes, how much is shown, drawn and published.

Columns, threshold and bins are for ``clinimm audit-table``; a pipeline's run has its own.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from clinimm.audit.detect_settings import DetectSettings
from clinimm.config import Frozen

Source = Literal["self_report", "registry", "inferred", "not_stated"]


class AttributeSettings(Frozen):
    """How one attribute is read, and where it comes from."""

    bins: tuple[float, ...] = Field(
        (), description="Inner edges for a number: 18, 65 makes below 18, 18 to below 65, 65 and above."
    )
    source: Source = Field(
        "not_stated",
        description="Who said so; inferred (guessed from names or addresses) is shown and never gates.",
    )

    @field_validator("bins")
    @classmethod
    def _rising(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if list(value) != sorted(set(value)):
            raise ValueError(f"bins must rise: got {', '.join(f'{edge:g}' for edge in value)}")
        return value


class Columns(Frozen):
    """Names of the table's columns."""

    subject: str = Field("subject_id", description="Who a row is about; empty where each row is a subject.")
    label: str = Field("label", description="1 or true for the outcome, 0 or false without.")
    probability: str = Field("probability", description="Predicted risk, 0 to 1.")
    row: str = Field("", description="A name of each row, where one subject may have equal rows.")


class TableSettings(Frozen):
    """The `table` part of a policy."""

    threshold: float | None = Field(
        None, gt=0, lt=1, description="Probability from which a row is flagged; also what a miss weighs."
    )
    columns: Columns = Columns()
    attributes: dict[str, AttributeSettings] = Field({}, description="Bins and source of an attribute.")
    intersections: int = Field(
        4, ge=1, le=4, description="Figures of groups by up to so many attributes at once."
    )
    published_intersections: int = Field(
        2, ge=1, le=4, description="The published view has groups by up to so many attributes at once."
    )
    draws: int = Field(2000, ge=200, le=100_000, description="Draws for intervals that hold together.")
    permutations: int = Field(2000, ge=99, le=100_000, description="Draws of each permutation test.")
    published_minimum: int = Field(
        11, ge=1, description="In the published view no count from 1 to below this can be seen or derived."
    )
    detect: DetectSettings = Field(
        DetectSettings(), description="What to look for beyond the rules; signals never decide."
    )
    seed: int = Field(20260101, ge=0, description="Of all draws; the same seed gives the same bytes.")
