"""Does the last stage of registration, local shifts of windows, earn its place after B-splines?

    .venv/bin/python benchmarks/local_shifts.py [--pairs N] [--first SEED] [--pixels P] [--json F]

Simulated pairs of a large field (1 mm) whose target is moved, bent by up to 20 µm and torn: along a line both
sides gape by 8 to 20 µm, and glass shows between them. Every second pair is of neighbouring sections that
share six nuclei in ten. Each is registered as it is (0.5 µm a pixel), and at 4 µm a pixel, where no cell can
be seen. Error at nuclei that both slides show, µm: B-splines alone, and with local shifts after them. The
gain is paired, its interval (Student's t) over pairs. "near" is within 100 µm of the tear.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import registration
from jaxtyping import Float
from registration import UM, Image, Points, Scene, draw
from scipy import ndimage, stats

from clinimm.staining.compare import Comparison
from clinimm.staining.deformation import Deformation
from clinimm.staining.overviews import views_of
from clinimm.staining.picture import ArrayPicture
from clinimm.staining.refine_b_spline import refine_b_spline
from clinimm.staining.refine_smooth import likelier, refine_smooth
from clinimm.staining.register_pair import register

_KINDS = {"torn": (30, 10, 20, 1.0, False), "torn, neighbouring": (30, 10, 20, 0.6, False)}
_COARSER = (1, 8)
_FADE_UM, _NEAR_UM, _GLASS = 100.0, 100.0, 243
_SPACING_UM = 12.5


class Tear:
    """A cut of which both sides are drawn apart; the pull fades away from it. Points are (column, row)."""

    def __init__(self, seed: int, pixels: int) -> None:
        generator = np.random.default_rng([seed, 99])
        angle = generator.uniform(0, np.pi)
        self.far = generator.uniform(8, 20) / UM
        self.reach = generator.uniform(0.25, 0.4) * pixels
        self.middle = pixels * generator.uniform(0.35, 0.65, 2)
        self.normal = np.array([np.cos(angle), np.sin(angle)])

    def offset(self, points: Points) -> tuple[Points, np.ndarray, np.ndarray]:
        """From each point of the torn image to where it came from; whether it gapes; distance in pixels."""
        away = points - self.middle
        across, along = away @ self.normal, away @ np.array([-self.normal[1], self.normal[0]])
        size = self.far * np.clip(1 - (along / self.reach) ** 2, 0, 1)
        pull = size * np.exp(-np.maximum(np.abs(across) - size, 0) * UM / _FADE_UM)
        distance = np.hypot(across, np.maximum(np.abs(along) - self.reach, 0))
        return -(np.sign(across) * pull)[..., None] * self.normal, np.abs(across) < size, distance

    def tear(self, image: Image) -> Image:
        row, column = np.indices(image.shape[:2]).astype(float)
        offset, gap, _ = self.offset(np.stack([column, row], axis=-1))
        places = [row + offset[..., 1], column + offset[..., 0]]
        parts = [
            ndimage.map_coordinates(image[..., one], places, order=1, mode="nearest") for one in range(3)
        ]
        torn = np.stack(parts, axis=-1)
        torn[gap] = _GLASS
        return torn

    def moved(self, points: Points) -> tuple[Points, np.ndarray]:
        """Where points of the image lie in the torn one, and which of them lie there at all."""
        best, miss = points, np.full(len(points), np.inf)
        for side in (1, -1):  # a fixed point may be found from either side of the cut
            found = points + side * self.far * self.normal
            for _ in range(60):
                found = (found + points - self.offset(found)[0]) / 2
            offset, gap, _ = self.offset(found)
            own = np.where(gap, np.inf, np.linalg.norm(found + offset - points, axis=-1))
            best, miss = np.where((own < miss)[:, None], found, best), np.minimum(own, miss)
        return best, miss < 0.2


def torn(kind: str, seed: int, pixels: int) -> tuple[Scene, Float[np.ndarray, " point"]]:
    """A pair with its landmarks, and each landmark's distance from the tear, µm."""
    scene, tear = draw(kind, seed, pixels), Tear(seed, pixels)
    places, there = tear.moved(scene.target_points / UM - 0.5)
    inside = there & (places > 5).all(axis=1) & (places < pixels - 6).all(axis=1)
    near = tear.offset(places[inside])[2] * UM
    points = (places[inside] + 0.5) * UM
    return Scene(scene.source, tear.tear(scene.target), scene.source_points[inside], points), near


def coarser(image: Image, factor: int) -> Image:
    rows, columns = (side // factor for side in image.shape[:2])
    cut = image[: rows * factor, : columns * factor].reshape(rows, factor, columns, factor, 3)
    return cut.mean(axis=(1, 3)).round().astype(np.uint8)


def compared(scene: Scene, near: np.ndarray, factor: int) -> dict[str, float]:
    """Errors of B-splines alone and of both stages, on the affine map that registration itself found."""
    um, source, target = UM * factor, coarser(scene.source, factor), coarser(scene.target, factor)
    affine = register(source, target, um).affine
    pair, views, tissue = views_of(ArrayPicture(source, um), ArrayPicture(target, um))
    seen = Comparison(pair, tissue)
    straight = Deformation.still(affine, seen.extent_um, _SPACING_UM)
    bent = likelier(seen, straight, refine_b_spline(*views, straight))
    start = time.process_time()
    full = refine_smooth(seen, bent)
    row: dict[str, float] = {"um": um, "changed": full is not bent, "seconds": time.process_time() - start}
    for name, one in (("splines", bent), ("both", full)):
        error = np.linalg.norm(one.apply(scene.source_points) - scene.target_points, axis=-1)
        for where, chosen in (("all", error), ("near", error[near < _NEAR_UM])):
            for percent in (50, 90):
                row[f"{where} p{percent} {name}"] = float(np.percentile(chosen, percent))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=8)
    parser.add_argument("--first", type=int, default=200)
    parser.add_argument("--pixels", type=int, default=2048)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    registration.SCENES.update(_KINDS)
    rows = []
    for seed in range(given.first, given.first + given.pairs):
        scene, near = torn(list(_KINDS)[seed % len(_KINDS)], seed, given.pixels)
        rows += [{"seed": seed, **compared(scene, near, factor)} for factor in _COARSER]
        print(f"pair {seed} done", file=sys.stderr)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    report(pd.DataFrame(rows))


def report(table: pd.DataFrame) -> None:
    for um, own in table.groupby("um"):
        print(
            f"\n{um:g} µm a pixel, n = {len(own)} pairs; {int(own['changed'].sum())} changed by local shifts"
        )
        for what in ("all p50", "all p90", "near p50", "near p90"):
            before, after = own[f"{what} splines"], own[f"{what} both"]
            gain = before - after
            ends = gain.mean() + stats.t.ppf([0.025, 0.975], len(gain) - 1) * stats.sem(gain)
            print(
                f"{what}: {before.mean():.2f} -> {after.mean():.2f}, gain {gain.mean():+.2f} "
                f"({ends[0]:+.2f} to {ends[1]:+.2f})"
            )


if __name__ == "__main__":
    main()
