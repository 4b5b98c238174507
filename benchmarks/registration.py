"""How near registered stains lie, and what the gate lets through, beside simpler ways in the same run.

    .venv/bin/python benchmarks/registration.py [--pairs N] [--first SEED] [--pixels P] [--data D] [--json F]

Simulated tissue of known deformation: H&E against an immunostain or a drawn nuclear fluorescence of the
same section, moved by a known map. Error at landmarks (nuclei) in µm, before, by shift alone
(scikit-image's phase correlation), rigid alone, affine alone, affine with local shifts, affine with
B-splines (each stage without the other), and all of it. Gate: how many pairs that belong together are
refused, and how many that do not (other tissue) or of which only the tissue matches (consecutive sections)
are passed. Intervals are bootstraps over pairs. With the licensed data: panels of known shift, and lesions
on consecutive sections.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from scipy import ndimage
from scipy.spatial import cKDTree

from clinimm.datasets.stain_pairs import HE_IHC_UM, PANELS_UM, read_he_ihc, read_panels
from clinimm.simulate.misregister import Misregistration
from clinimm.simulate.tissue import draw_tissue
from clinimm.simulate.tissue_plan import MARKERS, StainPlan, TissuePlan
from clinimm.staining.compare import Comparison
from clinimm.staining.deformation import IDENTITY, Affine, Deformation
from clinimm.staining.overviews import views_of
from clinimm.staining.picture import ArrayPicture
from clinimm.staining.refine_b_spline import refine_b_spline
from clinimm.staining.refine_smooth import refine_smooth
from clinimm.staining.register_gate import MAX_ERROR_UM, ErrorEstimate
from clinimm.staining.register_pair import Registration, register
from clinimm.staining.structure import fit_scale, structure

Points = Float[np.ndarray, "point 2"]
Image = UInt8[np.ndarray, "row column 3"]
Map = Callable[[Points], Points]

UM = 0.5
#: name -> largest shift (µm), rotation (degrees) and deformation (µm), nuclei shared, fluorescence.
SCENES: dict[str, tuple[float, float, float, float, bool]] = {
    "restained, near": (10, 2, 4, 1.0, False),
    "restained, far": (50, 180, 8, 1.0, False),
    "fluorescence": (30, 20, 6, 1.0, True),
    "consecutive 0.6": (30, 10, 8, 0.6, False),
    "consecutive 0.2": (30, 10, 8, 0.2, False),
}
_SHIFTS_ONLY, _ALL = "affine + local shifts", "registered"
#: (y, x) pixels by which the panels of a tile lie off, found before by phase correlation of whole panels; the
#: tiles in the order of their files, the panels in that of ``datasets.stain_pairs.PANELS``.
_KNOWN = (
    ((0.8, 6.9), (-2.4, 10.5), (3.2, 10.8), (-2.5, 10.0)),
    ((-6.3, 0.3), (-4.3, -2.3), (-3.5, 0.3), (-2.4, -3.1)),
)


@dataclass(frozen=True)
class Scene:
    """A simulated pair with its landmarks, µm."""

    source: Image
    target: Image
    source_points: Points
    target_points: Points


@dataclass
class Outcome:
    """What came of one kind of pair."""

    errors: dict[str, list[np.ndarray]] = field(default_factory=dict)
    refused: list[str | None] = field(default_factory=list)
    true_p90: list[float] = field(default_factory=list)
    own_p50: list[float | None] = field(default_factory=list)
    own_p90: list[float | None] = field(default_factory=list)
    judged: list[float] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


def draw(kind: str, seed: int, pixels: int) -> Scene:
    shift, turn, bend, shared, fluorescent = SCENES[kind]
    generator = np.random.default_rng([seed, len(kind)])
    angle = generator.uniform(0, 2 * np.pi)
    far = shift * generator.uniform(0.4, 1)
    move = Misregistration(
        (far * np.cos(angle), far * np.sin(angle)),
        float(generator.uniform(-turn, turn)),
        bend * generator.uniform(0.4, 1),
        int(generator.integers(2**31)),
    )
    marker = sorted(MARKERS)[seed % len(MARKERS)]
    stain = StainPlan(marker, shared_nuclei=shared, move=move, seed=seed)
    tissue = draw_tissue(TissuePlan(pixels=pixels, um_per_pixel=UM, seed=seed, stains=(stain,)))
    section = tissue.sections[marker]
    nuclei = np.stack([section.nuclei.column, section.nuclei.row], axis=-1).astype(float)
    source, target = counterparts(nuclei, section.offset())
    image = fluorescence(section.labels, section.offset(), generator) if fluorescent else section.rgb
    return Scene(tissue.he, image, (source + 0.5) * UM, (target + 0.5) * UM)


def counterparts(points: Points, offset: Float[np.ndarray, "2 row column"]) -> tuple[Points, Points]:
    """Points (column, row) of the source that the target shows, and where; inverted on the pixel grid.

    ``offset`` leads from each target pixel to its place in the source.
    """
    row, column = np.indices(offset.shape[1:])
    place = np.stack([column + offset[0], row + offset[1]], axis=-1)
    away, index = cKDTree(place.reshape(-1, 2)).query(points)
    near = np.unravel_index(index, row.shape)
    along = np.stack([np.gradient(place[..., axis])[::-1] for axis in (0, 1)])
    slope = np.moveaxis(along[(slice(None), slice(None), *near)], -1, 0)
    rest = np.linalg.solve(slope, (points - place[near])[..., None])[..., 0]
    inside = away < 1
    return points[inside], (np.stack(near[::-1], axis=-1) + rest)[inside]


def fluorescence(
    labels: np.ndarray, offset: Float[np.ndarray, "2 row column"], generator: np.random.Generator
) -> Image:
    """Nuclei of uneven brightness, with haze and noise, on black; drawn from the H&E's labels, then moved."""
    bright = np.concatenate([[0.0], generator.uniform(0.25, 1.0, int(labels.max()))])[labels]
    texture = 1 + ndimage.gaussian_filter(generator.standard_normal(labels.shape), 1.5)
    light = ndimage.gaussian_filter(bright * texture, 1.2) + 0.25 * ndimage.gaussian_filter(bright, 12)
    row, column = np.indices(labels.shape)
    moved = ndimage.map_coordinates(light, [row + offset[1], column + offset[0]], order=1)
    grey = np.clip(moved * 170 + generator.normal(6, 3, labels.shape), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=-1)


