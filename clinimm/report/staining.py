"""The report stage of a staining run: a page of figures, and pages of regions to look at."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clinimm.core.record import write_bytes, write_text
from clinimm.progress import Progress
from clinimm.report.page import data_uri
from clinimm.report.stain_choice import Choice, choose_regions
from clinimm.report.stain_facts import StainFacts
from clinimm.report.stain_figures import standalone
from clinimm.report.stain_page import figures_of, stain_page
from clinimm.report.stain_pictures import coloured, marked_png, strip, with_refused
from clinimm.report.stain_region import WARNING, error_scale, provenance, region_page
from clinimm.staining.pair_store import PairStore
from clinimm.staining.prediction_store import Result, Results
from clinimm.workspace import Workspace

_STRIP, _THUMBNAIL = 512, 224


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Write ``report/index.html``, ``report/regions/*.html`` and ``report/figures``.

    Raises:
        MissingStageError: the run was not encoded, predicted or evaluated yet.
    """
    facts = StainFacts(workspace)
    results = _results(workspace)
    chosen = choose_regions(results, workspace.config.report.patients)
    shown = list(results.some([choice.row for choice in chosen]))
    most_error = error_scale(shown)
    folder = workspace.stage("report")
    entries = []
    pages = list(zip(chosen, shown, strict=True))
    for number, (choice, result) in enumerate(progress.track(pages, "region pages", len(pages)), start=1):
        page = region_page(facts, result, choice, number, len(pages), most_error)
        write_text(folder / "regions" / f"{number}.html", page)
        entries.append(_entry(facts, result, choice, number, most_error))
    write_text(folder / "index.html", stain_page(facts, entries))
    figures = write_figures(workspace, folder / "figures")
    return {
        "regions": len(entries),
        "figures": len(figures),
        "index": "report/index.html",
        "worst_risk": chosen[0].risk if chosen else None,
    }


def write_figures(workspace: Workspace, folder: Path) -> list[Path]:
    """Every figure as SVG, and the chosen regions as PNG, for whoever tracks the run.

    Reads what the stages before ``register`` left, so it may be called before the report is written.

    Args:
        workspace: a run that was evaluated.
        folder: made where it is absent.
    """
    facts = StainFacts(workspace)
    paths = []
    for name, figure in figures_of(facts).items():
        paths.append(folder / f"{_file_name(name)}.svg")
        write_bytes(paths[-1], standalone(figure))
    results = _results(workspace)
    chosen = choose_regions(results, workspace.config.report.patients)
    shown = list(results.some([choice.row for choice in chosen]))
    most_error = error_scale(shown)
    for number, result in enumerate(shown, start=1):
        for stain in sorted(result.made):
            paths.append(folder / f"region-{number}-{_file_name(stain)}.png")
            write_bytes(paths[-1], _strip(facts, result, stain, most_error, _STRIP))
    return paths


def _results(workspace: Workspace) -> Results:
    pairs = PairStore(workspace.need("encode", "pairs/pairs.parquet").parent)
    return Results(workspace.need("predict", "regions.parquet").parent, pairs)


def _entry(
    facts: StainFacts, result: Result, choice: Choice, number: int, most_error: float
) -> dict[str, Any]:
    """What the index says of a region."""
    pair = result.region.pair
    return {
        "number": number,
        "href": f"regions/{number}.html",
        "subject_id": pair.subject_id,
        "specimen": pair.specimen,
        "choice": choice,
        "strips": [
            {
                "stain": stain,
                "names": (*_names(result, stain)[:-1], f"expected error, 0 to {100 * most_error:g}\u00a0%"),
                "refused": int(result.tiles.loc[result.tiles["stain"] == stain, "refused"].sum()),
                "tiles": int((result.tiles["stain"] == stain).sum()),
                "uri": data_uri(_strip(facts, result, stain, most_error, _THUMBNAIL), "image/png"),
                "said": f"{', '.join(_names(result, stain))}. {WARNING}.",
            }
            for stain in sorted(result.made)
        ],
    }


def _file_name(name: str) -> str:
    """A name that any file system takes.

    >>> _file_name("refusal-PD-L1 (22C3)")
    'refusal-PD-L1_22C3_'
    """
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name)


def _names(result: Result, stain: str) -> Sequence[str]:
    real = ("real",) if stain in result.region.pair.targets else ()
    return ("source", f"virtual {stain}", *real, "expected error")


def _strip(facts: StainFacts, result: Result, stain: str, most_error: float, side: int) -> bytes:
    """Source, virtual, real and expected error in a row, marked as every virtual stain is."""
    pair, made = result.region.pair, result.made[stain]
    real = pair.targets.get(stain)
    pictures = [
        (pair.source, None),
        (with_refused(made.rgb, result.refused(stain)), stain),
        *([] if real is None else [(real, None)]),
        (coloured(made.expected_error, most_error), None),
    ]
    return marked_png(strip(pictures, side), provenance(facts, result, stain))
