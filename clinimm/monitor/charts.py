"""Figures over time as inline SVG: coloured by the stylesheet, readable by a screen reader, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

from clinimm.report.words import number

_WIDTH, _HEIGHT = 560, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 12, 14, 34
_MOST_NAMED = 8
Triple = Mapping[str, float | None]


def over_time(
    title: str,
    periods: Sequence[tuple[str, Triple | None, Triple | None]],
    reference: float | None,
    scale: tuple[float, float],
) -> Markup:
    """A figure a period with its interval, the reference as a dashed line, an estimate beside as a ring.

    Args:
        title: what a screen reader says first.
        periods: name, figure from labels, figure from predictions alone (an estimate); None where absent.
        reference: its value.
        scale: ends of the axis; what lies beyond is drawn at the edge.
    """
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(periods), 1)
    parts = _axis(scale)
    if reference is not None:
        y = _y(reference, scale)
        parts.append(f'<line class="chance" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
    said = []
    named = max(1, -(-len(periods) // _MOST_NAMED))
    for place, (name, figure, estimate) in enumerate(periods):
        x = _LEFT + step * (place + 0.5)
        if place % named == 0:
            parts.append(
                f'<text class="small" x="{x:.1f}" y="{_HEIGHT - 12}" text-anchor="middle">'
                f"{escape(name)}</text>"
            )
        known = figure is not None and figure["value"] is not None
        if known and figure is not None:
            parts += _point(x - (5 if estimate else 0), figure, scale, "marker")
            said.append(f"{name} {number(figure['value'], 2)}")
        if estimate is not None and estimate["value"] is not None:
            parts += _point(x + (5 if known else 0), estimate, scale, "ring")
            said.append(f"{name} estimated {number(estimate['value'], 2)}")
    return _svg(f"{title}: {'; '.join(said) or 'nothing to show'}.", parts)


def path(title: str, values: Sequence[float], limit: float, alarm: int | None, logarithmic: bool) -> Markup:
    """A path patient by patient with its limit.

    Args:
        title: what a screen reader says.
        values: after each patient, or the highest of each few.
        limit: where it alarms.
        alarm: position of the alarm.
        logarithmic: for e-values, which grow by factors.
    """
    drawn = [_log(one) if logarithmic else one for one in values]
    bound = _log(limit) if logarithmic else limit
    scale = (min(0.0, *drawn), max(bound * 1.15, *drawn))
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(drawn) - 1, 1)
    points = " ".join(f"{_LEFT + step * place:.1f},{_y(one, scale):.1f}" for place, one in enumerate(drawn))
    y = _y(bound, scale)
    parts = [
        f'<line class="axis" x1="{_LEFT}" y1="{_HEIGHT - _BOTTOM}" x2="{_WIDTH - _RIGHT}" '
        f'y2="{_HEIGHT - _BOTTOM}"/>',
        f'<line class="limit" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>',
        f'<text class="small" x="{_LEFT - 4}" y="{y + 4:.1f}" text-anchor="end">{limit:.3g}</text>',
        f'<polyline class="path" points="{points}"/>',
    ]
    if alarm is not None:
        x = _LEFT + step * alarm
        parts.append(f'<circle class="alarm" cx="{x:.1f}" cy="{_y(drawn[alarm], scale):.1f}" r="6"/>')
    return _svg(title, parts)


def _log(value: float) -> float:
    from math import log10

    return log10(max(value, 0.01))


def _axis(scale: tuple[float, float]) -> list[str]:
    parts = []
    for share in (0.0, 0.5, 1.0):
        value = scale[0] + share * (scale[1] - scale[0])
        y = _y(value, scale)
        parts.append(f'<line class="axis" x1="{_LEFT}" y1="{y:.1f}" x2="{_WIDTH - _RIGHT}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="small" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    return parts


def _point(x: float, figure: Triple, scale: tuple[float, float], kind: str) -> list[str]:
    low, high, value = figure["low"], figure["high"], figure["value"]
    parts = []
    if low is not None and high is not None:
        parts.append(
            f'<line class="interval{" guess" if kind == "ring" else ""}" x1="{x:.1f}" '
            f'y1="{_y(low, scale):.1f}" '
            f'x2="{x:.1f}" y2="{_y(high, scale):.1f}"/>'
        )
    if value is not None:
        parts.append(f'<circle class="{kind}" cx="{x:.1f}" cy="{_y(value, scale):.1f}" r="5"/>')
    return parts


def _y(value: float, scale: tuple[float, float]) -> float:
    low, high = scale
    share = (min(max(value, low), high) - low) / ((high - low) or 1.0)
    return _HEIGHT - _BOTTOM - share * (_HEIGHT - _BOTTOM - _TOP)


def _svg(said: str, parts: Sequence[str]) -> Markup:
    head = f'<svg class="plot" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(said)}">'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704  # every text above is escaped


def periods_of(
    measured: str,
    performance: Sequence[Mapping[str, Any]],
    estimates: Sequence[Mapping[str, Any]],
    every: Sequence[str] = (),
) -> list[tuple[str, Triple | None, Triple | None]]:
    """The rows of one class as ``over_time`` takes them, without the reference; ``every`` is shown too."""
    labelled = {row["period"]: row.get(measured) for row in performance if row["period"] != "reference"}
    expected = {row["period"]: row.get(measured) for row in estimates}
    return [(name, labelled.get(name), expected.get(name)) for name in sorted({*labelled, *expected, *every})]
