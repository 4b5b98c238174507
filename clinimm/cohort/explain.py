"""The flow of subjects as a diagram: text for the terminal, SVG for reports.

Both take the content of ``flow.json`` and draw what CONSORT 2010 asks for: how many were assessed,
how many left at each step and why, and how many are analysed on each side.
"""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

_BOX = 46  # characters inside a box
_SIDE = 46  # characters of the words beside the line
_STEM = " " * 6

# Sizes of the SVG in pixels; a character of the 13 px font is about 7.5 px wide.
_WIDTH, _MAIN_X, _MAIN_WIDTH, _SIDE_X, _SIDE_WIDTH = 760, 20, 340, 400, 340
_LINE, _PAD, _GAP = 18, 10, 26
_MAIN_CHARACTERS, _SIDE_CHARACTERS = 42, 44

_SPLIT_NAMES = {
    "train": "training",
    "tuning": "tuning",
    "held_out": "held out",
    "unlabelled": "unlabelled",
    "unused": "not used",
}


@dataclass(frozen=True)
class _Box:
    """A box of the main line, and the words beside the line that leads to it."""

    title: str
    count: str
    lines: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()


def explain_text(flow: Mapping[str, Any]) -> str:
    """The diagram for a terminal, about 60 characters wide.

    Args:
        flow: the content of ``cohort/flow.json``.
    """
    parts = [*textwrap.wrap(f"{flow['cohort']}: {flow['question']}", 80), ""]
    boxes = _boxes(flow)
    for number, box in enumerate(boxes):
        parts += _text_stem(box.aside) if number else []
        parts += _text_box(box, above=number > 0, below=number + 1 < len(boxes))
    return "\n".join([*parts, "", *_tables(flow)]).rstrip() + "\n"


def flow_svg(flow: Mapping[str, Any]) -> str:
    """The diagram as a self-contained SVG, for reports.

    Args:
        flow: the content of ``cohort/flow.json``.
    """
    body: list[str] = []
    top = 10
    for number, box in enumerate([*_boxes(flow), *_split_box(flow)]):
        if number:
            top = _svg_stem(body, top, box.aside)
        top = _svg_main(body, top, box)
    title = escape(f"Flow of subjects: {flow['cohort']}")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" '
        f'viewBox="0 0 {_WIDTH} {top + 10}" width="{_WIDTH}" height="{top + 10}" '
        'font-family="system-ui, sans-serif" font-size="13">\n'
        f"<title>{title}</title>\n"
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="#5b6670"/></marker></defs>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _boxes(flow: Mapping[str, Any]) -> list[_Box]:
    boxes = [_Box("subjects in the data", _count(flow["subjects"]), (f"{_count(flow['events'])} events",))]
    for step in flow["steps"]:
        if step["kind"] == "exclusion":
            title, why = f"without: {step['name']}", {step["name"]: step["left"]} if step["left"] else {}
        else:
            title, why = step["name"], step["reasons"]
        boxes.append(_Box(title, _count(step["after"]), aside=_aside(step["left"], why)))
    label = flow["label"]
    classes = tuple(f"{_count(n)} {name}" for name, n in label["classes"].items())
    unknown = label["unlabelled"]
    aside = (f"{_count(unknown)} unknown; they stay, unlabelled",) if unknown else ()
    boxes.append(_Box(f"with a known label: {label['task']}", _count(label["labelled"]), classes, aside))
    return boxes


def _aside(left: int, reasons: Mapping[str, int]) -> tuple[str, ...]:
    if not left:
        return ("nobody left",)
    if len(reasons) == 1:
        return (f"{_count(left)} left: {next(iter(reasons))}",)
    return (f"{_count(left)} left", *(f"  {_count(count)} {reason}" for reason, count in reasons.items()))


def _text_box(box: _Box, above: bool, below: bool) -> list[str]:
    room = _BOX - len(box.count) - 1
    title, *more = textwrap.wrap(box.title, room) or [""]
    rows = [f"{title:<{room}} {box.count}", *more]
    rows += [f"  {line}" for text in box.lines for line in textwrap.wrap(text, _BOX - 2)]
    before, after = "─" * (len(_STEM) - 1), "─" * (_BOX + 2 - len(_STEM))
    top, bottom = "┴" if above else "─", "┬" if below else "─"
    inside = [f"│ {row:<{_BOX}} │" for row in rows]
    return [f"┌{before}{top}{after}┐", *inside, f"└{before}{bottom}{after}┘"]


def _text_stem(aside: tuple[str, ...]) -> list[str]:
    rows = [
        line
        for text in aside
        for line in textwrap.wrap(text, _SIDE, initial_indent=_indent(text), subsequent_indent="    ")
    ]
    marked = [f"{_STEM}{'├─▶ ' if number == 0 else '│   '}{row}" for number, row in enumerate(rows)]
    return marked or [f"{_STEM}│"]


def _indent(text: str) -> str:
    return text[: len(text) - len(text.lstrip())]


