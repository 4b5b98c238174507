"""Numbers and times as a person reads them."""

from __future__ import annotations

import math
from datetime import datetime

DASH = "–"
_PERCENT_SIGN = "\u00a0%"


def percent(value: float | None, digits: int = 0) -> str:
    r"""A share as percent; a small share is never written as none, nor a large one as all.

    The space before the sign does not break.

    >>> percent(0.314), percent(0.004), percent(0.998), percent(None)
    ('31\xa0%', 'under 1\xa0%', 'over 99\xa0%', '–')
    """
    if value is None or math.isnan(value):
        return DASH
    if digits == 0 and 0 < value < 0.005:
        return "under 1\u00a0%"
    if digits == 0 and 0.995 < value < 1:
        return "over 99\u00a0%"
    return f"{100 * value:.{digits}f}\u00a0%"


def share(value: float) -> str:
    r"""A limit as percent, with as many digits as it was given.

    >>> share(0.05), share(0.125)
    ('5\xa0%', '12.5\xa0%')
    """
    return f"{100 * value:.6g}{_PERCENT_SIGN}"


def number(value: float | None, digits: int = 3) -> str:
    """A figure with ``digits`` decimals.

    >>> number(0.8123), number(float("nan"))
    ('0.812', '–')
    """
    return DASH if value is None or math.isnan(value) else f"{value:.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """A figure that always shows its sign, with a true minus.

    >>> signed(0.5), signed(-0.25), signed(0.001)
    ('+0.50', '−0.25', '0.00')
    """
    if value is None or math.isnan(value):
        return DASH
    text = f"{abs(value):.{digits}f}"
    if not float(text):
        return text
    return ("−" if value < 0 else "+") + text


def natural_frequency(probability: float) -> str:
    """A probability as people count: out of ten, or out of a hundred near the ends.

    >>> natural_frequency(0.31), natural_frequency(0.04), natural_frequency(0.001)
    ('about 3 in 10', 'about 4 in 100', 'fewer than 1 in 100')
    """
    if probability <= 0.005:
        return "fewer than 1 in 100"
    if probability >= 0.995:
        return "more than 99 in 100"
    if 0.095 <= probability <= 0.905:
        return f"about {round(10 * probability)} in 10"
    return f"about {round(100 * probability)} in 100"


def of_hundred(probability: float) -> str:
    """A probability as a count of a hundred, the same denominator for every patient.

    One denominator, so that two pages can be compared (Gigerenzer and Hoffrage 1995).

    >>> of_hundred(0.231), of_hundred(0.001), of_hundred(0.999)
    ('about 23 of 100', 'fewer than 1 of 100', 'more than 99 of 100')
    """
    if probability <= 0.005:
        return "fewer than 1 of 100"
    if probability >= 0.995:
        return "more than 99 of 100"
    return f"about {round(100 * probability)} of 100"


def percent_range(low: float, high: float) -> str:
    """An interval of shares.

    >>> percent_range(0.11, 0.35), percent_range(0.001, 0.08)
    ('11 to 35\xa0%', 'under 1 to 8\xa0%')
    """
    return f"{percent(low).removesuffix(_PERCENT_SIGN)} to {percent(high)}"


def before(hours: float) -> str:
    """How long before the index time something became known.

    >>> before(0.0), before(0.5), before(30.0), before(24 * 90)
    ('at the index time', '30 min before', '30 h before', '90 days before')
    """
    if hours < 1 / 60:
        return "at the index time"
    if hours < 1:
        return f"{round(60 * hours)} min before"
    if hours < 72:
        return f"{hours:.0f} h before"
    if hours < 24 * 730:
        return f"{hours / 24:.0f} days before"
    return f"{hours / 24 / 365.25:.0f} years before"


def date(value: datetime) -> str:
    """Day and minute, UTC."""
    return value.strftime("%Y-%m-%d %H:%M UTC")


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun.

    >>> plural(1, "film"), plural(3, "film"), plural(2, "study", "studies")
    ('1 film', '3 films', '2 studies')
    """
    return f"{count:,} {one if count == 1 else (many or one + 's')}"
