"""The page of a staining run: whether each stain can be learned, and what that rests on."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from markupsafe import Markup

from clinimm.report.facts import estimate_text
from clinimm.report.model_card import intended_use
from clinimm.report.page import asset, render
from clinimm.report.stain_facts import StainFacts
from clinimm.report.stain_figures import (
    methods_figure,
    refusal_figure,
    registration_figure,
    reliability_figure,
)
from clinimm.report.stain_refused import words
from clinimm.report.stain_region import WARNING
from clinimm.staining.verdict import AS_REGISTERED

#: What a virtual stain is not for, whatever the verdict.
NOT_FOR = (
    "Diagnosis, grading or any treatment decision: a virtual stain is a guess of a model, not a measurement.",
    "Replacing the real stain. It may help to decide where to look, or whether the real stain is worth "
    "making.",
    "Tissue, scanners, stains or laboratories other than those of the training slides; the refusal catches "
    "some of that, not all.",
    "Regions that are drawn as refused: there the model is known not to know.",
    "Counting by eye beside a real stain without knowing which is which: the label stays on.",
)


def stain_page(facts: StainFacts, regions: Sequence[Mapping[str, Any]]) -> str:
    """The page as text; equal runs give equal bytes.

    Args:
        facts: the run.
        regions: those that have a page: ``number, title, href, uri, said, stains``.
    """
    return render(
        "stain_index.html",
        more_style=asset("stain_page.css"),
        facts=facts,
        question=facts.run.question,
        stains=[_stain(facts, stain) for stain in facts.stains],
        registration=registration(facts),
        registered=facts.run.registration,
        regions=regions,
        not_for=NOT_FOR,
        intended=intended_use(),
        warning=WARNING,
        estimate=estimate_text,
    )


def figures_of(facts: StainFacts) -> dict[str, Markup]:
    """Every figure of the run by its name, for those who want them as files."""
    found = {}
    for stain in facts.stains:
        parts = _figures(facts, stain)
        found.update({f"{name}-{stain}": figure for name, figure in parts.items() if figure is not None})
    lines = registration(facts)["figure"]
    return found | ({"registration": lines} if lines is not None else {})


def _stain(facts: StainFacts, stain: str) -> dict[str, Any]:
    found = facts.of(stain)
    return {
        "stain": stain,
        "verdict": facts.verdict(stain),
        "subjects": found.get("subjects"),
        "regions": found.get("regions"),
        "error_um": found.get("registration_error_um"),
        "methods": facts.methods(stain),
        "lines": facts.lines(stain),
        "deciding": facts.deciding(stain),
        "agreement": facts.agreement(stain),
        "adds": facts.record_adds(stain),
        "adds_sentence": facts.record_sentence(stain),
        "safety": found["safety"],
        "reasons": _reasons(found["safety"].get("reasons") or {}),
        "refusal_words": facts.refusal_sentence(stain),
        **_figures(facts, stain),
    }


def _figures(facts: StainFacts, stain: str) -> dict[str, Markup | None]:
    safety = facts.of(stain)["safety"]
    curve = safety.get("refusal_curve")
    lines = {line.name: line for line in facts.lines(stain)}
    first, second = facts.deciding(stain)
    return {
        "reliability": reliability_figure(safety["reliability"]["rows"], stain),
        "refusal": None
        if curve is None or curve["random"]["value"] is None
        else refusal_figure(curve, stain),
        **{
            name: methods_figure(
                [
                    (_plain(method), lines[metric].cells[method])
                    for method in facts.methods(stain)
                    if method in lines[metric].cells
                ],
                _plain(facts.model),
                facts.chance(metric),
                lines[metric].title,
            )
            if metric in lines
            else None
            for name, metric in (("first", first), ("second", second))
        },
    }


def _plain(method: str) -> str:
    return method.replace("_", " ")


def _reasons(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Refused tiles by reason in words; a tile may have several."""
    totals: dict[str, int] = {}
    for reasons, count in counts.items():
        for reason in words(str(reasons)):
            totals[reason] = totals.get(reason, 0) + int(count)
    return sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))


def registration(facts: StainFacts) -> dict[str, Any]:
    """How well source and stain lie on each other: a row a stain, a figure, and what was refused."""
    folder = facts.workspace.root / "encode" / "pairs"
    table, refusals = _optional(folder / "registration.parquet"), _optional(folder / "refusals.parquet")
    config = facts.workspace.config.staining
    limit = config.largest_error_um if config else 3.0
    if table.empty:
        unmeasured = AS_REGISTERED if config and not config.register_pairs else ""
        nothing: dict[str, Any] = {"rows": [], "figure": None, "limit": limit, "unmeasured": unmeasured}
        return {**nothing, "refusals": _refusals(refusals)}
    ordered = table.sort_values(["after_p50_um", "subject_id", "stain"], ascending=[False, True, True])
    pairs = [
        (
            f"{row['subject_id'][:8]} {row['stain']}",
            _number(row["before_p50_um"]),
            _number(row["after_p50_um"]),
            _text(row["refused"]) is not None,
        )
        for row in ordered.to_dict("records")
    ]
    return {
        "rows": [_summary(str(stain), part) for stain, part in table.groupby("stain")],
        "figure": registration_figure(pairs, limit),
        "limit": limit,
        "refusals": _refusals(refusals),
    }


def _summary(stain: str, part: pd.DataFrame) -> dict[str, Any]:
    """Medians over the pairs of one stain; a pair whose error could not be measured has none."""
    names = ("before_p50_um", "before_p90_um", "after_p50_um", "after_p90_um")
    return {
        "stain": stain,
        "pairs": len(part),
        "refused": int(part["refused"].notna().sum()),
        **{name: _number(part[name].astype(float).median()) for name in names},
        **{f"{name}_n": int(part[name].notna().sum()) for name in names},
    }


def _refusals(table: pd.DataFrame) -> list[dict[str, Any]]:
    """What was refused, most frequent first: which slide, why, an example and what to do."""
    if table.empty:
        return []
    rows = [
        {
            "item": str(item),
            "code": str(code),
            "count": len(part),
            "reason": str(part["reason"].iloc[0]),
            "remedy": str(part["remedy"].iloc[0]),
        }
        for (item, code), part in table.groupby(["item", "code"])
    ]
    return sorted(rows, key=lambda row: (-row["count"], row["item"], row["code"]))


def _optional(path: Any) -> pd.DataFrame:
    return pd.read_parquet(path) if path.is_file() else pd.DataFrame()


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) and math.isfinite(value) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None
