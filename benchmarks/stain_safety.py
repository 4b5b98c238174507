"""The safety case of virtual staining on simulated tissue, where truth and artefacts are known.

    .venv/bin/python benchmarks/stain_safety.py [--subjects N] [--seed N] [--out FILE]

Tissue is simulated, a small stainer (H&E to Ki67, two members) is trained on a third of the subjects,
the safety case is fitted on a further quarter, and judged on the rest: expected against observed
error, AUROC of the hallucination score on one planted nucleus a tile, AUROC of the out-of-distribution
score for each artefact, and what refusal buys. Intervals are over subjects.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from clinimm.config import StainingConfig
from clinimm.simulate.stain_look import draw_look
from clinimm.simulate.tissue import Tissue, draw_tissue
from clinimm.simulate.tissue_plan import StainPlan, plan_tissue
from clinimm.staining.agreement import Figure
from clinimm.staining.fit_safety import fit_safety
from clinimm.staining.pairs import StainPair
from clinimm.staining.refusal import MOST_DAMAGE, Thresholds
from clinimm.staining.safety import TileExample
from clinimm.staining.safety_evidence import StainEvidence, judge_safety
from clinimm.staining.stainer import Stained, Stainer
from clinimm.staining.tile_examples import tile_examples
from clinimm.staining.train_stainer import train_stainer

STAIN, SITE, PIXELS, TILE = "KI67", "northfield", 512, 256
CHEAP = StainingConfig(
    width=12,
    members=2,
    crop_pixels=96,
    crops_per_step=6,
    steps=300,
    perceptual_weight=0.0,
    allow_synthetic_input=True,
)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--subjects", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="figures as JSON")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)
    began = time.process_time()
    tissues = [simulate(chosen.seed, index) for index in range(chosen.subjects)]
    pairs = [as_pair(index, tissue) for index, tissue in enumerate(tissues)]
    first, second = round(len(pairs) * 0.35), round(len(pairs) * 0.6)
    stainer = train_stainer(pairs[:first], pairs[first:second], CHEAP, chosen.seed)

    def run(image: Tensor, stain: str, subject_id: str) -> Stained:
        stained: Stained = stainer(image, stainer.stain_index(stain, len(image)))
        return stained

    train, tuning, held_out = (
        tile_examples(run, stainer.stride, part, TILE)
        for part in (pairs[:first], pairs[first:second], pairs[second:])
    )
    case = fit_safety(train, tuning, CHEAP.resolution_um, CHEAP.refuse_share, seed=chosen.seed)
    nuclei = [
        np.stack([tissue.nuclei.row, tissue.nuclei.column], axis=1).round().astype(np.int64)
        for tissue in tissues[second:]
    ]
    began_judging = time.process_time()
    for one in held_out:
        case.refuse(one.source, one.stained, one.damage)
    each_ms = 1000 * (time.process_time() - began_judging) / len(held_out)
    found = judge_safety(case, run, stainer.stride, pairs[second:], nuclei, chosen.seed)[STAIN]
    print(report(stainer, found))
    print(thresholds_report(case.stains[STAIN].thresholds, held_out))
    print(f"\n{each_ms:.0f} ms a tile of {TILE} px; {time.process_time() - began:.0f} s of processor in all")
    if chosen.out:
        chosen.out.write_text(json.dumps(found.to_json(), indent=1) + "\n", encoding="utf-8")


def simulate(seed: int, index: int) -> Tissue:
    generator = np.random.default_rng([seed, index])
    stain = StainPlan(STAIN, look=draw_look(SITE, generator), seed=index)
    return draw_tissue(plan_tissue(generator, PIXELS, (stain,), look=draw_look(SITE, generator)))


def as_pair(index: int, tissue: Tissue) -> StainPair:
    target = tissue.sections[STAIN].aligned
    valid = np.ones(target.shape[:2], dtype=bool)
    return StainPair(f"subject-{index}", "block", tissue.he, {STAIN: target}, valid, 0.5, synthetic=True)


def report(stainer: Stainer, found: StainEvidence) -> str:
    calibration = found.reliability
    lines = [
        f"Halo {stainer.halo} px; {found.tiles} held-out tiles of {found.refused.n} subjects.\n",
        "| expected error (of 255) | observed | pixels |",
        "|---|---|---|",
    ]
    lines += [
        f"| {255 * row.expected:.2f} | {in_grey_levels(row.observed)} | {row.pixels} |"
        for row in calibration.rows
    ]
    lines.append(f"\nCalibration error {in_grey_levels(calibration.calibration_error)} of 255.")
    lines += [
        f"Interval at {level:.0%}: holds {share(figure)}" for level, figure in calibration.coverage.items()
    ]
    lines += ["\n| planted | AUROC | tiles refused |", "|---|---|---|"]
    lines += [f"| nucleus {kind} | {figure.text()} | |" for kind, figure in found.planted.items()]
    lines += [
        f"| {kind} | {figure.text()} | {share(found.outside_refused[kind])} |"
        for kind, figure in found.outside.items()
    ]
    lines.append(f"| nothing | | {share(found.refused)} |")
    lines += ["\n| refusal | area | random | oracle | gain |", "|---|---|---|---|---|"]
    for name, curve in (("untouched tiles", found.curve), ("with spoiled tiles", found.spoiled_curve)):
        areas = " | ".join(in_grey_levels(one) for one in (curve.area, curve.random, curve.oracle))
        lines.append(f"| {name} (n = {curve.tiles}) | {areas} | {curve.gain.text()} |")
    return "\n".join(lines)


def thresholds_report(thresholds: Thresholds, held_out: Sequence[TileExample]) -> str:
    """What refusal was set to and what it expects of new subjects; whether sound tissue counts as damaged."""
    damaged = sum(one.damage.share > MOST_DAMAGE for one in held_out)
    lines = [f"\nQuality control calls {damaged} of {len(held_out)} untouched held-out tiles damaged."]
    if (expected := thresholds.left_out) is not None:
        lines.append(
            f"Aim {thresholds.aim:.0%}; of a tuning subject that was left out {expected.share:.1%} is "
            f"refused (n = {expected.subjects} subjects, which promise no less than {expected.promised:.0%})."
        )
    return "\n".join(lines)


def in_grey_levels(figure: Figure) -> str:
    return f"{255 * figure.value:.2f} ({255 * figure.low:.2f} to {255 * figure.high:.2f})"


def share(figure: Figure) -> str:
    return f"{figure.value:.1%} ({figure.low:.1%} to {figure.high:.1%})"


if __name__ == "__main__":
    main()
