"""How often the verdict on a stain is right, on simulated tissue whose truth is known.

    .venv/bin/python benchmarks/stain_verdict.py [--seeds N] [--first N] [--subjects N] [--pixels N]

No network is trained: two ideal ones are drawn. ``twin`` is the same tissue with all that chance decides
drawn anew, what a perfect generator of plausible stains would show; ``mean`` is the mean of three twins, what
a perfect regression would show. Where the stain is determined by the H&E both know it; where it is a toss
neither does, but both know every nucleus, and both look right. The table counts the verdicts.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import replace

import numpy as np

from clinimm.simulate.tissue import draw_tissue
from clinimm.simulate.tissue_plan import Rule, StainPlan, plan_tissue
from clinimm.staining.baselines import fit_baselines
from clinimm.staining.biology import BiologySettings, measure_stain
from clinimm.staining.pairs import StainPair
from clinimm.staining.verdict import evidence_of, judge_stain

STAIN = "KI67"
RULES: tuple[Rule, ...] = ("determined", "undetermined")
_TRAINING = 4
_TWINS = 3


def draw(seed: int, rule: Rule, section: int, pixels: int) -> StainPair:
    """A subject's pair; another section shares the tissue and not the stain's chances."""
    stain = StainPlan(STAIN, rule, seed=1000 * seed + section)
    tissue = draw_tissue(plan_tissue(np.random.default_rng(seed), pixels, (stain,)))
    valid = np.ones((pixels, pixels), dtype=bool)
    return StainPair(f"s{seed}", "block", tissue.he, tissue.ihc, valid, 0.5, synthetic=True)


def judge(seed: int, rule: Rule, subjects: int, pixels: int) -> dict[str, str]:
    """The verdict on each ideal model: method -> key."""
    numbers = [100 * seed + subject for subject in range(_TRAINING + subjects)]
    pairs = [draw(number, rule, 0, pixels) for number in numbers]
    fitted, held_out = fit_baselines(pairs[:_TRAINING]), pairs[_TRAINING:]
    made = {name: [one.predict(p.source, STAIN) for p in held_out] for name, one in fitted.items()}
    twins = [
        [draw(number, rule, section, pixels).targets[STAIN] for section in range(1, 1 + _TWINS)]
        for number in numbers[_TRAINING:]
    ]
    models = {
        "twin": [images[0] for images in twins],
        "mean": [np.mean(images, axis=0).round().astype(np.uint8) for images in twins],
    }
    measured = measure_stain(held_out, STAIN, {**made, **models}, BiologySettings(region_um=40.0))
    return {
        name: judge_stain(evidence_of(replace(measured, methods=(*made, name)), name, subjects)).key
        for name in models
    }


def main() -> int:
    """Print a line a world as it comes, then the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--subjects", type=int, default=8)
    parser.add_argument("--pixels", type=int, default=320)
    options = parser.parse_args()
    found: dict[tuple[str, str], Counter[str]] = {}
    for seed in range(options.first, options.first + options.seeds):
        for rule in RULES:
            for name, key in judge(seed, rule, options.subjects, options.pixels).items():
                found.setdefault((rule, name), Counter())[key] += 1
                print(f"seed {seed}: {rule}, {name}: {key}", flush=True)
    print(f"\n{options.subjects} held-out subjects of {options.pixels} pixels (0.5 µm) in every world.\n")
    print("| truth | ideal model | worlds | learnable | not learnable | cannot tell |\n" + "|---" * 6 + "|")
    for (truth, name), keys in found.items():
        cells = (keys[key] for key in ("learnable", "not_learnable", "cannot_tell"))
        print(f"| {truth} | {name} | {keys.total()} | " + " | ".join(map(str, cells)) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
