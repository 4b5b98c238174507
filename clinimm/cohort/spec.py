"""The cohort file: one question as typed, frozen values that a clinician can review.

A whole cohort in a few lines::

    name: early-aki
    question: Will creatinine rise above 1.5 mg/dL within two days of the first film?
    index: {modality: radiology, which: first}
    label:
      task: aki
      code: "LOINC//2160-0"
      value: {min: 1.5, unit: mg/dL}
      window: [0 d, 2 d]
    inputs:
      ehr: {look_back: 365 d}
      radiology: {look_back: 1 d}

The split has a file of its own, ``split_spec.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from clinimm.cohort.duration import Bound, Duration
from clinimm.cohort.event_rule import EventRule, NonEmpty, Patterns, Range, Window, check_order
from clinimm.cohort.split_spec import SplitSpec, SubjectSplit
from clinimm.config import Frozen
from clinimm.yaml_lines import read_yaml, validate

#: Facts of this category say how things ended; no model may see them (law 1).
OUTCOME = "outcome"

#: Columns of every cohort table that hold attributes, in their order.
STANDARD_ATTRIBUTES = ("sex", "age_years", "age_band", "race", "ethnicity")
#: Columns of the cohort table that an attribute may not be called.
RESERVED = ("subject_id", "index_time", "label", "labelled", "split", "site_id", *STANDARD_ATTRIBUTES)

#: A last edge at or above this makes the band open: ``65+``.
OPEN_AGE_YEARS = 120


class IndexSpec(EventRule):
    """The event at which the question is asked: the moment of prediction."""

    which: Literal["first", "last"] = Field("first", description="Which of a subject's such events.")
    delay: Duration = Field(timedelta(), description="How long after that event the question is asked.")

    @model_validator(mode="after")
    def _is_askable(self) -> Self:
        if not self.names_events:
            raise ValueError("name the index event by `modality`, `code` or `category`")
        if self.delay < timedelta():
            raise ValueError("delay is negative; the question cannot be asked before its event")
        return self


class Criterion(EventRule):
    """One line of the flow diagram: a fact, an age or an attribute that somebody must have."""

    name: NonEmpty = Field(description="What the flow diagram calls it.")
    age_years: Range | None = Field(None, description="Age at the index, years.")
    attribute: dict[str, Patterns] | None = Field(
        None, description="One of sex, race, ethnicity or site, and the values that count."
    )
    window: Window = Field((None, timedelta()), description="From and to, relative to the index; both count.")
    at_least: int = Field(1, gt=0, description="How many such events are needed.")

    @field_validator("attribute")
    @classmethod
    def _is_known(cls, value: dict[str, Patterns] | None) -> dict[str, Patterns] | None:
        known = {"sex", "race", "ethnicity", "site"}
        if value is not None and (len(value) != 1 or not set(value) <= known):
            raise ValueError(f"expected exactly one of {', '.join(sorted(known))}")
        return value

    @model_validator(mode="after")
    def _asks_one_thing(self) -> Self:
        asked = [self.names_events, self.age_years is not None, self.attribute is not None]
        if sum(asked) != 1:
            raise ValueError(
                "expected exactly one of: an event (code, category, modality), age_years, attribute"
            )
        if not self.names_events and not self.model_fields_set.isdisjoint({"value", "window", "at_least"}):
            raise ValueError("value, window and at_least belong to an event; name its code")
        check_order(self.window)
        return self

    @property
    def looks_ahead(self) -> bool:
        """Whether it selects on what happened after the index."""
        return self.names_events and (self.window[1] is None or self.window[1] > timedelta())


class LabelSpec(EventRule):
    """What is predicted, and when it must have been recorded to count."""

    task: NonEmpty = Field(description="Name of the task; for a binary label also of the positive class.")
    kind: Literal["binary", "multiclass", "multilabel", "virtual_staining"] = Field(
        "binary", description="Shape of the answer; for `virtual_staining` the classes are stained slides."
    )
    classes: dict[NonEmpty, EventRule] = Field(
        default_factory=dict,
        description="Class name and its rule; what a rule leaves out is taken from the label.",
    )
    window: Window = Field(description="From (exclusive) and to (inclusive), after the index.")
    absent: Literal["unknown", "negative", "exclude"] = Field(
        "unknown", description="What it means that nothing was recorded in the window."
    )

    @field_validator("window")
    @classmethod
    def _is_after_the_index(cls, window: Window) -> Window:
        if window[0] is None or window[0] < timedelta():
            raise ValueError("a label lies after the index: start the window at `0 d` or later")
        check_order(window)
        return window

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Self:
        if self.kind == "binary":
            self._check_binary()
        elif self.kind == "virtual_staining":
            self._check_stains()
        elif len(self.classes) < (2 if self.kind == "multiclass" else 1):
            raise ValueError(f"a {self.kind} label needs `classes`, each with its rule")
        elif self.kind == "multiclass" and self.absent == "negative":
            raise ValueError("`absent: negative` has no class to go to; use `unknown` or `exclude`")
        for name, rule in self.resolved().items():
            if not rule.names_events:
                raise ValueError(f"class {name!r} has no code, and the label gives none")
            if rule.value is None and self.kind == "multilabel" and self.absent != "negative":
                raise ValueError(f"class {name!r} has no `value`, so it needs `absent: negative`")
        return self

    def _check_binary(self) -> None:
        if self.classes:
            raise ValueError("a binary label has one rule: give `code` and `value`, not `classes`")
        if self.value is None and self.absent != "negative":
            raise ValueError("without `value` every such event means yes, so `absent: negative` is needed")

    def _check_stains(self) -> None:
        if not self.classes:
            raise ValueError(
                "a virtual_staining label needs `classes`: a stain's name and the code of its slides"
            )
        if self.absent != "unknown":
            raise ValueError("who has no such slide is unknown, not negative: leave `absent` out")

    @property
    def has_columns(self) -> bool:
        """Whether the cohort table has a label column a class."""
        return self.kind in ("multilabel", "virtual_staining")

    def resolved(self) -> dict[str, EventRule]:
        """Every class and its whole rule; a binary label has the one class of the task's name."""
        shared = EventRule(code=self.code, category=self.category, modality=self.modality, value=self.value)
        if self.kind == "binary":
            return {self.task: shared}
        return {name: _completed(rule, shared) for name, rule in self.classes.items()}


