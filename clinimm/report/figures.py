"""Small figures as inline SVG: coloured by the stylesheet, readable by a screen reader, no script.

Orange raises the probability and blue lowers it, on every page; each also has its sign in
text, so that nothing depends on telling the colours apart.
"""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup, escape

from clinimm.report.words import percent, signed

_ROW = 30
_LABEL_WIDTH = 170
_PLOT_WIDTH = 360
_VALUE_WIDTH = 60


def contribution_bars(rows: Sequence[tuple[str, float]], title: str) -> Markup:
    """Signed bars around zero, one a row, with the figure beside each.

    Args:
        rows: label and contribution in logits.
        title: what a screen reader says first.
    """
    height = _ROW * len(rows) + 26
    width = _LABEL_WIDTH + _PLOT_WIDTH + _VALUE_WIDTH
    largest = max((abs(value) for _, value in rows), default=0.0) or 1.0
    zero = _LABEL_WIDTH + _PLOT_WIDTH / 2
    parts = [
        f'<line class="axis" x1="{zero:g}" y1="0" x2="{zero:g}" y2="{height - 24}"/>',
        f'<text class="small" x="{zero - 8:g}" y="{height - 6}" text-anchor="end">← lowers</text>',
        f'<text class="small" x="{zero + 8:g}" y="{height - 6}">raises →</text>',
    ]
    for place, (label, value) in enumerate(rows):
        length = abs(value) / largest * (_PLOT_WIDTH / 2 - 4)
        left = zero if value >= 0 else zero - length
        middle = place * _ROW + _ROW / 2
        bar = f'x="{left:.1f}" y="{middle - 9:g}" width="{length:.1f}" height="18" rx="2"'
        baseline = f'y="{middle + 5:g}" text-anchor="end"'
        parts += [
            f'<text x="{_LABEL_WIDTH - 12}" {baseline}>{escape(label)}</text>',
            f'<rect class="{tone(value)}" {bar}/>',
            f'<text class="figure" x="{width - 4}" {baseline}>{signed(value)}</text>',
        ]
    said = "; ".join(f"{label} {signed(value)}" for label, value in rows)
    return _svg(width, height, f"{title}: {said}.", parts)


def probability_scale(probability: float, threshold: float | None) -> Markup:
    """0 to 100 % with the patient's probability and the operating point."""
    width, height, left, span = 420, 74, 22, 376
    at = left + span * probability
    parts = [f'<rect class="track" x="{left}" y="28" width="{span}" height="12" rx="6"/>']
    parts.append(
        f'<rect class="filled" x="{left}" y="28" width="{span * probability:.1f}" height="12" rx="6"/>'
    )
    for tick in (0, 25, 50, 75, 100):
        x = left + span * tick / 100
        parts.append(f'<text class="small" x="{x:g}" y="58" text-anchor="middle">{tick} %</text>')
    if threshold is not None:
        x = left + span * threshold
        anchor = "start" if threshold < 0.2 else "end" if threshold > 0.8 else "middle"
        parts.append(f'<line class="threshold" x1="{x:.1f}" y1="20" x2="{x:.1f}" y2="46"/>')
        parts.append(
            f'<text class="small" x="{x:.1f}" y="14" text-anchor="{anchor}">'
            f"operating point {percent(threshold)}</text>"
        )
    parts.append(f'<circle class="marker" cx="{at:.1f}" cy="34" r="9"/>')
    said = f"Probability {percent(probability)}"
    said += f", operating point {percent(threshold)}." if threshold is not None else "."
    return _svg(width, height, said, parts)


def interval_bar(value: float | None, low: float | None, high: float | None, floor: float = 0.3) -> Markup:
    """An estimate and its interval on a short scale from ``floor`` to 1, with chance (0.5) marked."""
    width, height = 160, 18
    chance = f"{_at(0.5, floor, width):.1f}"
    parts = [
        f'<line class="track-line" x1="0" y1="9" x2="{width}" y2="9"/>',
        f'<line class="chance" x1="{chance}" y1="2" x2="{chance}" y2="16"/>',
    ]
    if value is not None and low is not None and high is not None:
        parts.append(
            f'<line class="interval" x1="{_at(low, floor, width):.1f}" y1="9" '
            f'x2="{_at(high, floor, width):.1f}" y2="9"/>'
        )
        parts.append(f'<circle class="marker" cx="{_at(value, floor, width):.1f}" cy="9" r="4.5"/>')
    return _svg(width, height, "", parts, decorative=True)


def overlay(
    boxes: Sequence[tuple[tuple[float, ...], float]],
    size: tuple[float, float],
    picture: str,
    said: str,
    struck: bool = False,
) -> Markup:
    """A picture, shown by reference, with a signed grid of scores on top.

    Args:
        boxes: ``(left, top, right, bottom)`` in the picture's own pixels, and the score.
        size: width and height of the original, in the same pixels.
        picture: the id of an SVG image that stands on the page already.
        said: alternative text.
        struck: whether the map failed its checks; a cross then lies over it.
    """
    largest = max((abs(score) for _, score in boxes), default=0.0) or 1.0
    cells = [
        f'<rect class="{tone(score)}" x="{box[0]:g}" y="{box[1]:g}" width="{box[2] - box[0]:g}" '
        f'height="{box[3] - box[1]:g}" fill-opacity="{0.75 * abs(score) / largest:.3f}"/>'
        for box, score in boxes
        if abs(score) / largest >= 0.02
    ]
    content = [f'<use href="#{escape(picture)}"/>', '<g class="map">', *cells, *_cross(size, struck), "</g>"]
    return _svg(*size, said, content, extra="picture")