def shift_alone(source: Image, target: Image) -> Map:
    from skimage.registration import phase_cross_correlation

    views = [structure(image, fit_scale(image)) for image in (source, target)]
    shift, _, _ = phase_cross_correlation(*views, upsample_factor=10)
    return lambda points: points - np.asarray(shift)[::-1] * UM


def stages(scene: Scene, affine: Affine) -> dict[str, Map]:
    """The stages after affine, each without the other."""
    pair, views, tissue = views_of(ArrayPicture(scene.source, UM), ArrayPicture(scene.target, UM))
    seen = Comparison(pair, tissue)
    straight = Deformation.still(affine, seen.extent_um, 12.5)
    return {
        _SHIFTS_ONLY: refine_smooth(seen, straight).apply,
        "affine + B-splines": refine_b_spline(*views, straight).apply,
    }


def measure(kind: str, seeds: range, pixels: int) -> Outcome:
    outcome = Outcome()
    for seed in seeds:
        scene = draw(kind, seed, pixels)
        landmarks = scene.source_points, scene.target_points
        start = time.process_time()
        found = register(scene.source, scene.target, UM, landmarks=None)
        outcome.seconds.append(time.process_time() - start)
        maps: dict[str, Map] = {
            "before": IDENTITY.apply,
            "shift alone": shift_alone(scene.source, scene.target),
            "rigid alone": found.rigid.apply,
            "affine alone": found.affine.apply,
            **stages(scene, found.affine),
            _ALL: found.deformation.apply,
        }
        for name, one in maps.items():
            misses = np.linalg.norm(one(landmarks[0]) - landmarks[1], axis=-1)
            outcome.errors.setdefault(name, []).append(misses)
        note(outcome, found)
        outcome.true_p90.append(float(np.percentile(outcome.errors[_ALL][-1], 90)))
        print(f"  {kind}, seed {seed} of {seeds}", file=sys.stderr, flush=True)
    return outcome


