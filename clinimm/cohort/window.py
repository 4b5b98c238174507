"""The one file that cuts (law 1: nothing later than the index time reaches a model).

Every path from events to tokens goes through ``visible``. Whoever wants to know what a model may
have seen reads this file and nothing else. The law is tested with Hypothesis: adding, changing
or removing any event later than the index time changes no byte of what ``visible`` returns.
"""

from __future__ import annotations

from datetime import timedelta

import numpy as np
import pandas as pd

from clinimm.cohort.event_rule import Window
from clinimm.cohort.rules import Mask, matches_pattern
from clinimm.cohort.spec import OUTCOME, CohortSpec, InputSpec

DEMOGRAPHIC = "demographic"
_ORDER = ["subject_id", "time", "code"]


def visible(events: pd.DataFrame, cohort: pd.DataFrame, spec: CohortSpec, modality: str) -> pd.DataFrame:
    """What a model may see of one modality: law 1 as a function.

    An event is visible when all of this holds:

    - its subject is in the cohort, and ``time <= index_time`` (a fact of the very moment counts);
    - it is at most ``look_back`` old; demographic facts are timeless and never too old;
    - the cohort file names its modality under ``inputs`` and lets its code and category pass;
    - it is no outcome: category ``outcome`` and codes ``outcome//...`` are barred whatever the file
      says;
    - its time can be trusted (``believable``);
    - it stood: a version that was replaced or withdrawn later counts until then, and not after.

    Args:
        events: a table with ``core.event.EVENT_COLUMNS``, in the order in which ingest wrote it.
        cohort: a table with ``subject_id`` (one row each) and ``index_time``.
        spec: the cohort file.
        modality: name of the modality.

    Returns:
        The visible events with the further columns ``index_time`` and ``time_hours`` (hours before
        the index time, 0 or more), in order of subject, time and code; ties stay as ingest
        ordered them. A modality that ``inputs`` does not name has no rows.
    """
    rule = spec.inputs.get(modality)
    own = events[(events["modality"] == modality).to_numpy(dtype=bool)] if rule else events.iloc[:0]
    known = standing(before_index(believable(own), cohort))
    if rule is not None:
        known = known[_allowed(known, rule) & _recent(known, rule.look_back)]
    known = known.sort_values(_ORDER, kind="stable", ignore_index=True)
    known["time_hours"] = (known["index_time"] - known["time"]).dt.total_seconds() / 3600
    return known


def trusted(events: pd.DataFrame) -> pd.DataFrame:
    """The events that can be believed, as the record has them in the end.

    Index, criteria, attributes and label rest on these: a diagnosis that was refuted is no outcome.
    """
    return _at_the_end(believable(events))


def believable(events: pd.DataFrame) -> pd.DataFrame:
    """The events whose time is possible, with numbers that cannot be true set to null.

    Ingest flags what it doubts. ``future`` is a time later than the moment of ingest, and
    ``undated_revision`` a fact that was changed at a time that nothing states: nobody knows when they
    became available, and they are left out. ``absurd_value`` is a number outside what is physically
    possible, so that something was measured is kept and the number is not.
    """
    flags = events["flags"]
    if flags.isna().all():
        return events
    kept = events[~(_flagged(flags, "future") | _flagged(flags, "undated_revision"))]
    absurd = _flagged(kept["flags"], "absurd_value")
    return kept.assign(numeric_value=kept["numeric_value"].mask(absurd)) if absurd.any() else kept


def before_index(events: pd.DataFrame, cohort: pd.DataFrame) -> pd.DataFrame:
    """The events of cohort subjects that were available at the index time, with ``index_time``."""
    index_time = _index_time(events, cohort)
    # Compared with the missing index time of a subject outside the cohort, nothing is earlier.
    known = (events["time"] <= index_time).to_numpy(dtype=bool)
    return events[known].assign(index_time=index_time[known])


def standing(known: pd.DataFrame) -> pd.DataFrame:
    """Of events with ``index_time``, those that nothing had replaced or withdrawn by then.

    ``until`` is emptied: that a fact will be changed one day is not known at the index time.
    """
    if "until" not in known or known["until"].isna().all():
        return known
    ended = (known["until"] <= known["index_time"]).to_numpy(dtype=bool)
    return known[~ended].assign(until=known["until"].iloc[:0].reindex(known.index[~ended]))


def _at_the_end(events: pd.DataFrame) -> pd.DataFrame:
    if "until" not in events or events["until"].isna().all():
        return events
    return events[events["until"].isna()]


def between(events: pd.DataFrame, window: Window) -> Mask:
    """Which placed events lie in a window relative to the index; both ends count."""
    elapsed = events["time"] - events["index_time"]
    start, end = window
    inside = np.ones(len(events), dtype=bool)
    if start is not None:
        inside &= (elapsed >= start).to_numpy(dtype=bool)
    if end is not None:
        inside &= (elapsed <= end).to_numpy(dtype=bool)
    return inside


def after_index(events: pd.DataFrame, window: Window) -> Mask:
    """Which placed events may say how it ended: later than the index and than the window's start.

    The start is exclusive: what was recorded at the index itself is input, and never the answer.
    """
    elapsed = events["time"] - events["index_time"]
    start = max(window[0] or timedelta(), timedelta())
    return (elapsed > start).to_numpy(dtype=bool) & between(events, window)


def with_index(events: pd.DataFrame, cohort: pd.DataFrame) -> pd.DataFrame:
    """The events of the cohort's subjects, with the column ``index_time``."""
    index_time = _index_time(events, cohort)
    members = index_time.notna().to_numpy(dtype=bool)
    return events[members].assign(index_time=index_time[members])


def is_outcome(events: pd.DataFrame) -> Mask:
    """Which events say how things ended."""
    by_category = matches_pattern(events["category"], [OUTCOME], ignore_case=True)
    return by_category | matches_pattern(events["code"], [f"{OUTCOME}//*"], ignore_case=True)


def _allowed(events: pd.DataFrame, rule: InputSpec) -> Mask:
    allowed = ~is_outcome(events)
    if rule.include:
        allowed &= matches_pattern(events["code"], rule.include)
    if rule.exclude:
        allowed &= ~matches_pattern(events["code"], rule.exclude)
    if rule.categories.include:
        allowed &= matches_pattern(events["category"], rule.categories.include, ignore_case=True)
    if rule.categories.exclude:
        allowed &= ~matches_pattern(events["category"], rule.categories.exclude, ignore_case=True)
    return allowed


def _recent(events: pd.DataFrame, look_back: timedelta | None) -> Mask:
    if look_back is None:
        return np.ones(len(events), dtype=bool)
    timeless = (events["category"] == DEMOGRAPHIC).to_numpy(dtype=bool)
    return timeless | between(events, (-look_back, timedelta()))


def _flagged(flags: pd.Series, name: str) -> Mask:
    hits = [text for text in flags.dropna().unique() if name in text.split(",")]
    return flags.isin(hits).to_numpy(dtype=bool)


def _index_time(events: pd.DataFrame, cohort: pd.DataFrame) -> pd.Series:
    """The index time of each event's subject, missing where the subject is not in the cohort."""
    rows = pd.Index(cohort["subject_id"]).get_indexer(pd.Index(events["subject_id"]))
    return pd.Series(cohort["index_time"].array.take(rows, allow_fill=True), index=events.index)