def _completed(rule: EventRule, shared: EventRule) -> EventRule:
    given = {name: getattr(rule, name) for name in rule.model_fields_set}
    return shared.model_copy(update=given)


class CategoryFilter(Frozen):
    """Which categories an input may see; `outcome` is never one of them."""

    include: Patterns = Field((), description="Only these; left out: all.")
    exclude: Patterns = Field((), description="None of these.")


class InputSpec(Frozen):
    """What a model may see of one modality."""

    look_back: Bound = Field(None, description="How far before the index; `ever` has no limit.")
    include: Patterns = Field((), description="Only these codes; left out: all.")
    exclude: Patterns = Field((), description="None of these codes.")
    categories: CategoryFilter = CategoryFilter()

    @model_validator(mode="after")
    def _is_honest(self) -> Self:
        if self.look_back is not None and self.look_back < timedelta():
            raise ValueError("look_back is a length of time before the index: leave out the minus")
        barred = [code for code in self.include if code.lower().startswith(f"{OUTCOME}/")]
        barred += [name for name in self.categories.include if name.lower() == OUTCOME]
        if barred:
            raise ValueError(f"an outcome is never an input, and {', '.join(barred)} asks for one")
        return self


class AttributeRule(EventRule):
    """An attribute for reporting only, read from events; no model ever sees it."""

    which: Literal["first", "last"] = Field("last", description="Which of a subject's such events.")
    window: Window = Field((None, None), description="From and to, relative to the index; both count.")

    @model_validator(mode="after")
    def _names_an_event(self) -> Self:
        if not self.names_events:
            raise ValueError("name the event by `code`, `category` or `modality`")
        check_order(self.window)
        return self


class AuditAttributes(Frozen):
    """By which attributes the results are reported and audited."""

    sex: bool = Field(True, description="Whether sex is kept.")
    age_band: tuple[float, ...] = Field(
        (0, 18, 40, 65, 130), description="Edges of the age bands, years; a band includes its lower edge."
    )
    race: bool = Field(True, description="Whether race is kept.")
    ethnicity: bool = Field(True, description="Whether ethnicity is kept.")
    custom: dict[str, AttributeRule] = Field(
        default_factory=dict, description="Further attributes and the events they are read from."
    )

    @field_validator("age_band")
    @classmethod
    def _rises(cls, edges: tuple[float, ...]) -> tuple[float, ...]:
        if len(edges) < 2 or any(low >= high for low, high in pairwise(edges)):
            raise ValueError("expected at least two edges in rising order, such as [0, 18, 65, 130]")
        return edges

    @field_validator("custom")
    @classmethod
    def _has_a_free_name(cls, custom: dict[str, AttributeRule]) -> dict[str, AttributeRule]:
        taken = sorted(name for name in custom if name in RESERVED or name.startswith("label:"))
        if taken:
            raise ValueError(f"{', '.join(taken)} is a column that every cohort has; choose another name")
        return custom


class CohortSpec(Frozen):
    """A whole cohort file."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", description="Name of the cohort.")
    question: NonEmpty = Field(description="The question in one sentence, for people.")
    index: IndexSpec = Field(description="The event at which the question is asked.")
    inclusion: tuple[Criterion, ...] = Field((), description="Who does not meet one of these leaves.")
    exclusion: tuple[Criterion, ...] = Field((), description="Who meets one of these leaves.")
    label: LabelSpec = Field(description="What is predicted.")
    inputs: dict[str, InputSpec] = Field(
        min_length=1, description="Modality and what may be seen of it; nothing else is visible."
    )
    audit_attributes: AuditAttributes = AuditAttributes()
    split: SplitSpec = Field(
        default_factory=SubjectSplit, description="Who trains, who tunes, who is held out."
    )

    @field_validator("inputs", mode="before")
    @classmethod
    def _may_be_bare(cls, value: Any) -> Any:
        if not isinstance(value, Mapping):
            return value
        return {name: {} if rule is None else rule for name, rule in value.items()}


def load_cohort(path: Path) -> CohortSpec:
    """Read a cohort file.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    return validate(read_yaml(path), CohortSpec)
