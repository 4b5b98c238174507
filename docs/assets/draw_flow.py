"""Draws ``flow.svg``, the picture of a run: python docs/assets/draw_flow.py."""

from __future__ import annotations

from html import escape
from pathlib import Path

_INK, _QUIET, _LINE = "#1d2329", "#4b5763", "#5b6670"
_FILL = {"data": "#eef4fa", "model": "#eaf5ee", "judge": "#faf7f0", "people": "#f6eef8"}
_EDGE = {"data": "#3b6a94", "model": "#3c7a52", "judge": "#a08a5b", "people": "#7d5691"}
_WIDTH, _BOX, _GAP, _LEFT = 900, 156, 22, 16

#: Rows of the picture: kind, name of the stage, and what it does in three short lines.
_ROWS = (
    (
        ("data", "ingest", ("DICOM, FHIR, slides, text", "pseudonyms; refusals", "are listed")),
        ("data", "cohort", ("who, when, which label", "a YAML file that a", "clinician can review")),
        ("data", "encode", ("cut at the index time", "what is left becomes", "tokens, cached")),
        ("model", "train", ("sum of each modality's", "evidence, plus what", "fusion adds")),
        ("model", "predict", ("held-out subjects, every", "subset of modalities,", "simpler rivals")),
    ),
    (
        ("judge", "evaluate", ("intervals, calibration;", "does fusion help? yes,", "no, cannot tell")),
        ("judge", "explain", ("pixel, tile, value, word", "with figures on whether", "to trust it")),
        ("judge", "audit", ("groups of people", "against a policy:", "pass, fail, undecided")),
        (
            "people",
            "register",
            ("signed manifest, MLflow;", "the alias moves only if", "the audit allows it"),
        ),
        ("people", "report", ("model card and a page", "a patient, one file", "each")),
    ),
)
_HEIGHT, _TOP, _STEP = 92, 20, 136


def draw() -> str:
    """The picture as SVG text."""
    body = [_stage(x, y, *stage) for y, row in _places() for x, stage in row]
    body += [
        _arrow(x + _BOX, y + _HEIGHT // 2, x + _BOX + _GAP - 3) for y, row in _places() for x, _ in row[:-1]
    ]
    body.append(_turn())
    height = _TOP + _STEP * (len(_ROWS) - 1) + _HEIGHT + 34
    foot = "Every stage leaves record.json: digests, settings, code, seed. What did not change is skipped."
    body.append(_text(_LEFT, height - 10, foot, 12, _QUIET))
    title = "The ten stages of a run, from a hospital's export to a model card"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{title}" '
        f'viewBox="0 0 {_WIDTH} {height}" width="{_WIDTH}" height="{height}" '
        f'font-family="system-ui, sans-serif">\n<title>{title}</title>\n'
        f'<rect width="{_WIDTH}" height="{height}" rx="8" fill="#ffffff"/>\n'
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        f'orient="auto"><path d="M0 0 L8 4 L0 8 z" fill="{_LINE}"/></marker></defs>\n'
        + "\n".join(body)
        + "\n</svg>\n"
    )


def _places() -> list[tuple[int, list[tuple[int, tuple[str, str, tuple[str, ...]]]]]]:
    return [
        (_TOP + _STEP * number, [(_LEFT + (_BOX + _GAP) * place, stage) for place, stage in enumerate(row)])
        for number, row in enumerate(_ROWS)
    ]


def _stage(x: int, y: int, kind: str, name: str, lines: tuple[str, ...]) -> str:
    place = f'x="{x}" y="{y}" width="{_BOX}" height="{_HEIGHT}" rx="6"'
    box = f'<rect {place} fill="{_FILL[kind]}" stroke="{_EDGE[kind]}"/>'
    words = [_text(x + 10, y + 44 + 16 * row, line, 11, _QUIET) for row, line in enumerate(lines)]
    return "\n".join([box, _text(x + 10, y + 24, name, 15, _INK, "600"), *words])


def _arrow(x1: int, y: int, x2: int) -> str:
    return f'<line x1="{x1 + 2}" y1="{y}" x2="{x2}" y2="{y}" stroke="{_LINE}" marker-end="url(#tip)"/>'


def _turn() -> str:
    """From the end of the first row to the start of the second."""
    x1, x2 = _LEFT + 4 * (_BOX + _GAP) + _BOX // 2, _LEFT + _BOX // 2
    y1, y2 = _TOP + _HEIGHT, _TOP + _STEP
    middle = (y1 + y2) // 2
    path = f"M{x1} {y1 + 2} V{middle} H{x2} V{y2 - 3}"
    return f'<path d="{path}" fill="none" stroke="{_LINE}" marker-end="url(#tip)"/>'


def _text(x: int, y: float, words: str, size: float, fill: str, weight: str = "400") -> str:
    style = f'font-size="{size}" font-weight="{weight}" fill="{fill}"'
    return f'<text x="{x}" y="{y}" {style}>{escape(words)}</text>'


if __name__ == "__main__":
    Path(__file__).with_name("flow.svg").write_text(draw(), encoding="utf-8")
