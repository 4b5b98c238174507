"""A policy in plain words: one sentence a rule, what passes, what fails, and what happens then."""

from __future__ import annotations

from clinimm.audit.policy import Policy, Rule
from clinimm.audit.table_settings import TableSettings

#: What a measure is, for a reader who does not know its short name.
_WORDS = {
    "auroc": "the ranking (AUROC: how often a patient with the outcome is ranked above one without)",
    "auprc": "the average precision",
    "brier": "the Brier score (squared distance of probability and outcome)",
    "ece": "the calibration error",
    "calibration_intercept": "the calibration intercept",
    "calibration_slope": "the calibration slope",
    "observed_less_predicted": "the observed risk less the predicted risk",
    "fnr": "the share of patients with the outcome who are missed",
    "fpr": "the share of patients without the outcome who are flagged",
    "sensitivity": "the share of patients with the outcome who are flagged",
    "specificity": "the share of patients without the outcome who are not flagged",
    "ppv": "the share of flagged patients who have the outcome",
    "npv": "the share of patients not flagged who do not have the outcome",
    "selection_rate": "the share of patients who are flagged",
    "net_benefit": "the net benefit at the threshold",
    "net_benefit_less_treat_all": "the net benefit less that of flagging everybody",
}
#: Measures of which more is worse; of the rest less is worse, or both directions are.
_MORE_IS_WORSE = {"fnr", "fpr", "brier", "ece"}
_BOTH = {"observed_less_predicted", "selection_rate", "calibration_intercept", "calibration_slope"}
_AGAINST = {"rest": "everybody outside the group", "overall": "everybody"}
_FATE = {"shown": "is shown as it is", "struck_out": "is shown struck out", "hidden": "is not shown"}


def explain_policy(policy: Policy) -> list[str]:
    """The policy for people, one line each; blank lines between its parts."""
    return [*_general(policy), "", *_rules(policy), *_table(policy.table), *_maps(policy)]


def rule_sentence(rule: Rule, level: float, inconclusive: str) -> str:
    """What one rule asks, what passes, what fails, and what happens where the data cannot tell.

    Args:
        rule: the rule.
        level: confidence level of the intervals.
        inconclusive: what the policy does with what is undecided, unless the rule says otherwise.
    """
    blocks = (rule.inconclusive or inconclusive) == "block"
    undecided = (
        "it also blocks where the data cannot tell"
        if blocks
        else "where the data cannot tell it warns, says how many more cases settle it, and does not block"
    )
    reason = f" Why: {rule.why.rstrip('.')}." if rule.why else ""
    return f"{rule_test(rule, level)}, and {undecided}.{reason}"


def rule_test(rule: Rule, level: float) -> str:
    """What one rule asks, what passes and what fails."""
    passes, fails = _sides(rule, f"{100 * level:g} % interval")
    return f"{rule.id}: {_asks(rule)}; it passes if {passes}, fails and blocks if {fails}"


def _general(policy: Policy) -> list[str]:
    statistics = policy.statistics
    then = "the audit exits with 2 and blocks" if statistics.inconclusive == "block" else "it warns"
    return [
        f"{len(policy.rules)} rules decide. Each has three answers: pass, where the whole "
        f"{100 * statistics.level:g} % interval keeps the rule; fail, where the whole interval, widened for "
        "the number of groups compared, breaks it; inconclusive, where the data cannot tell.",
        f"Pages for clinicians and the model card show no figure of a group of fewer than "
        f"{statistics.minimum_cell} subjects. Patients whose group is not on record are their own group.",
        "A rule that fails: the audit exits with 1, and the alias does not move. Unless a rule says "
        f"otherwise, where the data cannot tell, {then}.",
        "Attributes that are shown: "
        + (
            "every one that the data have."
            if policy.attributes is None
            else f"{_list(policy.attributes) or 'none'}, and those that a rule names."
        ),
    ]


def _rules(policy: Policy) -> list[str]:
    statistics = policy.statistics
    return [rule_sentence(rule, statistics.level, statistics.inconclusive) for rule in policy.rules]


def _asks(rule: Rule) -> str:
    what = _WORDS[rule.metric]
    groups = f"in every group by {_list([name.replace('*', ' and ') for name in rule.attribute])}"
    if rule.stat == "value":
        end = f"above {rule.above:g}" if rule.above is not None else f"below {rule.below:g}"
        return f"{what} must lie {end}" + (f" {groups}" if rule.attribute else " for everybody together")
    against = _AGAINST.get(rule.reference, f"the group {rule.reference}")
    margin = rule.margin or 0.0
    if rule.stat == "ratio":
        return f"{groups}, {what} must not be worse than that of {against} by more than the factor {margin:g}"
    verb = "differ from" if rule.metric in _BOTH else "be worse than"
    return f"{groups}, {what} must not {verb} that of {against} by more than {margin:g}"


def _sides(rule: Rule, interval: str) -> tuple[str, str]:
    """What passes and what fails, in the figures of the rule."""
    if rule.stat == "value":
        over, under = ("above", "below") if rule.above is not None else ("below", "above")
        bound = rule.above if rule.above is not None else rule.below
        return f"the whole {interval} lies {over} {bound:g}", f"all of it lies {under} {bound:g}"
    if rule.stat == "ratio":
        return f"the whole {interval} of the ratio stays within that factor", "all of it lies beyond"
    margin = rule.margin or 0.0
    if rule.metric in _BOTH:
        return (
            f"in each group the whole {interval} of the difference lies between -{margin:g} and +{margin:g}",
            f"in any group all of it lies beyond {margin:g} on one side",
        )
    sign, other = ("+", "below") if rule.metric in _MORE_IS_WORSE else ("-", "above")
    beyond = "above" if sign == "+" else "below"
    return (
        f"in each group the whole {interval} of the difference lies {other} {sign}{margin:g}",
        f"in any group all of it lies {beyond} {sign}{margin:g}",
    )


def _table(table: TableSettings) -> list[str]:
    if table == TableSettings():
        return []
    found = ["", f"Groups by up to {table.intersections} attributes at once are measured."]
    if table.threshold is not None:
        found.append(
            f"A patient is flagged from a probability of {table.threshold:g}; a miss then weighs as "
            f"{(1 - table.threshold) / table.threshold:g} false alarms."
        )
    for name, settings in table.attributes.items():
        if settings.source == "inferred":
            found.append(f"{name} was guessed, not asked: it is shown and never decides.")
    return found


def _maps(policy: Policy) -> list[str]:
    maps = policy.explanations
    if not maps.rules:
        return []
    found = ["", f"Maps: one of which nothing was measured {_FATE[maps.unmeasured]}."]
    for rule in maps.rules:
        also = ", or was not measured," if rule.required else ""
        reason = f" Why: {rule.why.rstrip('.')}." if rule.why else ""
        found.append(
            f"{rule.check}: a map that does not keep the limit {rule.limit:g} of this check{also} "
            f"{_FATE[rule.fails]}.{reason}"
        )
    return found


def _list(names: list[str] | tuple[str, ...]) -> str:
    *start, last = list(names) or [""]
    return f"{', '.join(start)} and {last}" if start else last
