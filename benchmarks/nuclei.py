"""Nuclei found against nuclei drawn: the shipped detector beside a tuned classical baseline.

    .venv/bin/python benchmarks/nuclei.py [--data FOLDER] [--classifier] [--simulated N]

On the H&E images with drawn nuclei, leaving one image out: whatever is tuned is tuned on the others. Rows:

* ``otsu``: Otsu's threshold on haematoxylin (scikit-image's), small blobs removed, watershed on the distance
  to the edge; the smallest size and the seeds' distance are tuned.
* ``shipped``: ``clinimm.staining.nuclei`` with its defaults. Its steps (a threshold between Otsu's and the
  local mean of the tissue) were chosen while looking at these images, so this row is a little optimistic; its
  numbers were chosen on simulated tissue.
* ``shipped, tuned``: the same, tuned: what a site gains by tuning on its own slides.
* ``classifier`` (``--classifier``): gradient boosting on colour and texture of each pixel, a bound for what
  learning adds. It is never shipped: these images may not be, nor may weights that were fitted on them.

``--simulated N`` measures the detector on N simulated tissues instead, by stain, and tunes on N others.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TypeVar

import numpy as np
from scipy import ndimage

from clinimm.staining.agreement import mean_figure
from clinimm.staining.nuclei import (
    DEFAULT,
    Nuclei,
    NucleiScore,
    NucleiSettings,
    compare_nuclei,
    find_nuclei,
    split_touching,
    tune_nuclei,
)
from clinimm.staining.optical import EOSIN, HAEMATOXYLIN, Signal, amounts, optical_density

ROOT = Path(__file__).parents[1]
#: 40 x scans, as their publication states; components smaller than this are specks of the masks' JPEG.
RESOLUTION_UM = 0.25
SPECK_UM2 = 4.0
GRID = tuple(
    replace(DEFAULT, local_share=share, offset=offset, seed_smooth_um=smooth, seed_distance_um=apart)
    for share, offset, smooth, apart in product((0.3, 0.5, 0.7), (0.0, 0.02, 0.04), (0.8,), (2.0,))
)
OTSU_GRID = tuple(product((5.0, 10.0, 20.0), (2.0, 3.0)))
_SAMPLE = 12_000
Setting = TypeVar("Setting")


@dataclass(frozen=True)
class Example:
    """One image and its drawn nuclei."""

    rgb: np.ndarray
    drawn: Nuclei


def load_examples(folder: Path) -> list[Example]:
    """The images and masks of a folder, masks cut at 128."""
    from PIL import Image

    found = []
    for path in sorted((folder / "images").iterdir()):
        mask = np.asarray(Image.open(folder / "masks" / path.name).convert("L")) >= 128
        labels, _ = ndimage.label(mask)
        size = np.bincount(labels.ravel()) * RESOLUTION_UM**2
        kept = size >= SPECK_UM2
        kept[0] = False
        drawn = Nuclei(np.where(kept, np.cumsum(kept), 0).astype(np.int32)[labels], RESOLUTION_UM)
        found.append(Example(np.asarray(Image.open(path).convert("RGB")), drawn))
    return found


def otsu_nuclei(rgb: np.ndarray, smallest_um2: float, apart_um: float) -> Nuclei:
    """The baseline: what a first script with scikit-image does, at full resolution."""
    from skimage.color import rgb2hed
    from skimage.feature import peak_local_max
    from skimage.filters import threshold_otsu
    from skimage.morphology import remove_small_objects
    from skimage.segmentation import watershed

    blue = ndimage.gaussian_filter(rgb2hed(rgb)[..., 0], 0.5 / RESOLUTION_UM)
    mask = remove_small_objects(blue > threshold_otsu(blue), max_size=int(smallest_um2 / RESOLUTION_UM**2))
    mask = ndimage.binary_fill_holes(mask)
    distance = ndimage.gaussian_filter(ndimage.distance_transform_edt(mask), 0.5 / RESOLUTION_UM)
    blobs, _ = ndimage.label(mask)
    seeds = peak_local_max(
        distance, min_distance=round(apart_um / RESOLUTION_UM), labels=blobs, exclude_border=False
    )
    markers = np.zeros(mask.shape, np.int32)
    markers[tuple(seeds.T)] = np.arange(1, len(seeds) + 1)
    return Nuclei(watershed(-distance, markers, mask=mask).astype(np.int32), RESOLUTION_UM)


def merit(scores: Sequence[NucleiScore]) -> float:
    """What is tuned for; the same as ``tune_nuclei``'s."""
    return float(np.mean([(one.dice + one.f1) / 2 - abs(one.count_error) for one in scores]))


