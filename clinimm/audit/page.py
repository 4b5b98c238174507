"""The audit as one HTML file: no script, nothing fetched, every value escaped."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_TEMPLATE = Path(__file__).with_name("page.html")
_WIDTH = 150
_TITLES = {
    "auroc": "AUROC",
    "fnr": "false negative rate",
    "fpr": "false positive rate",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "ppv": "PPV",
    "npv": "NPV",
    "observed_less_predicted": "observed − predicted",
}
#: What the table of groups shows; the rest stands in ``audit.json``.
_SHOWN = ("auroc", "fnr", "fpr", "ppv", "observed_less_predicted")
_RANGE = {"observed_less_predicted": (-0.5, 0.5)}


def audit_page(content: Mapping[str, Any]) -> str:
    """The page for the content of ``audit.json``."""
    from jinja2 import Environment, StrictUndefined

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["figure"] = _figure
    environment.filters["signed"] = _signed
    template = environment.from_string(_TEMPLATE.read_text(encoding="utf-8"))
    classes = [{**part, "attributes": _by_attribute(part["groups"])} for part in content["classes"]]
    rules = {rule["id"]: rule for rule in content["policy"]["rules"]}
    return template.render(
        audit=content, classes=classes, rules=rules, titles=_TITLES, shown=_SHOWN, bar=_bar, width=_WIDTH
    )


def _by_attribute(groups: list[Mapping[str, Any]]) -> list[tuple[str, list[Mapping[str, Any]]]]:
    names = dict.fromkeys(group["attribute"] for group in groups)
    return [(name, [group for group in groups if group["attribute"] == name]) for name in names]


def _bar(figure: Mapping[str, Any], name: str) -> dict[str, float] | None:
    """Positions of an interval's bar, in pixels; None where there is nothing to draw."""
    if figure["value"] is None or figure["low"] is None:
        return None
    low, high = _RANGE.get(name, (0.0, 1.0))
    keys = ("low", "value", "high")
    return {key: round(min(max((figure[key] - low) / (high - low), 0), 1) * _WIDTH, 1) for key in keys}


def _figure(figure: Mapping[str, Any]) -> str:
    if figure["value"] is None:
        return "–"
    if figure["low"] is None:
        return f"{figure['value']:.2f} (no interval)"
    return f"{figure['value']:.2f} ({figure['low']:.2f} to {figure['high']:.2f})"


def _signed(finding: Mapping[str, Any]) -> str:
    if finding["value"] is None:
        return "not estimable"
    return f"{finding['value']:+.2f} ({finding['low']:+.2f} to {finding['high']:+.2f})"
