"""Whether a map is shown, struck out or hidden, and why, in a sentence that a clinician can read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from clinimm.audit.explanation_policy import ExplanationPolicy, MapRule
from clinimm.explain.check import CHECKS, Check

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
        policy: its rules; one whose check was not measured is named in the sentence, and fails the map
            only where the policy requires it.
    """
    by_name = {check.name: check for check in checks}
    judged = [(rule, by_name[rule.check]) for rule in policy.rules if rule.check in by_name]
    unknown = _not_measured(policy, by_name)
    lacking = [rule for rule in unknown if rule.required]
    if not judged and not lacking:
        return Standing(policy.unmeasured, (), (), "None of the policy's checks could be made on this map.")
    failed = [(rule, check) for rule, check in judged if not passes(rule, check)]
    measured = tuple(check.name for _, check in judged)
    silent = [rule.check.replace("_", " ") for rule in unknown if not rule.required]
    beside = f" Not measured: {', '.join(silent)}." if silent else ""
    if not failed and not lacking:
        return Standing("shown", (), measured, f"All {len(judged)} checks hold.{beside}")
    rules = [*(rule for rule, _ in failed), *lacking]
    state = max((rule.fails for rule in rules), key=_WORST.index)
    reasons = [_reason(rule, check) for rule, check in failed]
    reasons += [f"{_lower(CHECKS[rule.check].title)} was not measured, but is required" for rule in lacking]
    verb = "Not shown" if state == "hidden" else "Struck out"
    names = tuple(rule.check for rule in rules)
    return Standing(state, names, measured, f"{verb}: {'; '.join(reasons)}.{beside}")


def _not_measured(policy: ExplanationPolicy, by_name: Mapping[str, Check]) -> list[MapRule]:
    """Rules that could speak about this map and do not; what only the whole has is asked of the whole."""
    whole = not by_name or any(check.modality == "all" for check in by_name.values())
    return [
        rule for rule in policy.rules if rule.check not in by_name and (whole or not CHECKS[rule.check].whole)
    ]


def passes(rule: MapRule, check: Check) -> bool:
    """Whether a figure keeps a rule's limit; a figure that is not a number does not."""
    higher = check.against is not None or CHECKS[check.name].better == "higher"
    return check.judged >= rule.limit if higher else check.judged <= rule.limit


def _reason(rule: MapRule, check: Check) -> str:
    title = _lower(CHECKS[check.name].title)
    if check.against is not None:
        return (
            f"{title}: {check.value:.2f} against {check.against:.2f}, a gain of {check.judged:+.2f} where at "
            f"least {rule.limit:g} is asked"
        )
    side = "at least" if CHECKS[check.name].better == "higher" else "at most"
    return f"{title} is {check.value:.2f}, {side} {rule.limit:g} is asked"


def _lower(title: str) -> str:
    return title[0].lower() + title[1:]
