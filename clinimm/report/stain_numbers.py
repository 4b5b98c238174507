"""One region in numbers: what a pathologist would count, on the real stain and on the virtual one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from clinimm.staining.biology import REAL, measure_stain
from clinimm.staining.prediction_store import Result

#: Measures of a region: title, and how a value is written.
_NUMBERS: Mapping[str, tuple[str, str]] = {
    "positivity_index": ("Positivity index", "share"),
    "h_score": ("H-score", "0"),
    "count": ("Nuclei", "0"),
    "density_per_mm2": ("Nuclei per mm²", "0"),
    "positive_area": ("Stained share of the area", "share"),
    "dice": ("Overlap with the real stained area (Dice)", "2"),
    "psnr": ("PSNR, dB", "1"),
    "ssim": ("SSIM", "2"),
}
_ALIKE = ("dice", "psnr", "ssim")
VIRTUAL, PIXELS_ALONE = "virtual", "pixels alone"


def region_numbers(result: Result, stain: str) -> tuple[list[dict[str, str]], str]:
    """Measures of the region where it is registered and not refused, or why there are none."""
    pair, made = result.region.pair, result.made[stain]
    if stain not in pair.targets:
        return [], "There is no real stain of this place to compare with."
    kept = pair.valid & ~result.refused(stain)
    if not kept.any():
        return [], "Every tile is refused, so nothing is counted."
    images = {VIRTUAL: [made.rgb]} | ({} if made.plain is None else {PIXELS_ALONE: [made.plain]})
    table = measure_stain([replace(pair, valid=kept)], stain, images).images
    measured = {str(row["method"]): row for row in table.to_dict("records")}
    rows = []
    for name, (title, how) in _NUMBERS.items():
        shown = {method: _written(float(measured[method][name]), how) for method in (REAL, *images)}
        rows.append({"title": title, **shown, **({REAL: ""} if name in _ALIKE else {})})
    return rows, ""


def _written(value: float, how: str) -> str:
    if not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}\u00a0%" if how == "share" else f"{value:,.{int(how)}f}"