def leave_one_out(
    examples: Sequence[Example], grid: Sequence[Setting], find: Callable[[np.ndarray, Setting], Nuclei]
) -> list[NucleiScore]:
    """Each image's score under the setting that is best on the others; every setting is run once."""
    scores = [[compare_nuclei(find(one.rgb, setting), one.drawn) for one in examples] for setting in grid]
    found = []
    for place in range(len(examples)):
        others = [merit([row[other] for other in range(len(row)) if other != place]) for row in scores]
        found.append(scores[int(np.argmax(others))][place])
    return found


def texture(rgb: np.ndarray) -> np.ndarray:
    """Colour and texture of every pixel at several scales, and the same against the image's own spread."""
    density = optical_density(rgb)
    dyes = np.dstack([density, amounts(rgb, (HAEMATOXYLIN, EOSIN))[..., 1]])
    parts = [ndimage.gaussian_filter(dyes, (s, s, 0)) for s in (0.5, 1, 2, 4, 8, 20)]
    parts += [ndimage.gaussian_laplace(density[..., 0], s)[..., None] * s**2 for s in (1, 2, 3, 5)]
    parts += [ndimage.gaussian_gradient_magnitude(density[..., 0], s)[..., None] * s for s in (1, 2, 3, 5)]
    flat = np.dstack(parts).reshape(rgb.shape[0] * rgb.shape[1], -1)
    low, middle, high = np.percentile(flat, (10, 50, 90), axis=0)
    return np.concatenate([flat, (flat - middle) / (high - low + 1e-6)], axis=1).astype(np.float32)


def classified(examples: Sequence[Example]) -> Iterator[NucleiScore]:
    """Each image's score under a pixel classifier that was trained on the others, at 0.5 µm a pixel."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    generator = np.random.default_rng(0)
    small = [
        one.rgb.reshape(500, 2, 500, 2, 3).mean(axis=(1, 3)).round().astype(np.uint8) for one in examples
    ]
    features = [texture(rgb) for rgb in small]
    truth = [one.drawn.mask[::2, ::2].ravel() for one in examples]
    settings = replace(DEFAULT, seed_smooth_um=1.0)
    for place, one in enumerate(examples):
        picked = [(k, generator.choice(len(truth[k]), _SAMPLE)) for k in range(len(examples)) if k != place]
        model = HistGradientBoostingClassifier(max_iter=150, l2_regularization=1.0, random_state=0)
        model.fit(
            np.concatenate([features[k][rows] for k, rows in picked]),
            np.concatenate([truth[k][rows] for k, rows in picked]),
        )
        mask = (model.predict_proba(features[place])[:, 1] > 0.4).reshape(small[place].shape[:2])
        labels = np.kron(split_touching(mask, 0.5, settings), np.ones((2, 2), np.int32))
        yield compare_nuclei(Nuclei(labels, RESOLUTION_UM), one.drawn)


def report(rows: dict[str, list[NucleiScore]], reference: str) -> str:
    """A Markdown table: means over images with Student's intervals, and paired differences."""
    first = next(iter(rows.values()))
    lines = [
        f"n = {len(first)} images, {sum(one.drawn for one in first):,} nuclei; 95 % intervals by image.",
        "",
        "| method | Dice | F1 of centres | count error, absolute | count bias "
        f"| Dice less {reference} | F1 less {reference} | count error less {reference} |",
        "|" + "---|" * 8,
    ]
    for name, scores in rows.items():
        own, other = _columns(scores), _columns(rows[reference])
        cells = [mean_figure(column) for column in own]
        gaps = [mean_figure(own[k] - other[k]) for k in range(3)] if name != reference else []
        shown = [f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in cells]
        shown += [f"{one.value:+.3f} ({one.low:+.3f} to {one.high:+.3f})" for one in gaps] or [""] * 3
        lines.append("| " + " | ".join([name, *shown]) + " |")
    return "\n".join(lines)


