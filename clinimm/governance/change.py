"""Predetermined changes: which settings may differ between two runs without a new approval.

After the idea of a predetermined change control plan (FDA, final guidance of December 2024): the
modifications, how each is carried out, and what it does; the acceptance criteria are the audit's policy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from clinimm.config import Frozen
from clinimm.yaml_lines import YamlDocument, read_yaml, validate

CHANGE_FILE = "change-control.yaml"
#: Stands where a run does not have a setting at all.
ABSENT = "(absent)"


class Allowed(Frozen):
    """A setting that may differ, and how far."""

    key: str = Field(min_length=1, description="Dotted key; * stands for any characters.")
    at_least: float | None = Field(None, description="The new value is not below this.")
    at_most: float | None = Field(None, description="The new value is not above this.")
    one_of: tuple[str | float | bool, ...] = Field((), description="The new value is one of these.")

    @model_validator(mode="after")
    def _rising(self) -> Self:
        if self.at_least is not None and self.at_most is not None and self.at_most < self.at_least:
            raise ValueError("`at_most` lies below `at_least`")
        return self

    def refuses(self, value: Any) -> str:
        """Why a new value is not allowed; empty where it is."""
        if self.one_of and value not in self.one_of:
            return f"not one of {', '.join(str(one) for one in self.one_of)}"
        if self.at_least is None and self.at_most is None:
            return ""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return "not a number"
        if self.at_least is not None and value < self.at_least:
            return f"below {self.at_least:g}"
        return f"above {self.at_most:g}" if self.at_most is not None and value > self.at_most else ""


class Modification(Frozen):
    """A kind of change that was thought through beforehand."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$", description="Short stable name.")
    what: str = Field(min_length=10, description="The change, in words.")
    why: str = Field(min_length=5, description="Why it will be needed.")
    owner: str = Field(description="Role that carries it out.")
    allows: tuple[Allowed, ...] = Field(min_length=1, description="Settings that may differ.")
    protocol: tuple[str, ...] = Field(min_length=1, description="How it is carried out and verified.")
    impact: str = Field(min_length=5, description="What it may do, and what would see it.")


class ChangeControl(Frozen):
    """The file ``governance/change-control.yaml``."""

    schema_: Literal["clinimm.change-control/1"] = Field(alias="schema", description="Format of the file.")
    modifications: tuple[Modification, ...] = Field(min_length=1, description="What may change.")


@dataclass(frozen=True)
class Change:
    """One setting that differs.

    Attributes:
        key: dotted.
        before, after: the values; ``ABSENT`` where a run does not have it.
        modification: id of the change that allows it; None is outside the envelope.
        reason: why it is outside; empty where it is inside.
    """

    key: str
    before: Any
    after: Any
    modification: str | None
    reason: str

    @property
    def inside(self) -> bool:
        """Whether the plan allows it."""
        return self.modification is not None


def read_change_control(path: Path) -> tuple[ChangeControl, YamlDocument]:
    """The plan, and the document for the lines of messages.

    Raises:
        ConfigError: one line a mistake, with ``file:line``.
    """
    document = read_yaml(path)
    return validate(document, ChangeControl), document


def flat(value: Any, at: str = "") -> dict[str, Any]:
    """Nested settings as dotted keys.

    >>> flat({"train": {"epochs": 3}, "sources": [{"root": "a"}]})
    {'train.epochs': 3, 'sources.0.root': 'a'}
    """
    if isinstance(value, Mapping):
        pairs = [(str(key), inner) for key, inner in value.items()]
    elif isinstance(value, Sequence) and not isinstance(value, str):
        pairs = [(str(index), inner) for index, inner in enumerate(value)]
    else:
        return {at: value}
    if not pairs:
        return {at: type(value)()} if at else {}
    return {
        key: leaf
        for name, inner in pairs
        for key, leaf in flat(inner, f"{at}.{name}" if at else name).items()
    }


def changes(before: Mapping[str, Any], after: Mapping[str, Any], plan: ChangeControl) -> list[Change]:
    """Every setting that differs, judged by the plan.

    Args:
        before, after: dotted key -> value, of the approved run and of the new one.
        plan: what may change.
    """
    keys = [key for key in sorted({*before, *after}) if before.get(key, ABSENT) != after.get(key, ABSENT)]
    return [_judge(key, before.get(key, ABSENT), after.get(key, ABSENT), plan) for key in keys]


def _judge(key: str, before: Any, after: Any, plan: ChangeControl) -> Change:
    reasons = []
    for modification in plan.modifications:
        for allowed in modification.allows:
            if not fnmatchcase(key, allowed.key):
                continue
            reason = allowed.refuses(after)
            if not reason:
                return Change(key, before, after, modification.id, "")
            reasons.append(f"{modification.id} allows it, but {after} is {reason}")
    return Change(key, before, after, None, "; ".join(reasons) or "no modification of the plan allows it")
