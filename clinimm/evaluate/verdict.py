"""Does fusion help? One key, one plain sentence, and the simpler model where it does not.

The rival is the best single modality: the highest held-out AUROC among the ``single:`` and
``linear:`` controls. Choosing the winner after the fact flatters it, which is on purpose: whoever
wants fusion bears the burden of proof, and a run with nothing to find does not claim a gain. For the
same reason every other single modality must be beaten too: two that are level share the first place.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from scipy.stats import norm

from clinimm.evaluate.bootstrap import Difference
from clinimm.evaluate.estimate import Estimate, rounded_up

HELPS = "helps"
DOES_NOT_HELP = "does_not_help"
CANNOT_TELL = "cannot_tell"

SINGLE_PREFIXES = ("single:", "linear:")
COMBINERS = ("late_fusion", "gradient_boosting")
MISSINGNESS = "missingness_only"
METADATA = "metadata_only"
_SHOUT = {
    MISSINGNESS: "who was measured predicts as well as what was measured",
    METADATA: "the view, site or device predicts as well as the content",
}
_HINT = {
    MISSINGNESS: "who was measured already predicts the outcome",
    METADATA: "the view, site or device already predicts the outcome",
}
#: Confidence, over all rivals together, at which a rival shows that a fused model without signal failed.
_CLEAR_LEVEL = 0.999
_POWER = 0.8
_MOST_WORTH_NAMING = 100_000


@dataclass(frozen=True)
class Evidence:
    """What the verdict rests on.

    Attributes:
        fused: AUROC of the fused model.
        controls: AUROC of each control, by name.
        differences: fused less control on the same subjects, by control.
        margin: gain in AUROC below which fusion is not worth its trouble.
        level: confidence level of the intervals.
        over_alarms: AUROC of each simple model less that of an alarm, by both names; what is not
            there was not shown to be better.
    """

    fused: Estimate
    controls: Mapping[str, Estimate]
    differences: Mapping[str, Difference]
    margin: float
    level: float = 0.95
    over_alarms: Mapping[tuple[str, str], Difference] = field(default_factory=dict)

    @property
    def best_single(self) -> str | None:
        """The best single modality, by AUROC among the controls that were compared."""
        return _best(self, [name for name in self.differences if name.startswith(SINGLE_PREFIXES)])

    @property
    def unbeaten(self) -> str | None:
        """The best single modality that the fused model was not shown to beat; None where all are beaten."""
        singles = [name for name in self.differences if name.startswith(SINGLE_PREFIXES)]
        return _best(self, [name for name in singles if not self.differences[name].low > 0])

    @property
    def simple(self) -> tuple[str, ...]:
        """Every model that could be used in place of the fused one."""
        names = [*COMBINERS] if self.best_single is None else [self.best_single, *COMBINERS]
        return tuple(name for name in names if name in self.differences)


@dataclass(frozen=True)
class Verdict:
    """The answer of a run.

    Attributes:
        key: ``helps``, ``does_not_help`` or ``cannot_tell``.
        sentence: the answer for people.
        model: what to use: ``fused``, a control's name, or None (nothing here predicts).
        reason: why that model.
        warnings: further sentences that must be shown beside the answer.
        more_positives: roughly how many more positives would settle it; None where settled or unknown.
    """

    key: str
    sentence: str
    model: str | None
    reason: str
    warnings: tuple[str, ...] = ()
    more_positives: int | None = None

    def as_json(self) -> dict[str, Any]:
        """Plain values for ``metrics.json``."""
        return {
            "key": self.key,
            "sentence": self.sentence,
            "recommendation": {"model": self.model, "reason": self.reason},
            "warnings": list(self.warnings),
            "more_positives": self.more_positives,
        }


def judge(evidence: Evidence) -> Verdict:
    """The verdict.

    ``helps``: the whole interval of fused less each single modality lies above zero, and the fused
    AUROC's own interval above one half. ``does_not_help``: the whole interval of fused less the best
    single modality lies below the margin. ``cannot_tell``: anything else, and always where the fused
    model shows no signal, unless a rival beats it beyond doubt.
    """
    verdict = _answer(evidence)
    return _with_warnings(verdict, _warnings(evidence, verdict.model))


def _answer(evidence: Evidence) -> Verdict:
    fused = evidence.fused
    if not fused.known:
        return _untold(f"the fused AUROC is not estimable: {fused.reason}")
    if not fused.above(0.5):
        return _without_signal(evidence)
    rival = evidence.best_single
    if rival is None:
        return _untold("no single-modality control was fitted, so there is nothing to compare with", "fused")
    unbeaten = evidence.unbeaten
    if unbeaten == rival and evidence.differences[rival].high < evidence.margin:
        return _does_not_help(evidence, rival)
    if unbeaten is None:
        return _helps(evidence, rival)
    if math.isnan(evidence.differences[unbeaten].low):
        return _untold(f"the comparison with {unbeaten} has no interval", rival)
    return _open(evidence, unbeaten)


def _helps(evidence: Evidence, rival: str) -> Verdict:
    sentence = f"Fusion helps: {_against(evidence, rival)}."
    level_with = [
        name for name in COMBINERS if name in evidence.differences and not evidence.differences[name].low > 0
    ]
    simpler = _best(evidence, level_with)
    if simpler is None:
        return Verdict(HELPS, sentence, "fused", "it beats every simpler model with an interval above zero")
    gap = _gap(evidence.differences[simpler])
    reason = f"combining the modalities helps, but the fused network does not clearly beat {simpler} ({gap})"
    sentence = f"{sentence[:-1]}; but it does not clearly beat {simpler} ({gap})."
    return Verdict(HELPS, sentence, simpler, reason)


def _does_not_help(evidence: Evidence, rival: str) -> Verdict:
    difference = evidence.differences[rival]
    bound = "zero" if difference.high < 0 else f"the margin of {evidence.margin:g}"
    sentence = f"Fusion does not help: {_against(evidence, rival)}, wholly below {bound}."
    better = _best(evidence, evidence.simple)
    return Verdict(DOES_NOT_HELP, sentence, better, "it is simpler and fusion adds nothing that matters")


def _open(evidence: Evidence, rival: str) -> Verdict:
    more = more_positives(evidence.differences[rival], evidence.margin, evidence.level)
    text = f"The data cannot tell whether fusion helps: {_against(evidence, rival)}"
    text += f"; roughly {more:,} more positives would be needed." if more else "."
    reason = "it is the simplest model that predicts; more data may show that fusion does better"
    return Verdict(CANNOT_TELL, text, rival, reason, (), more)


def _without_signal(evidence: Evidence) -> Verdict:
    rivals = [name for name in evidence.simple if _clearly_better(evidence, name)]
    better = _best(evidence, rivals)
    if better is not None:
        sentence = (
            f"Fusion does not help: the fused model shows no signal, AUROC {evidence.fused.text()}, where "
            f"{better} reaches {evidence.controls[better].text()}."
        )
        return Verdict(DOES_NOT_HELP, sentence, better, "the fused model failed where a simpler one predicts")
    seen = [name for name in evidence.simple if evidence.controls[name].above(0.5)]
    hint = _best(evidence, seen)
    tail = f" ({hint} has {evidence.controls[hint].text()}, not clearly more)" if hint else ""
    return _untold(
        f"the fused AUROC of {evidence.fused.text()}, n = {_n(evidence.fused)}, is not distinguishable from "
        f"chance, so no signal was found{tail}"
    )


def _untold(why: str, model: str | None = None) -> Verdict:
    reason = "no comparison was possible" if model else "nothing here was shown to predict the outcome"
    return Verdict(CANNOT_TELL, f"The data cannot tell whether fusion helps: {why}.", model, reason)


def more_positives(difference: Difference, margin: float, level: float) -> int | None:
    """How many more positives would settle the comparison, by the scaling of its variance with n.

    Either the observed gain is real and must be told from zero, or there is none and it must be
    told from ``margin``; the smaller of the two, at 80 % power and the same share of positives.
    """
    if difference.positives is None or not difference.standard_error > 0:
        return None
    reach = float(norm.ppf(0.5 + level / 2) + norm.ppf(_POWER)) * difference.standard_error
    distance = max(difference.value, margin - difference.value)
    factor = (reach / distance) ** 2
    more = math.ceil(difference.positives * (factor - 1))
    if more > _MOST_WORTH_NAMING:
        return None
    return rounded_up(max(1, more))


def _clearly_better(evidence: Evidence, name: str) -> bool:
    control, difference = evidence.controls[name], evidence.differences[name]
    if not control.above(0.5) or not difference.standard_error > 0:
        return False
    compared = len([other for other in evidence.differences if other.startswith(SINGLE_PREFIXES)])
    tests = 2 * max(1, compared + len(COMBINERS))
    return difference.value / difference.standard_error < norm.ppf((1 - _CLEAR_LEVEL) / tests)


def _warnings(evidence: Evidence, model: str | None) -> list[tuple[str, bool]]:
    """A sentence for each alarm that predicts, and whether it belongs into the verdict itself."""
    found = []
    for name, shout in _SHOUT.items():
        control, difference = evidence.controls.get(name), evidence.differences.get(name)
        if control is None or not control.above(0.5):
            continue
        if difference is not None and _not_beaten(evidence, difference):
            found.append((f"{shout}: {name} reaches AUROC {control.text()}, {_gap(difference)}", True))
        elif model is not None and model != "fused" and not _beats(evidence, model, name):
            text = f"{shout}: {name} reaches AUROC {control.text()}, which {model} does not clearly beat"
            found.append((text, True))
        else:
            found.append((f"{_HINT[name]}: {name} reaches AUROC {control.text()}", False))
    return found


def _not_beaten(evidence: Evidence, difference: Difference) -> bool:
    """Whether an alarm is as good as a fused model that predicts, or better than one that does not."""
    return not difference.low > 0 if evidence.fused.above(0.5) else difference.high < 0


def _beats(evidence: Evidence, model: str, alarm: str) -> bool:
    """Whether a simple model does better than an alarm, with an interval that excludes zero."""
    difference = evidence.over_alarms.get((model, alarm))
    return difference is not None and difference.low > 0


def _with_warnings(verdict: Verdict, warnings: Sequence[tuple[str, bool]]) -> Verdict:
    shouts = [text for text, loud in warnings if loud]
    texts = tuple(f"{text[0].upper()}{text[1:]}." for text, _ in warnings)
    if not shouts:
        return replace(verdict, warnings=texts)
    sentence = f"{verdict.sentence} WARNING: {'; '.join(shouts)}."
    reason = "no model of this run should be used before the warning is explained"
    return replace(verdict, sentence=sentence, warnings=texts, model=None, reason=reason)


def _best(evidence: Evidence, names: Sequence[str]) -> str | None:
    values = {name: evidence.controls[name].value for name in sorted(names) if name in evidence.controls}
    known = {name: value for name, value in values.items() if value is not None}
    return max(known, key=lambda name: known[name], default=None)


def _against(evidence: Evidence, rival: str) -> str:
    best = evidence.best_single
    who = f"the best single modality ({rival})"
    beaten = ""
    if rival != best and best is not None:
        who = rival
        beaten = f"; the best single modality, {best}, is beaten by {_gap(evidence.differences[best])}"
    return (
        f"AUROC {evidence.fused.text()} against {evidence.controls[rival].text()} for {who}, "
        f"{_gap(evidence.differences[rival])}, n = {_n(evidence.fused)}{beaten}"
    )


def _gap(difference: Difference) -> str:
    return f"a difference of {difference.value:+.3f} ({_end(difference.low)} to {_end(difference.high)})"


def _end(value: float) -> str:
    """Two digits, or three where two would hide on which side of zero the end lies."""
    return f"{value:+.2f}" if abs(value) >= 0.005 else f"{value:+.3f}"


def _n(estimate: Estimate) -> str:
    return f"{estimate.n}" + ("" if estimate.positives is None else f" ({estimate.positives} positive)")
