"""What a map must show before it is shown: the `explanations` part of the policy file."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from clinimm.config import Frozen

CheckName = Literal[
    "completeness",
    "deletion",
    "insertion",
    "random_orders",
    "deletion_edges",
    "insertion_edges",
    "infidelity",
    "infidelity_scaled",
    "sensitivity",
    "repeatability",
    "member_agreement",
    "randomisation",
    "pointing_game",
    "mass_inside",
    "iou",
]
OnFailure = Literal["struck_out", "hidden"]


class MapRule(Frozen):
    """One thing that a map must show.

    What counts is said by the check (``clinimm.explain.checks.CHECKS``): a figure that must not
    be above ``limit``, or must not be below it, or a gain over another order that must be at least
    ``limit``.
    """

    check: CheckName = Field(description="What is measured.")
    limit: float = Field(description="The worst that is tolerated.")
    fails: OnFailure = Field(
        "struck_out", description="What happens to a map that fails: shown struck out, or not at all."
    )
    required: bool = Field(
        False, description="Whether a map of which this was not measured fails, as if it had not kept it."
    )
    why: str = Field("", description="The reason, for people.")


class ExplanationPolicy(Frozen):
    """When a map is shown as it is, struck out, or not at all."""

    unmeasured: Literal["shown", "struck_out", "hidden"] = Field(
        "struck_out",
        description="What happens to a map for which none of the rules' checks was measured; also to every "
        "map where there are no rules.",
    )
    rules: tuple[MapRule, ...] = Field((), description="What a map must show.")

    @model_validator(mode="after")
    def _distinct(self) -> ExplanationPolicy:
        names = [rule.check for rule in self.rules]
        if doubled := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"a check has one rule; doubled: {', '.join(doubled)}")
        return self
