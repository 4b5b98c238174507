"""EHR events as tokens: what is kept of each fact, and its three numbers for the network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from clinimm.core.event import AGE_YEARS
from clinimm.modality import EncodeContext, Encoded, Statistics
from clinimm.nn.rows import by_time, most_recent

if TYPE_CHECKING:
    from clinimm.config import ModalityConfig

COLUMNS = ["subject_id", "time_hours", "code", "numeric_value", "unit", "text_value", "category"]
#: Index of every fact whose kind too few training subjects have.
UNKNOWN = 0
#: A value this many scales from the centre says no more than that it is extreme.
LARGEST_Z = 5.0

_DEMOGRAPHIC = "DEMOGRAPHIC//"
_HOURS_A_YEAR = 365.25 * 24
_OLDEST_YEARS = 90.0
_LONGEST_CATEGORY = 64
_IQR_OF_NORMAL = 1.349


def encode(events: pd.DataFrame, context: EncodeContext) -> Encoded:
    """One token an event; nothing is computed here, so there is nothing to cache.

    The age is brought forward to the index time in whole years. The most recent
    ``max_tokens`` are kept, demographic facts always.
    """
    tokens = by_time(events[COLUMNS], "code", "numeric_value", "text_value", "unit")
    tokens["numeric_value"] = _age_at_index(tokens)
    demographic = tokens["code"].str.startswith(_DEMOGRAPHIC)
    kept = most_recent(tokens, context.config.max_tokens, always=demographic)
    counts = {"events": len(tokens), "beyond_max_tokens": len(tokens) - len(kept)}
    return Encoded(kept, np.zeros((len(kept), 0), dtype=np.float16), counts=counts)


def _age_at_index(tokens: pd.DataFrame) -> pd.Series:
    years = np.floor(tokens["time_hours"] / _HOURS_A_YEAR)
    age = (tokens["numeric_value"] + years).clip(upper=_OLDEST_YEARS)
    return tokens["numeric_value"].where(tokens["code"] != AGE_YEARS, age)


def kinds(tokens: pd.DataFrame) -> pd.Series:
    """What kind of fact each token is: the entry of the vocabulary that it belongs to.

    A number is its code and unit (``LOINC//8310-5|Cel``), a category its code and value
    (``DEMOGRAPHIC//sex//female``), anything else its code alone.
    """
    code = tokens["code"].astype(object)
    unit = tokens["unit"].astype(object).where(tokens["unit"].notna(), "")
    text = tokens["text_value"].astype(object).where(tokens["text_value"].notna(), "")
    text = text.astype(str).str.strip().str.lower()
    categorical = text.str.len().between(1, _LONGEST_CATEGORY)
    kind = code.where(~categorical, code + "//" + text)
    return kind.where(tokens["numeric_value"].isna(), code + "|" + unit).astype(object)


def fit(encoded: Encoded, config: ModalityConfig) -> Statistics:
    """The vocabulary, and each numeric kind's centre and scale, of training subjects.

    Options: ``min_subjects`` (default 3), below which a kind of fact is unknown;
    ``max_vocabulary`` (default 4096), the most frequent kinds that are kept.
    """
    options = config.encoder.options
    kind = kinds(encoded.tokens)
    subjects = encoded.tokens["subject_id"].astype(object).groupby(kind).nunique()
    common = subjects[subjects >= int(options.get("min_subjects", 3))]
    ranked = sorted(common.index, key=lambda name: (-int(common[name]), str(name)))
    names = ranked[: int(options.get("max_vocabulary", 4096))]
    values = encoded.tokens["numeric_value"].astype(float)
    known = values.notna() & kind.isin(names)
    spread = {str(name): _spread(group.to_numpy()) for name, group in values[known].groupby(kind[known])}
    return {
        "raw_dim": 3,
        "vocabulary": {str(name): index for index, name in enumerate(names, start=UNKNOWN + 1)},
        "centre": {name: centre for name, (centre, _) in spread.items()},
        "scale": {name: scale for name, (_, scale) in spread.items()},
    }


def _spread(values: np.ndarray) -> tuple[float, float]:
    """Median and interquartile range as a standard deviation, so that outliers do not stretch it."""
    centre = float(np.median(values))
    low, high = np.percentile(values, [25, 75])
    for scale in (float(high - low) / _IQR_OF_NORMAL, float(np.std(values)), 0.1 * abs(centre)):
        if scale > 1e-9:
            return centre, scale
    return centre, 1.0


def tensorise(encoded: Encoded, statistics: Statistics) -> np.ndarray:
    """(row, 3) float32: index in the vocabulary, value in scales from the centre, has a value.

    The value of an unknown kind of fact means nothing, so it is given as absent.
    """
    kind = kinds(encoded.tokens)
    index = kind.map(statistics["vocabulary"]).fillna(UNKNOWN).to_numpy(dtype=np.float32)
    centre = kind.map(statistics["centre"]).to_numpy(dtype=np.float64)
    scale = kind.map(statistics["scale"]).to_numpy(dtype=np.float64)
    z = (encoded.tokens["numeric_value"].to_numpy(dtype=np.float64) - centre) / scale
    has_value = np.isfinite(z)
    z = np.clip(np.where(has_value, z, 0.0), -LARGEST_Z, LARGEST_Z)
    return np.stack([index, z, has_value], axis=1).astype(np.float32)


def words(row: Mapping[str, Any]) -> str:
    """What a person calls the fact: ``LOINC//2160-0 = 1.9 mg/dL``."""
    number, text, unit = row.get("numeric_value"), row.get("text_value"), row.get("unit")
    if number is not None and not pd.isna(number):
        shown = f"{float(number):g}" + (f" {unit}" if isinstance(unit, str) and unit else "")
        return f"{row['code']} = {shown}"
    return f"{row['code']} = {text}" if isinstance(text, str) and text else str(row["code"])