def measure_strangers(seeds: range, pixels: int) -> Outcome:
    """Source and target of different blocks."""
    outcome = Outcome()
    for seed in seeds:
        kind = ("restained, near", "fluorescence")[seed % 2]
        one, other = draw(kind, seed, pixels), draw(kind, 1000 + seed, pixels)
        note(outcome, register(one.source, other.target, UM))
        outcome.true_p90.append(np.inf)
    return outcome


def note(outcome: Outcome, found: Registration) -> None:
    outcome.refused.append(None if found.refused is None else found.refused.code)
    outcome.own_p50.append(found.error_um.p50_um)
    outcome.own_p90.append(found.error_um.p90_um)
    outcome.judged.append(found.error_um.judged_share)
    outcome.places.append(found.error_um.places)


def interval(errors: list[np.ndarray], percent: float, draws: int = 2000) -> tuple[float, float]:
    """95 % percentile bootstrap over pairs of a percentile of all landmarks."""
    generator = np.random.default_rng(0)
    values = [
        np.percentile(
            np.concatenate([errors[i] for i in generator.integers(0, len(errors), len(errors))]), percent
        )
        for _ in range(draws)
    ]
    low, high = np.percentile(values, (2.5, 97.5))
    return float(low), float(high)


def show(kind: str, outcome: Outcome) -> dict[str, Any]:
    print(f"\n{kind}: {len(outcome.refused)} pairs", flush=True)
    rows: dict[str, Any] = {}
    for name, errors in outcome.errors.items():
        pooled = np.concatenate(errors)
        cells = []
        for percent in (50, 90):
            low, high = interval(errors, percent)
            value = float(np.percentile(pooled, percent))
            cells.append(f"p{percent} {value:7.2f} [{low:6.2f}, {high:6.2f}]")
            rows.setdefault(name, {})[f"p{percent}"] = [value, low, high]
        print(f"  {name:<20} {'  '.join(cells)} µm   n = {len(pooled)} landmarks", flush=True)
    if _SHIFTS_ONLY in outcome.errors:
        print("  p90 of registered less that of affine + local shifts, µm a pair: " + gain(outcome.errors))
    codes = {str(code): outcome.refused.count(code) for code in sorted(set(outcome.refused), key=str)}
    passed = [code is None for code in outcome.refused]
    bad = sum(one and true > MAX_ERROR_UM for one, true in zip(passed, outcome.true_p90, strict=True))
    good = sum(not one and true <= MAX_ERROR_UM for one, true in zip(passed, outcome.true_p90, strict=True))
    print(
        f"  gate: {codes}; passed though p90 at landmarks is above 3 µm: {bad}; refused though below: {good}"
    )
    print(f"  windows judged: {spread(outcome.judged)}; windows: {spread(outcome.places)}")
    if own := [value for value in outcome.own_p90 if value is not None]:
        print(f"  p90 by own estimate, µm: {spread(own)}; by landmarks: {spread(outcome.true_p90)}")
    if outcome.seconds:
        print(f"  processor seconds a pair: median {np.median(outcome.seconds):.1f}")
    return {
        "errors": rows,
        "gate": codes,
        "bad_passed": bad,
        "good_refused": good,
        "judged": outcome.judged,
        "places": outcome.places,
        "refused": outcome.refused,
        "true_p90": outcome.true_p90,
        "own_p90": outcome.own_p90,
    }