def _tables(flow: Mapping[str, Any]) -> list[str]:
    return [*_input_lines(flow), *_split_lines(flow), *_warning_lines(flow)]


def _input_lines(flow: Mapping[str, Any]) -> list[str]:
    if not flow["inputs"]:
        return []
    total = flow["steps"][-1]["after"] if flow["steps"] else flow["subjects"]
    rows = [
        f"  {name:<12} {_count(seen['subjects']):>7} of {_count(total)} subjects, "
        f"{_count(seen['events'])} events"
        for name, seen in flow["inputs"].items()
    ]
    return ["What the model may see", *rows, ""]


def _split_lines(flow: Mapping[str, Any]) -> list[str]:
    if not flow["split"]:
        return []
    rows = [
        f"  {name:<12} {count:>7}" + (f"   {classes}" if classes else "")
        for name, count, classes in _parts(flow["split"])
    ]
    return [_split_title(flow["split"]), *rows, ""]


def _split_box(flow: Mapping[str, Any]) -> list[_Box]:
    if not flow["split"]:
        return []
    lines = tuple(
        f"{count} {name}" + (f": {classes}" if classes else "")
        for name, count, classes in _parts(flow["split"])
    )
    return [_Box(_split_title(flow["split"]), "", lines)]


def _split_title(split: Mapping[str, Any]) -> str:
    rounds = split["repeats"] * split["folds"]
    title = f"Split: {split['kind'].replace('_', ' ')}"
    if rounds == 1:
        return title
    return f"{title}, {split['repeats']} × {split['folds']} folds (means over the {rounds} fits)"


def _parts(split: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Name, size and classes of each part, as words."""
    return [
        (
            _SPLIT_NAMES.get(part["name"], part["name"]),
            _count(part["subjects"]),
            ", ".join(f"{_count(n)} {name}" for name, n in part["classes"].items()),
        )
        for part in split["parts"]
    ]


def _warning_lines(flow: Mapping[str, Any]) -> list[str]:
    if not flow["warnings"]:
        return []
    rows = [
        line
        for text in flow["warnings"]
        for line in textwrap.wrap(text, 76, initial_indent="  ! ", subsequent_indent="    ")
    ]
    return ["Before you believe a figure", *rows]


def _svg_main(body: list[str], top: int, box: _Box) -> int:
    rows = textwrap.wrap(box.title, _MAIN_CHARACTERS - len(box.count) - 6) or [""]
    lines = [line for text in box.lines for line in textwrap.wrap(text, _MAIN_CHARACTERS - 4)]
    height = _LINE * (len(rows) + len(lines)) + 2 * _PAD - 4
    body.append(_rectangle(_MAIN_X, top, _MAIN_WIDTH, height, "#eef4fa", "#3b6a94"))
    right = _MAIN_X + _MAIN_WIDTH - _PAD
    if box.count:
        end = 'text-anchor="end" font-weight="600"'
        body.append(_words(right, top + _PAD + 11, f"n = {box.count}", end))
    for number, row in enumerate(rows + lines):
        indent = 0 if number < len(rows) else 14
        weight = 'font-weight="600"' if number < len(rows) else ""
        body.append(_words(_MAIN_X + _PAD + indent, top + _PAD + 11 + number * _LINE, row, weight))
    return top + height


def _svg_stem(body: list[str], top: int, aside: tuple[str, ...]) -> int:
    rows = [
        line for text in aside for line in textwrap.wrap(text, _SIDE_CHARACTERS, subsequent_indent="    ")
    ]
    height = _LINE * len(rows) + 2 * _PAD - 4 if rows else 0
    x = _MAIN_X + 60
    bottom = top + height + _GAP
    body.append(_line(x, top, x, bottom))
    if rows:
        middle = top + _GAP // 2 + height // 2
        body.append(_line(x, middle, _SIDE_X, middle))
        body.append(_rectangle(_SIDE_X, top + _GAP // 2, _SIDE_WIDTH, height, "#faf7f0", "#a08a5b"))
        for number, row in enumerate(rows):
            indent = 0 if number == 0 else 14
            baseline = top + _GAP // 2 + _PAD + 11 + number * _LINE
            body.append(_words(_SIDE_X + _PAD + indent, baseline, row.strip()))
    return bottom


def _rectangle(x: int, y: int, width: int, height: int, fill: str, stroke: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="4" fill="{fill}" stroke="{stroke}"/>'


def _line(x1: int, y1: int, x2: int, y2: int) -> str:
    return f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#5b6670" marker-end="url(#arrow)"/>'


def _words(x: int, y: int, text: str, style: str = "") -> str:
    return f'<text x="{x}" y="{y}" fill="#1d2329"{" " + style if style else ""}>{escape(text)}</text>'


def _count(number: float) -> str:
    """``1,234``, or ``27.4`` for a mean over folds."""
    return f"{number:,.1f}" if isinstance(number, float) and not number.is_integer() else f"{int(number):,}"
