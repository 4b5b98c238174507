"""Numbers of the record over time, drawn small: date, value, unit and reference range."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pandas as pd
from markupsafe import Markup, escape

from clinimm.report.codes import spoken
from clinimm.report.values import attributes_of, clipped, flag_of, is_number, range_text
from clinimm.report.words import date, plural

_MOST_LABS, _MOST_LABELS, _MOST_POINTS = 9, 5, 150
_WIDTH, _HEIGHT, _LEFT, _TOP, _SPAN, _DEPTH = 300, 118, 12, 26, 276, 58


@dataclass(frozen=True)
class Measured:
    """One value.

    Attributes:
        time: when it became known.
        value: in the series' unit.
        flag: ``high``, ``low`` or empty.
    """

    time: datetime
    value: float
    flag: str


@dataclass(frozen=True)
class Lab:
    """A series of values of one code in one unit, oldest first.

    Attributes:
        name, unit, reference: words; empty where the record has none.
        low, high: ends of the reference range of the latest value.
        values: what was measured, the last of them where there are very many.
        count: how many values the record has.
        weight: how much its values moved the answer, in logits without sign.
    """

    name: str
    unit: str
    reference: str
    low: float | None
    high: float | None
    values: tuple[Measured, ...]
    weight: float
    count: int

    @property
    def latest(self) -> Measured:
        """The last value before the index time."""
        return self.values[-1]


def labs_of(events: pd.DataFrame, attributions: pd.DataFrame) -> list[Lab]:
    """The series that moved the answer most, then those with most values.

    Args:
        events: what a model may see of one subject.
        attributions: that subject's rows of ``attributions.parquet``; may be empty.
    """
    weights: dict[str, float] = {}
    if len(attributions):
        for text, score in zip(attributions["text"], attributions["score"], strict=True):
            code = str(text).split(" = ")[0]
            weights[code] = weights.get(code, 0.0) + abs(float(score))
    numbers = events[events["numeric_value"].notna() & ~events["code"].str.startswith("DEMOGRAPHIC//")]
    series = [
        _lab(str(code), rows, weights.get(str(code), 0.0))
        for (code, _), rows in numbers.assign(unit=numbers["unit"].fillna("")).groupby(["code", "unit"])
    ]
    return sorted(series, key=lambda lab: (-lab.weight, -lab.count, lab.name))[:_MOST_LABS]


def _lab(code: str, rows: pd.DataFrame, weight: float) -> Lab:
    ordered = rows.sort_values("time", kind="stable").tail(_MOST_POINTS).to_dict("records")
    values, attributes = [], {}
    for row in ordered:
        attributes = attributes_of({str(key): value for key, value in row.items()})
        flag = flag_of(row["numeric_value"], *_ends(attributes))
        values.append(Measured(row["time"], float(row["numeric_value"]), flag))
    low, high = _ends(attributes)
    return Lab(
        spoken(code, attributes), clipped(str(ordered[-1]["unit"])), range_text(low, high), low, high,
        tuple(values), weight, len(rows),
    )  # fmt: skip


def _ends(attributes: Mapping[str, Any]) -> tuple[float | None, float | None]:
    ends = (attributes.get("reference_low"), attributes.get("reference_high"))
    low, high = (float(end) if is_number(end) else None for end in ends)
    return low, high


def lab_chart(lab: Lab) -> Markup:
    """One series: a line through its values, the reference range as a band, days below."""
    times = [one.time.timestamp() for one in lab.values]
    known = [one.value for one in lab.values] + [end for end in (lab.low, lab.high) if end is not None]
    low, high = min(known), max(known)
    room = 0.12 * (high - low) or 1.0
    low, high = low - room, high + room

    def across(time: float) -> float:
        return (
            _LEFT
            + 8
            + (_SPAN - 16) * ((time - times[0]) / (times[-1] - times[0]) if len(set(times)) > 1 else 1)
        )

    def down(value: float) -> float:
        return _TOP + _DEPTH * (high - value) / (high - low)

    parts = [*_band(lab, down, low, high)]
    points = [(across(time), down(one.value)) for time, one in zip(times, lab.values, strict=True)]
    parts.append(f'<polyline class="course" points="{" ".join(f"{x:.1f},{y:.1f}" for x, y in points)}"/>')
    named = _named(len(points))
    for place, ((x, y), one) in enumerate(zip(points, lab.values, strict=True)):
        parts.append(
            f'<circle class="{"outside" if one.flag else "inside"}" cx="{x:.1f}" cy="{y:.1f}" r="3.5"/>'
        )
        if place in named:
            anchor = "start" if x < _LEFT + 30 else "end" if x > _LEFT + _SPAN - 30 else "middle"
            parts.append(
                f'<text class="value" x="{x:.1f}" y="{max(y - 8, 11):.1f}" text-anchor="{anchor}">'
                f"{one.value:.4g}{_sign(one.flag)}</text>"
            )
    parts += _days(lab)
    label = escape(f"{lab.name}: {_said(lab)}")
    head = f'<svg class="lab" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704  # every text above is escaped or a number


def _band(lab: Lab, down: Any, low: float, high: float) -> list[str]:
    if lab.low is None and lab.high is None:
        return []
    top = down(high if lab.high is None else lab.high)
    bottom = down(low if lab.low is None else lab.low)
    return [
        f'<rect class="band" x="{_LEFT}" y="{top:.1f}" width="{_SPAN}" height="{max(bottom - top, 1):.1f}"/>'
    ]


def _named(count: int) -> set[int]:
    """Which values have their number beside them: all of a few, else the first and the last."""
    return set(range(count)) if count <= _MOST_LABELS else {0, count - 1}


def _days(lab: Lab) -> list[str]:
    first, last = lab.values[0].time, lab.latest.time
    base = _HEIGHT - 6
    right = (
        f'<text class="small" x="{_LEFT + _SPAN}" y="{base}" text-anchor="end">{last:%Y-%m-%d %H:%M}</text>'
    )
    if first == last:
        return [right]
    return [f'<text class="small" x="{_LEFT}" y="{base}">{first:%Y-%m-%d}</text>', right]


def _sign(flag: str) -> str:
    return {"high": " ↑", "low": " ↓"}.get(flag, "")


def _said(lab: Lab) -> str:
    shown = lab.values[-_MOST_LABELS:]
    said = "; ".join(
        f"{date(one.time)} {one.value:.4g} {lab.unit}".rstrip() + (f" ({one.flag})" if one.flag else "")
        for one in shown
    )
    more = f"; {plural(lab.count - len(shown), 'earlier value')}" if lab.count > len(shown) else ""
    return said + more + (f"; reference {lab.reference}." if lab.reference else ".")
