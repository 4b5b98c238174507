"""Figures of a staining run as SVG: coloured by the stylesheet in a page, by their own style in a file.

Every figure says its numbers to a screen reader, and no line is told from another by colour alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup, escape

from clinimm.report.words import number, percent

#: What the classes mean where the page's stylesheet is not at hand; the light theme's colours.
_STYLE = (
    "text{fill:#16202c;font:14px system-ui,'DejaVu Sans',sans-serif}text.small{fill:#52606f;font-size:12px}"
    "svg{background:#fff}.axis{stroke:#d5dbe3;stroke-width:1.5}.grid{stroke:#d5dbe3;stroke-width:1}"
    ".chance,.ideal{stroke:#52606f;stroke-width:1.5;stroke-dasharray:4 4;fill:none}"
    ".interval{stroke:#22577a;stroke-width:3}.marker{fill:#22577a;stroke:#fff;stroke-width:2}"
    ".rival{stroke:#52606f;stroke-width:2}.rival-marker{fill:#fff;stroke:#52606f;stroke-width:2}"
    ".line{stroke:#22577a;stroke-width:2.5;fill:none}"
    ".bound{stroke:#b4500f;stroke-width:2;stroke-dasharray:2 3;fill:none}"
    ".kept{stroke:#22577a;stroke-width:2.5}.dropped{stroke:#b4500f;stroke-width:2.5;stroke-dasharray:3 3}"
)
_MOST_PAIRS = 24
_ROW = 26


@dataclass(frozen=True)
class Frame:
    """Where values lie on a figure: a box of pixels and the values at its edges.

    Attributes:
        left, top, width, height: of the box.
        x_most, y_most: values at its right and upper edge; both start from 0.
    """

    left: float
    top: float
    width: float
    height: float
    x_most: float
    y_most: float

    def x(self, value: float) -> float:
        """Across, pixels."""
        return self.left + self.width * min(max(value / self.x_most, 0.0), 1.0)

    def y(self, value: float) -> float:
        """Down, pixels."""
        return self.top + self.height * (1 - min(max(value / self.y_most, 0.0), 1.0))

    def path(self, xs: Sequence[float], ys: Sequence[float]) -> str:
        """A broken line as an SVG path."""
        return "M" + "L".join(f"{self.x(x):.1f} {self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))


def reliability_figure(rows: Sequence[Mapping[str, Any]], stain: str) -> Markup:
    """Observed against expected error, with the line on which they agree.

    Args:
        rows: of ``Reliability.to_json``; shares of the full scale, shown in percent.
        stain: which.
    """
    known = [row for row in rows if row["observed"]["value"] is not None]
    highest = max((max(row["expected"], _top(row["observed"])) for row in known), default=0.1)
    most = nice(highest)
    frame = Frame(58, 14, 320, 320, most, most)
    parts = _axes(frame, "expected error, % of full scale", "observed error, %")
    parts.append(f'<path class="ideal" d="{frame.path((0, most), (0, most))}"/>')
    for row in known:
        x, seen = frame.x(row["expected"]), row["observed"]
        if seen["low"] is not None and seen["high"] is not None:
            ends = (
                f'x1="{x:.1f}" x2="{x:.1f}" y1="{frame.y(seen["low"]):.1f}" y2="{frame.y(seen["high"]):.1f}"'
            )
            parts.append(f'<line class="interval" {ends}/>')
        parts.append(f'<circle class="marker" cx="{x:.1f}" cy="{frame.y(seen["value"]):.1f}" r="5"/>')
    said = "; ".join(
        f"expected {percent(row['expected'], 1)}, observed {percent(row['observed']['value'], 1)}"
        for row in known
    )
    return svg(396, 384, f"Reliability of the expected error, {stain}: {said}.", parts)


def refusal_figure(curve: Mapping[str, Any], stain: str) -> Markup:
    """The error of the tiles that are kept against the share that is refused."""
    shares, kept, oracle = (curve[name] for name in ("share_refused", "kept_error", "oracle_error"))
    random = curve["random"]["value"]
    frame = Frame(58, 14, 320, 320, 1.0, nice(max((*kept, *oracle, random))))
    parts = _axes(frame, "tiles refused, %", "error of the rest, %")
    parts += [
        f'<path class="ideal" d="{frame.path((0, 1), (random, random))}"/>',
        f'<path class="bound" d="{frame.path(shares, oracle)}"/>',
        f'<path class="line" d="{frame.path(shares, kept)}"/>',
    ]
    key = (("line", "riskiest first"), ("ideal", "at random"), ("bound", "largest error first (oracle)"))
    for place, (style, words) in enumerate(key):
        y = 352 + 18 * place + 32
        parts += [f'<path class="{style}" d="M58 {y}H92"/>', text(100, y + 4, words)]
    half = min(range(len(shares)), key=lambda at: abs(shares[at] - 0.5))
    said = (
        f"Refusal curve, {stain}: error {percent(kept[0], 1)} with nothing refused, "
        f"{percent(kept[half], 1)} with half of the tiles refused; at random {percent(random, 1)}, "
        f"oracle {percent(oracle[half], 1)}."
    )
    return svg(396, 436, said, parts)


def methods_figure(
    rows: Sequence[tuple[str, Mapping[str, Any]]], model: str, chance: float, words: str
) -> Markup:
    """Each method's value of one measure with its interval; the model filled, rivals hollow.

    Args:
        rows: method and its row of the table.
        model: which of them is the model.
        chance: the value that knowing nothing gives, drawn as a line.
        words: what the measure is, for a screen reader.
    """
    left, width = 132, 300
    known = [row for _, row in rows if row["value"] is not None]
    ends = [_either(row[name], row["value"]) for row in known for name in ("low", "high")]
    low, high = min([chance, *ends]), max([chance, *ends])
    span = (high - low) * 1.1 or 1.0

    def at(value: float) -> float:
        return left + width * (value - low + span * 0.05) / (span * 1.05)

    bottom = _ROW * len(rows) + 6
    parts = [f'<line class="chance" x1="{at(chance):.1f}" x2="{at(chance):.1f}" y1="2" y2="{bottom}"/>']
    parts.append(text(at(chance), bottom + 16, f"chance {chance:g}", "middle"))
    for place, (name, row) in enumerate(rows):
        y = _ROW * place + _ROW / 2 + 2
        parts.append(text(left - 10, y + 5, name, "end", style=""))
        if row["value"] is None:
            parts.append(text(left + 6, y + 4, "not estimable"))
            continue
        line, dot = ("interval", "marker") if name == model else ("rival", "rival-marker")
        if row["low"] is not None and row["high"] is not None:
            ends_ = f'x1="{at(row["low"]):.1f}" x2="{at(row["high"]):.1f}" y1="{y:g}" y2="{y:g}"'
            parts.append(f'<line class="{line}" {ends_}/>')
        parts.append(f'<circle class="{dot}" cx="{at(row["value"]):.1f}" cy="{y:g}" r="5"/>')
        parts.append(
            text(left + width + 64, y + 5, number(row["value"], 2).replace("-", "−"), "end", style="figure")
        )
    said = "; ".join(f"{name} {_spoken(row)}" for name, row in rows)
    return svg(left + width + 70, bottom + 24, f"{words}: {said}.", parts)


def registration_figure(
    rows: Sequence[tuple[str, float | None, float | None, bool]], limit_um: float
) -> Markup:
    """How far apart source and stain lay before and after registration, a line a pair.

    Args:
        rows: name, median distance before and after in micrometres, whether the pair was refused.
        limit_um: largest distance after registration that is accepted.
    """
    shown = [row for row in rows if row[1] is not None or row[2] is not None][:_MOST_PAIRS]
    left, width = 150, 420
    most = nice(max([limit_um, *(value for row in shown for value in row[1:3] if value is not None)]))
    bottom = 20 * len(shown) + 12
    frame = Frame(left, 6, width, bottom - 6, most, 1.0)
    x = frame.x(limit_um)
    parts = [f'<line class="chance" x1="{x:.1f}" x2="{x:.1f}" y1="2" y2="{bottom}"/>']
    for tick in ticks(most):
        parts.append(text(frame.x(tick), bottom + 16, f"{tick:g}", "middle"))
    words = f"µm, median; dashed: accepted up to {limit_um:g}"
    parts.append(text(left + width / 2, bottom + 34, words, "middle"))
    for place, (name, before, after, refused) in enumerate(shown):
        y = 20 * place + 16
        parts.append(text(left - 10, y + 4, name, "end"))
        if before is not None and after is not None:
            ends = f'x1="{frame.x(before):.1f}" x2="{frame.x(after):.1f}" y1="{y}" y2="{y}"'
            parts.append(f'<line class="{"dropped" if refused else "kept"}" {ends}/>')
        if before is not None:
            parts.append(f'<circle class="rival-marker" cx="{frame.x(before):.1f}" cy="{y}" r="4"/>')
        if after is not None:
            parts.append(f'<circle class="marker" cx="{frame.x(after):.1f}" cy="{y}" r="5"/>')
    said = "; ".join(
        f"{name} {_um(before)} to {_um(after)}{', refused' if refused else ''}"
        for name, before, after, refused in shown
    )
    return svg(
        left + width + 20, bottom + 42, f"Registration error, median, before and after: {said}.", parts
    )


def standalone(figure: Markup) -> bytes:
    """A figure as a file of its own."""
    head, _, rest = str(figure).partition(">")
    return f'{head} xmlns="http://www.w3.org/2000/svg"><style>{_STYLE}</style>{rest}\n'.encode()


def svg(width: float, height: float, said: str, parts: Sequence[str]) -> Markup:
    """An SVG whose every text was escaped."""
    head = f'<svg class="plot" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(said)}">'
    return Markup(head + "".join(parts) + "</svg>")  # noqa: S704  # every text above is escaped


def nice(value: float) -> float:
    """The next round number from a value on: 1, 2, 3, 4, 5, 6 or 8 times a power of ten.

    >>> nice(0.073), nice(21)
    (0.08, 30.0)
    """
    if value <= 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    step = next(one for one in (1, 2, 3, 4, 5, 6, 8, 10) if one * power >= value * (1 - 1e-9))
    return round(step * power, 12)


def ticks(most: float) -> list[float]:
    """Round values from 0 to a round value, at most six."""
    lead = round(most / 10.0 ** math.floor(math.log10(most)))
    steps = {1: 5, 2: 4, 3: 3, 4: 4, 5: 5, 6: 3, 8: 4}[lead]
    return [round(most * step / steps, 12) for step in range(steps + 1)]


def text(x: float, y: float, words: str, anchor: str = "start", style: str = "small", turn: str = "") -> str:
    """A line of words at a place, escaped."""
    turned = f' transform="{turn}"' if turn else ""
    return (
        f'<text class="{style}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{turned}>{escape(words)}</text>'
    )


def _axes(frame: Frame, across: str, up: str) -> list[str]:
    """A grid with ticks in percent."""
    bottom, right = frame.top + frame.height, frame.left + frame.width
    parts = []
    for tick in ticks(frame.y_most):
        y = frame.y(tick)
        parts.append(f'<line class="grid" x1="{frame.left:g}" x2="{right:g}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(text(frame.left - 8, y + 4, f"{100 * tick:g}", "end"))
    for tick in ticks(frame.x_most):
        parts.append(text(frame.x(tick), bottom + 18, f"{100 * tick:g}", "middle"))
    side = frame.top + frame.height / 2
    parts.append(text((frame.left + right) / 2, bottom + 38, across, "middle"))
    parts.append(text(16, side, up, "middle", turn=f"rotate(-90 16 {side:g})"))
    return parts


def _top(figure: Mapping[str, Any]) -> float:
    return float(_either(figure["high"], figure["value"]))


def _either(first: float | None, second: float) -> float:
    return second if first is None else first


def _spoken(row: Mapping[str, Any]) -> str:
    if row["value"] is None:
        return "not estimable"
    if row["low"] is None or row["high"] is None:
        return f"{row['value']:.2f}, no interval"
    return f"{row['value']:.2f}, {row['low']:.2f} to {row['high']:.2f}"


def _um(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.1f} µm"
