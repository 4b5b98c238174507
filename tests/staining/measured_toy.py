"""Simulated pairs, and tables of measurements drawn directly, for the tests of figures and verdicts."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from clinimm.simulate.tissue import draw_tissue
from clinimm.simulate.tissue_plan import Rule, StainPlan, TissuePlan
from clinimm.staining.biology import COVARIATES, Measured
from clinimm.staining.optical import Signal
from clinimm.staining.pairs import StainPair

BASELINES = ("copy", "mean_colour", "quadratic", "deconvolution")


def draw_pair(subject: int, rule: Rule = "determined", section: int = 0, pixels: int = 256) -> StainPair:
    """A subject's H&E and Ki-67; other sections share the tissue and toss the stain's chances anew."""
    tissue = draw_tissue(
        TissuePlan(
            pixels=pixels, seed=subject, stains=(StainPlan("KI67", rule, seed=100 * subject + section),)
        )
    )
    return StainPair(
        f"subject {subject}", "block", tissue.he, tissue.ihc, np.ones((pixels, pixels), dtype=bool), 0.5
    )


def draw_measured(
    seed: int,
    knows: Mapping[str, float],
    subjects: int = 12,
    regions: int = 16,
    nuclei: int = 100,
    looks: Mapping[str, float] | None = None,
) -> Measured:
    """Measurements as if methods knew a share of what decides the stain.

    Args:
        seed: of everything.
        knows: method -> correlation of what it shows with the truth, given the content.
        subjects, regions, nuclei: how many; the latter two a subject.
        looks: method -> PSNR in dB; 20 unless given.
    """
    generator = np.random.default_rng(seed)
    names = (*BASELINES, "model")
    share = {name: knows.get(name, 0.0) for name in names}
    region, nucleus, image = [], [], []
    for subject in range(subjects):
        head = {"unit": f"s{subject}", "pair": subject}
        content = generator.normal(size=(regions, 3))
        truth = generator.normal(size=regions) + 0.3 * generator.normal()
        table = pd.DataFrame(content, columns=list(COVARIATES))
        table["real"] = truth + content.sum(axis=1)
        of_nuclei = generator.normal(size=nuclei) + 0.3 * generator.normal()
        cells = pd.DataFrame({"real": np.where(of_nuclei > 1, 0.5, 0.05)})
        for name in names:
            table[name] = _mixed(truth, share[name], generator) + content.sum(axis=1)
            cells[name] = _mixed(of_nuclei, share[name], generator)
        region.append(table.assign(**head, group="all"))
        nucleus.append(cells.assign(**head, group="all"))
        for name in ("real", *names):
            psnr = (looks or {}).get(name, 20.0) + 0.3 * generator.normal()
            image.append({**head, "method": name, **_totals(generator), "psnr": psnr, "ssim": psnr / 40})
    joined = [pd.concat(part, ignore_index=True) for part in (region, nucleus)]
    return Measured("KI67", Signal.DAB, names, pd.DataFrame(image), *joined)


def _mixed(truth: np.ndarray, share: float, generator: np.random.Generator) -> np.ndarray:
    return share * truth + np.sqrt(1 - share**2) * generator.normal(size=len(truth))


def _totals(generator: np.random.Generator) -> dict[str, float]:
    names = ("count", "density_per_mm2", "positive_area", "positivity_index", "h_score", "dice")
    return dict(zip(names, generator.uniform(0.2, 0.8, size=len(names)), strict=True))
