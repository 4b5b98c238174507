"""What an event must be to count: by its code, category and modality, and by its value."""

from __future__ import annotations

from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Field, model_validator

from clinimm.cohort.duration import Bound
from clinimm.config import Frozen


def _as_list(value: Any) -> Any:
    return (value,) if isinstance(value, str) else value


def _as_value_rule(value: Any) -> Any:
    if isinstance(value, (bool, int, float)):
        return {"equals": float(value)}
    return {"text": value} if isinstance(value, (str, list)) else value


NonEmpty = Annotated[str, Field(min_length=1)]
Patterns = Annotated[tuple[NonEmpty, ...], BeforeValidator(_as_list)]
#: From and to, relative to the index.
Window = tuple[Bound, Bound]


class Range(Frozen):
    """A closed range of numbers; a side that is left out has no limit."""

    min: float | None = Field(None, description="Smallest value that counts, inclusive.")
    max: float | None = Field(None, description="Largest value that counts, inclusive.")

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self


class ValueRule(Range):
    """Which values count. ``true`` and ``false`` mean 1 and 0; plain text means ``text``."""

    equals: float | None = Field(None, description="The one number that counts.")
    text: Patterns = Field((), description="Texts that count; `*` matches anything; case is ignored.")
    unit: str | None = Field(None, description="UCUM unit that the number must have.")

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        numeric = self.equals is not None or self.min is not None or self.max is not None
        if numeric == bool(self.text):
            raise ValueError("expected either a number (true, false, min, max) or a text")
        if self.equals is not None and (self.min is not None or self.max is not None):
            raise ValueError("expected either `equals` or `min` and `max`")
        if self.unit and not numeric:
            raise ValueError("a unit needs a number")
        return self


OptionalValue = Annotated[ValueRule | None, BeforeValidator(_as_value_rule)]


class EventRule(Frozen):
    """Which events count. What is left out is not asked."""

    code: Patterns = Field((), description="Codes such as `LOINC//8310-5`; `*` matches anything.")
    category: Patterns = Field((), description="FHIR category or DICOM Modality; `*` matches anything.")
    modality: NonEmpty | None = Field(None, description="`ehr`, `notes`, `radiology`, ...")
    value: OptionalValue = Field(None, description="Which values count; left out: any, even none.")

    @property
    def names_events(self) -> bool:
        """Whether the rule says anything about which events it means."""
        return bool(self.code or self.category or self.modality)

    def words(self) -> str:
        """The rule as a person would say it in a message."""
        parts = [" or ".join(self.code), f"category {' or '.join(self.category)}" if self.category else ""]
        parts.append(f"modality {self.modality}" if self.modality else "")
        return ", ".join(part for part in parts if part)


def check_order(window: Window) -> None:
    """Refuse a window that ends before it starts.

    Raises:
        ValueError: it does.
    """
    start, end = window
    if start is not None and end is not None and start > end:
        raise ValueError("the window ends before it starts")
