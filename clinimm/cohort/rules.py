"""Rules on tables of events: which rows does a rule mean, and what do their values say?

Codes repeat, so patterns are matched once for each distinct code and not once a row.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from clinimm.cohort.event_rule import EventRule, ValueRule

Mask = np.ndarray  # (event,) of bool


def matches_pattern(values: pd.Series, patterns: Sequence[str], ignore_case: bool = False) -> Mask:
    """Where a text column matches one of the patterns; ``*`` matches anything, absent nothing.

    >>> matches_pattern(pd.Series(["LOINC//1-8", "ICD10CM//I10"]), ["LOINC//*"]).tolist()
    [True, False]
    """
    flags = re.IGNORECASE if ignore_case else re.NOFLAG
    expressions = [re.compile(_expression(pattern), flags | re.DOTALL) for pattern in patterns]
    hits = [text for text in values.dropna().unique() if any(one.fullmatch(text) for one in expressions)]
    return values.isin(hits).to_numpy(dtype=bool)


def _expression(pattern: str) -> str:
    return ".*".join(re.escape(part) for part in pattern.split("*"))


def names(events: pd.DataFrame, rule: EventRule) -> Mask:
    """Which events the rule means, whatever their value."""
    mask = np.ones(len(events), dtype=bool)
    if rule.modality is not None:
        mask &= (events["modality"] == rule.modality).to_numpy(dtype=bool)
    if rule.code:
        mask &= matches_pattern(events["code"], rule.code)
    if rule.category:
        mask &= matches_pattern(events["category"], rule.category, ignore_case=True)
    return mask


def says_something(events: pd.DataFrame, rule: EventRule) -> Mask:
    """Which events have the kind of value that the rule asks about.

    A number in another unit than the rule's, or a number that ingest nulled as absurd, says
    neither yes nor no.
    """
    value = rule.value
    if value is None:
        return np.ones(len(events), dtype=bool)
    if value.text:
        return events["text_value"].notna().to_numpy(dtype=bool)
    known = events["numeric_value"].notna().to_numpy(dtype=bool)
    if value.unit is not None:
        known = known & (events["unit"] == value.unit).to_numpy(dtype=bool)
    return known


def says_yes(events: pd.DataFrame, rule: EventRule) -> Mask:
    """Which events meet the rule's value; all of those that say something where it asks for none."""
    known = says_something(events, rule)
    return known if rule.value is None else known & _value_holds(events, rule.value)


def _value_holds(events: pd.DataFrame, value: ValueRule) -> Mask:
    if value.text:
        return matches_pattern(events["text_value"], value.text, ignore_case=True)
    numbers = events["numeric_value"].to_numpy(dtype=float, na_value=np.nan)
    if value.equals is not None:
        return np.asarray(numbers == value.equals)
    low = -np.inf if value.min is None else value.min
    high = np.inf if value.max is None else value.max
    return np.asarray((numbers >= low) & (numbers <= high))
