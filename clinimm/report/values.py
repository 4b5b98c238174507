"""What one row of the record says, in words: value, unit, reference range, and whether it lies outside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeGuard

import pandas as pd

from clinimm.core.event import AGE_YEARS

#: A table shows so many characters of one value.
_LONGEST = 400


def clipped(text: str, longest: int = _LONGEST) -> str:
    """The beginning of a text that is too long for a table, and how much more there is.

    >>> clipped("positive"), clipped("positive", longest=3)
    ('positive', 'pos… (5 more characters)')
    """
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest:,} more characters)"


def value_text(event: Mapping[str, Any]) -> str:
    """What a row of ``events.parquet`` says, with its unit, clipped; ages from 90 on are not told apart."""
    numeric = event.get("numeric_value")
    if event.get("code") == AGE_YEARS and is_number(numeric) and float(numeric) >= 90:
        return "90 or older"
    return clipped(exact_text(event))


def exact_text(event: Mapping[str, Any]) -> str:
    """The value as the places of explanations state it; never for a page, because of ages."""
    numeric, text, unit = event.get("numeric_value"), event.get("text_value"), event.get("unit")
    if numeric is not None and not pd.isna(numeric):
        return f"{float(numeric):g}" + (f" {unit}" if isinstance(unit, str) and unit else "")
    return text if isinstance(text, str) else ""


def range_text(low: Any, high: Any) -> str:
    """A reference range in words; empty where the record states none."""
    ends = [f"{float(end):.4g}" if is_number(end) else "" for end in (low, high)]
    if not any(ends):
        return ""
    if not all(ends):
        return f"at least {ends[0]}" if ends[0] else f"at most {ends[1]}"
    return f"{ends[0]} to {ends[1]}"


def flag_of(value: Any, low: Any, high: Any) -> str:
    """``high`` or ``low`` against the record's own range, else empty."""
    if not is_number(value):
        return ""
    if is_number(high) and float(value) > float(high):
        return "high"
    return "low" if is_number(low) and float(value) < float(low) else ""


def is_number(value: Any) -> TypeGuard[float]:
    """Whether it is a number that is known."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not pd.isna(value)


def attributes_of(event: Mapping[str, Any] | None) -> dict[str, Any]:
    """The further attributes of a row of ``events.parquet``; empty where it has none."""
    text = None if event is None else event.get("attributes")
    found = json.loads(text) if isinstance(text, str) and text else {}
    return found if isinstance(found, dict) else {}