def original(uri: str, size: tuple[float, float], picture: str, said: str) -> Markup:
    """The picture itself, once; ``overlay`` refers to it by its id."""
    image = (
        f'<image id="{escape(picture)}" href="{escape(uri)}" width="{size[0]:g}" height="{size[1]:g}" '
        'preserveAspectRatio="none"/>'
    )
    return _svg(*size, said, [image], extra="picture")


def outlines(
    boxes: Sequence[tuple[tuple[float, ...], float]],
    size: tuple[float, float],
    picture: str,
    said: str,
    struck: bool = False,
) -> Markup:
    """A picture, shown by reference, with numbered outlines around its most important boxes."""
    stroke = max(size) / 200
    parts = [f'<use href="#{escape(picture)}"/>', '<g class="map">']
    for place, (box, score) in enumerate(boxes, start=1):
        parts.append(
            f'<rect class="outline-{tone(score)}" x="{box[0]:g}" y="{box[1]:g}" width="{box[2] - box[0]:g}" '
            f'height="{box[3] - box[1]:g}" stroke-width="{stroke:g}"/>'
        )
        parts.append(
            f'<text class="outline-label" x="{box[0] + stroke * 2:g}" y="{box[1] + stroke * 8:g}" '
            f'font-size="{stroke * 7:g}" stroke-width="{stroke * 1.6:g}">{place}</text>'
        )
    return _svg(*size, said, [*parts, *_cross(size, struck), "</g>"], extra="picture")


def icons(probability: float) -> Markup:
    """A hundred people, as many filled as the probability says; the words beside it say the same."""
    count, parts = round(100 * probability), []
    for place in range(100):
        left, top = 14 * (place % 10), 14 * (place // 10)
        kind = "filled" if place < count else "track"
        parts.append(f'<circle class="{kind}" cx="{left + 6}" cy="{top + 6}" r="5"/>')
    return _svg(138, 138, "", parts, extra="icons", decorative=True)


def waterfall(start: float, steps: Sequence[tuple[str, float]], said: str) -> Markup:
    """How steps lead from ``start`` to their sum, one a row, each beginning where the last one ended.

    Args:
        start: where it begins, logits.
        steps: label and change.
        said: what a screen reader says first.
    """
    total = start + sum(change for _, change in steps)
    reached, at = [start], start
    for _, change in steps:
        at += change
        reached.append(at)
    low, high = min(0.0, *reached), max(0.0, *reached)
    span = (high - low) or 1.0
    width, height = _LABEL_WIDTH + _PLOT_WIDTH + _VALUE_WIDTH, _ROW * (len(steps) + 2)

    def x(value: float) -> float:
        return _LABEL_WIDTH + 4 + (value - low) / span * (_PLOT_WIDTH - 8)

    parts = [f'<line class="axis" x1="{x(0):.1f}" y1="0" x2="{x(0):.1f}" y2="{height}"/>']
    rows = [("Start", 0.0, start), *((name, reached[i], step) for i, (name, step) in enumerate(steps))]
    for place, (label, begin, change) in enumerate([*rows, ("Logit of the answer", 0.0, total)]):
        end, middle = begin + change, place * _ROW + _ROW / 2
        whole = place in (0, len(rows))
        parts += [
            f'<text x="{_LABEL_WIDTH - 12}" y="{middle + 5:g}" text-anchor="end">{escape(label)}</text>',
            f'<rect class="{"total" if whole else tone(change)}" x="{x(min(begin, end)):.1f}" '
            f'y="{middle - 8:g}" width="{max(abs(x(end) - x(begin)), 0.8):.1f}" height="16" rx="1.5"/>',
            f'<text class="figure" x="{width - 2}" y="{middle + 5:g}" text-anchor="end">'
            f"{signed(change)}</text>",
        ]
    words = "; ".join(f"{label} {signed(change)}" for label, _, change in rows)
    return _svg(width, height, f"{said}: {words}; logit of the answer {signed(total)}.", parts)


def tone(score: float) -> str:
    """The style class of a contribution."""
    return "raises" if score >= 0 else "lowers"


def _cross(size: tuple[float, float], struck: bool) -> list[str]:
    if not struck:
        return []
    (width, height), stroke = size, max(size) / 90
    ends = ((0, 0, width, height), (0, height, width, 0))
    return [
        f'<line class="{kind}" x1="{a:g}" y1="{b:g}" x2="{c:g}" y2="{d:g}" stroke-width="{stroke * wide:g}"/>'
        for kind, wide in (("strike-ground", 2), ("strike", 1))
        for a, b, c, d in ends
    ]


def _at(value: float, floor: float, width: float) -> float:
    return (min(max(value, floor), 1.0) - floor) / (1 - floor) * width


def _svg(
    width: float,
    height: float,
    said: str,
    parts: Sequence[str],
    extra: str = "plot",
    decorative: bool = False,
) -> Markup:
    role = 'aria-hidden="true"' if decorative else f'role="img" aria-label="{escape(said)}"'
    head = f'<svg class="{extra}" viewBox="0 0 {width:g} {height:g}" {role}>'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704  # every text above is escaped
