"""Whether a map is shown, struck out or hidden, and why, in a sentence that a clinician can read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from clinimm.audit.explanation_policy import ExplanationPolicy, MapRule
from clinimm.explain.checks import CHECKS, Check

State = Literal["shown", "struck_out", "hidden"]
_WORST: tuple[State, ...] = ("shown", "struck_out", "hidden")


@dataclass(frozen=True)
class Standing:
    """What becomes of one map.

    Attributes:
        state: ``shown``, ``struck_out`` or ``hidden``.
        failed: names of the checks that it failed.
        measured: names of the checks that a rule judged.
        sentence: the reason, for people.
    """

    state: State
    failed: tuple[str, ...]
    measured: tuple[str, ...]
    sentence: str


def judge_map(checks: Iterable[Check], policy: ExplanationPolicy) -> Standing:
    """Hold the checks of one map against the policy; the worst failure decides.

    Args:
        checks: figures of one map, at most one a name.
        policy: its rules; a rule whose check was not measured says nothing.
    """
    by_name = {check.name: check for check in checks}
    judged = [(rule, by_name[rule.check]) for rule in policy.rules if rule.check in by_name]
    if not judged:
        return Standing(policy.unmeasured, (), (), "None of the policy's checks could be made on this map.")
    failed = [(rule, check) for rule, check in judged if not passes(rule, check)]
    measured = tuple(check.name for _, check in judged)
    if not failed:
        return Standing("shown", (), measured, f"All {len(judged)} checks hold.")
    state = max((rule.fails for rule, _ in failed), key=_WORST.index)
    reasons = "; ".join(_reason(rule, check) for rule, check in failed)
    verb = "Not shown" if state == "hidden" else "Struck out"
    return Standing(state, tuple(check.name for _, check in failed), measured, f"{verb}: {reasons}.")


def passes(rule: MapRule, check: Check) -> bool:
    """Whether a figure keeps a rule's limit; a figure that is not a number does not."""
    higher = check.against is not None or CHECKS[check.name].better == "higher"
    return check.judged >= rule.limit if higher else check.judged <= rule.limit


def _reason(rule: MapRule, check: Check) -> str:
    title = CHECKS[check.name].title
    title = title[0].lower() + title[1:]
    if check.against is not None:
        return (
            f"{title}: {check.value:.2f} against {check.against:.2f}, a gain of {check.judged:+.2f} where at "
            f"least {rule.limit:g} is asked"
        )
    side = "at least" if CHECKS[check.name].better == "higher" else "at most"
    return f"{title} is {check.value:.2f}, {side} {rule.limit:g} is asked"