def gain(errors: dict[str, list[np.ndarray]], draws: int = 2000) -> str:
    """The mean paired difference with its 95 % bootstrap interval over pairs."""
    ends = [np.array([np.percentile(one, 90) for one in errors[name]]) for name in (_ALL, _SHIFTS_ONLY)]
    differences = ends[0] - ends[1]
    picked = np.random.default_rng(0).integers(0, len(differences), (draws, len(differences)))
    low, high = np.percentile(differences[picked].mean(axis=1), (2.5, 97.5))
    return f"{differences.mean():+.2f} [{low:+.2f}, {high:+.2f}] (n = {len(differences)})"


def spread(values: Sequence[float]) -> str:
    return f"median {np.median(values):.2f}, range {min(values):.2f} to {max(values):.2f} (n = {len(values)})"


@dataclass(frozen=True)
class RealPair:
    """A licensed pair: what it is called here, its images, µm a pixel, and what is known of its shift.

    ``magnified`` is as how many times as large the registration sees it (``staining.register_images``).
    """

    name: str
    source: Image
    target: Image
    um: float
    magnified: float
    told: str


def real_pairs(data: Path) -> Iterator[RealPair]:
    if (folder := data / "stains" / "deepliif" / "train").is_dir():
        for images, known in zip(read_panels(folder).images, _KNOWN, strict=True):
            for (name, target), shift in zip(images.targets.items(), known, strict=True):
                down, right = (pixels * PANELS_UM for pixels in shift)
                told = f"known shift {np.hypot(down, right):.2f} µm ({-right:+.2f}, {-down:+.2f})"
                called = f"{images.subject}, IHC to {name}"
                yield RealPair(called, images.source, target, PANELS_UM, 2.0, told)
    if (folder := data / "stains" / "lesion_he_ihc").is_dir():
        for images in read_he_ihc(folder).images:
            for name, target in images.targets.items():
                yield RealPair(f"lesion H&E to {name}", images.source, target, HE_IHC_UM, 1.0, "no truth")


def show_real(data: Path) -> None:
    print("\nreal pairs (own estimate; no landmarks; resolutions assumed)")
    for pair in real_pairs(data):
        seen_um = pair.um * pair.magnified
        found = register(pair.source, pair.target, seen_um, max_error_um=MAX_ERROR_UM * pair.magnified)
        middle = np.array([pair.source.shape[1::-1]]) * seen_um / 2
        moved = (found.deformation.apply(middle) - middle)[0] / pair.magnified
        refused = "passed" if found.refused is None else str(found.refused)
        print(
            f"  {pair.name:<28} before {words(found.before, pair.magnified)}  after "
            f"{words(found.error_um, pair.magnified)}\n"
            f"    moved at the middle {np.hypot(*moved):.2f} µm ({moved[0]:+.2f}, {moved[1]:+.2f}); "
            f"{pair.told}; least Jacobian {found.least_jacobian:.2f}; {refused}",
            flush=True,
        )


def words(error: ErrorEstimate, magnified: float) -> str:
    if error.p50_um is None or error.p90_um is None:
        return f"not judged (n = {error.judged}/{error.places})"
    p50, p90 = error.p50_um / magnified, error.p90_um / magnified
    return f"{p50:.2f} / {p90:.2f} µm ({error.scale}, n = {error.judged}/{error.places})"


def main() -> None:
    here = Path(os.environ.get("CLINIMM_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=12)
    parser.add_argument("--first", type=int, default=0, help="seed of the first pair")
    parser.add_argument("--pixels", type=int, default=640)
    parser.add_argument("--data", type=Path, default=here)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    parser.add_argument("--only", choices=[*SCENES, "strangers", "real"], help="one part of it")
    given = parser.parse_args()
    figures = {}
    seeds = range(given.first, given.first + given.pairs)
    for kind in SCENES:
        if given.only in (None, kind):
            figures[kind] = show(kind, measure(kind, seeds, given.pixels))
    if given.only in (None, "strangers"):
        figures["strangers"] = show("strangers", measure_strangers(seeds, given.pixels))
    if given.only in (None, "real"):
        show_real(given.data)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
