"""Who the subjects are at their index time: site, sex, age and what else results are reported by."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd

from clinimm.cohort.rules import names, says_yes
from clinimm.cohort.spec import OPEN_AGE_YEARS, AttributeRule, AuditAttributes
from clinimm.cohort.window import before_index, between, with_index
from clinimm.core.event import AGE_YEARS, ETHNICITY, RACE, SEX

#: Ingest writes 90 for 90 or older (HIPAA Safe Harbor, 45 CFR 164.514(b)(2)(i)(C)).
_OLDEST_YEARS = 90.0
_YEAR_SECONDS = 365.25 * 24 * 3600
_CODES = {"sex": SEX, "race": RACE, "ethnicity": ETHNICITY}


def attribute_table(events: pd.DataFrame, cohort: pd.DataFrame, spec: AuditAttributes) -> pd.DataFrame:
    """``cohort`` with ``site_id``, the standard attributes and the custom ones.

    An attribute that the cohort file turns off stays as an empty column; inclusion steps may still
    ask for it, from a column of the same name with a leading underscore that is never written.
    """
    table = cohort.copy()
    known = before_index(events[_is_attribute(events)], cohort)
    table["site_id"] = table["_site"] = sites(events, cohort)
    for name, code in _CODES.items():
        values = _latest_text(known[(known["code"] == code).to_numpy(dtype=bool)], cohort)
        table[f"_{name}"] = values
        table[name] = values if getattr(spec, name) else pd.Series(pd.NA, index=table.index, dtype="str")
    table["age_years"] = ages(known, cohort)
    table["age_band"] = age_bands(table["age_years"], spec.age_band)
    for name, rule in spec.custom.items():
        table[name] = _custom(events, cohort, rule)
    ordered = ["site_id", "sex", "age_years", "age_band", "race", "ethnicity", *spec.custom]
    hidden = [name for name in table.columns if name.startswith("_")]
    return table[[*cohort.columns, *ordered, *hidden]]


def ages(known: pd.DataFrame, cohort: pd.DataFrame) -> pd.Series:
    """Age at the index in years: the newest age on record plus the time since, at most 90.

    The record holds whole years, so the result is right to within a year; NaN where none is on record.
    """
    stated = known[
        (known["code"] == AGE_YEARS).to_numpy(dtype=bool) & known["numeric_value"].notna().to_numpy()
    ]
    newest = stated.sort_values("time", kind="stable").drop_duplicates("subject_id", keep="last")
    age = newest["numeric_value"] + (newest["index_time"] - newest["time"]).dt.total_seconds() / _YEAR_SECONDS
    by_subject = pd.Series(age.clip(upper=_OLDEST_YEARS).to_numpy(dtype=float), index=newest["subject_id"])
    return cohort["subject_id"].map(by_subject).astype("float64")


def age_bands(age_years: pd.Series, edges: Sequence[float]) -> pd.Series:
    """Bands such as ``40-64``; a band includes its lower edge, and an age outside all has none.

    >>> age_bands(pd.Series([17.9, 40.0]), [0, 18, 40, 65, 130]).tolist()
    ['0-17', '40-64']
    """
    bands = pd.cut(age_years, list(edges), right=False, labels=_band_names(edges))
    return bands.astype("str")


def sites(events: pd.DataFrame, cohort: pd.DataFrame) -> pd.Series:
    """The site of each subject's newest event, at or before the index, that states one."""
    stating = events["attributes"].str.contains('"site": ?"', regex=True, na=False).to_numpy(dtype=bool)
    known = before_index(events.loc[stating, ["subject_id", "time", "attributes"]], cohort)
    newest = known.sort_values("time", kind="stable").drop_duplicates("subject_id", keep="last")
    stated = [json.loads(text).get("site") for text in newest["attributes"]]
    by_subject = pd.Series(stated, index=newest["subject_id"], dtype="str")
    return cohort["subject_id"].map(by_subject).astype("str")


def _is_attribute(events: pd.DataFrame) -> np.ndarray:
    return events["code"].isin([AGE_YEARS, *_CODES.values()]).to_numpy(dtype=bool)


def _latest_text(known: pd.DataFrame, cohort: pd.DataFrame) -> pd.Series:
    stated = known[known["text_value"].notna().to_numpy(dtype=bool)]
    newest = stated.sort_values("time", kind="stable").drop_duplicates("subject_id", keep="last")
    return cohort["subject_id"].map(newest.set_index("subject_id")["text_value"]).astype("str")


def _custom(events: pd.DataFrame, cohort: pd.DataFrame, rule: AttributeRule) -> pd.Series:
    placed = with_index(events[names(events, rule) & says_yes(events, rule)], cohort)
    placed = placed[between(placed, rule.window)].sort_values("time", kind="stable")
    chosen = placed.drop_duplicates("subject_id", keep=rule.which)
    number = chosen["numeric_value"].map(lambda value: f"{value:g}", na_action="ignore").astype("str")
    text = chosen["text_value"].astype("str").fillna(number).fillna("yes")
    by_subject = pd.Series(text.to_numpy(), index=chosen["subject_id"], dtype="str")
    return cohort["subject_id"].map(by_subject).astype("str")


def _band_names(edges: Sequence[float]) -> list[str]:
    bands = pairwise(edges)
    return [f"{low:g}+" if high >= OPEN_AGE_YEARS else f"{low:g}-{_last_year(high):g}" for low, high in bands]


def _last_year(edge: float) -> float:
    return edge - 1 if float(edge).is_integer() else edge