def _columns(scores: Sequence[NucleiScore]) -> list[np.ndarray]:
    error = np.array([one.count_error for one in scores])
    return [
        np.array([one.dice for one in scores]),
        np.array([one.f1 for one in scores]),
        np.abs(error),
        error,
    ]


def simulated(count: int) -> str:
    """The detector on simulated tissue, and the settings that tuning on other such tissue takes."""
    from clinimm.simulate.tissue import draw_tissue
    from clinimm.simulate.tissue_plan import StainPlan, plan_tissue

    generator = np.random.default_rng(0)
    markers = ("KI67", "PANCK", "CD3")
    stains = tuple(StainPlan(marker) for marker in markers)
    tissues = [draw_tissue(plan_tissue(generator, 256, stains)) for _ in range(2 * count)]
    drawn = [Nuclei(tissue.labels, 0.5) for tissue in tissues]
    found: dict[str, list[NucleiScore]] = {"H&E": []}
    for tissue, truth in zip(tissues[count:], drawn[count:], strict=True):
        found["H&E"].append(compare_nuclei(find_nuclei(tissue.he, 0.5), truth))
        for marker in markers:
            score = compare_nuclei(find_nuclei(tissue.ihc[marker], 0.5, Signal.DAB), truth)
            found.setdefault(marker, []).append(score)
    best = tune_nuclei([(t.he, n) for t, n in zip(tissues[:count], drawn, strict=False)], GRID)
    tuned = [
        compare_nuclei(find_nuclei(tissue.he, 0.5, None, best), truth)
        for tissue, truth in zip(tissues[count:], drawn[count:], strict=True)
    ]
    return f"{report({**found, 'H&E, tuned': tuned}, 'H&E')}\n\nTuned on {count} others: {best}"


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("CLINIMM_TEST_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default) / "stains" / "nuclei")
    parser.add_argument("--classifier", action="store_true")
    parser.add_argument("--simulated", type=int, default=0, metavar="N")
    arguments = parser.parse_args()
    if arguments.simulated:
        print(simulated(arguments.simulated))
        return 0
    if not (arguments.data / "images").is_dir():
        print(f"No nuclei set at {arguments.data}: give its folder with --data.", file=sys.stderr)
        return 2
    examples = load_examples(arguments.data)
    started = time.process_time()
    shipped = [compare_nuclei(find_nuclei(one.rgb, RESOLUTION_UM), one.drawn) for one in examples]
    seconds = (time.process_time() - started) / len(examples)

    def find(rgb: np.ndarray, settings: NucleiSettings) -> Nuclei:
        return find_nuclei(rgb, RESOLUTION_UM, None, settings)

    rows = {
        "otsu": leave_one_out(examples, OTSU_GRID, lambda rgb, two: otsu_nuclei(rgb, *two)),
        "shipped": shipped,
        "shipped, tuned": leave_one_out(examples, GRID, find),
    }
    if arguments.classifier:
        rows["classifier"] = list(classified(examples))
    print(report(rows, "otsu"))
    print(f"\nShipped: {seconds:.2f} processor seconds an image of a megapixel, comparison included.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
