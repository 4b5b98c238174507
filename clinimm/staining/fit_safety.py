"""Fitting the safety case: what is familiar from training tiles, how wrong and how far from tuning tiles.

Tuning tiles must come from subjects that the stainer was not trained on; otherwise every score
looks better than it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from clinimm.core.errors import DataError
from clinimm.staining.calibrate_stain import PixelErrors, fit_error_map
from clinimm.staining.hallucination import fit_check
from clinimm.staining.ood import Familiarity, fit_familiarity
from clinimm.staining.refusal import TileScores, fit_thresholds
from clinimm.staining.safety import SafetyCase, StainSafety, TileExample, over_tissue

_PIXELS_A_TILE = 20_000


def fit_safety(
    train: Sequence[TileExample],
    tuning: Sequence[TileExample],
    resolution_um: float,
    refuse_share: float,
    seed: int = 0,
) -> SafetyCase:
    """Fit every part of the safety case.

    Training tiles say what is familiar and how a real stain leads back to its source; tuning tiles
    say how wrong the stainer is where it has not trained, and where the edges lie.

    Args:
        train, tuning: stained tiles beside the truth, of different subjects.
        resolution_um: micrometres a pixel of the tiles.
        refuse_share: ``staining.refuse_share``.
        seed: of the pixels that are drawn.

    Raises:
        DataError: a subject is in both, a stain lacks tiles, or too few tiles are there.
    """
    both = {one.subject_id for one in train} & {one.subject_id for one in tuning}
    if both:
        raise DataError(
            f"{len(both)} subjects are in training and tuning tiles; a safety case would flatter."
        )
    if not train or not tuning:
        raise DataError(f"got {len(train)} training and {len(tuning)} tuning tiles; both are needed.")
    # A source tile that several stains were made from counts once for each, which changes no mean.
    familiarity = fit_familiarity(
        [(one.source, one.stained.features) for one in train],
        [(one.source, one.stained.features) for one in tuning],
        seed,
    )
    stains = {}
    for stain in sorted({one.stained.stain for one in (*train, *tuning)}):
        own, others = (
            [one for one in tiles if one.stained.stain == stain and one.valid.any()]
            for tiles in (train, tuning)
        )
        stains[stain] = _fit_stain(own, others, familiarity, resolution_um, refuse_share, seed)
    tile_pixels = round(float(np.median([min(one.source.shape[:2]) for one in tuning])))
    return SafetyCase(familiarity, stains, resolution_um, tile_pixels)


def pixel_errors(examples: Sequence[TileExample], seed: int = 0) -> list[PixelErrors]:
    """Expected and observed errors at up to 20,000 valid pixels of each tile."""
    generator = np.random.default_rng(seed)
    found = []
    for one in examples:
        valid = np.flatnonzero(one.valid)
        picked = np.sort(generator.permutation(valid)[:_PIXELS_A_TILE])
        expected = one.stained.expected_error.ravel()[picked]
        found.append(PixelErrors(one.subject_id, expected, one.absolute_error().reshape(-1, 3)[picked]))
    return found


def _fit_stain(
    train: list[TileExample],
    tuning: list[TileExample],
    familiarity: Familiarity,
    resolution_um: float,
    refuse_share: float,
    seed: int,
) -> StainSafety:
    errors = fit_error_map(pixel_errors(tuning, seed))
    check = fit_check(
        [(one.source, one.target, one.valid) for one in train],
        [(one.source, one.target, one.valid) for one in tuning],
        [(one.source, one.stained.rgb) for one in tuning],
        resolution_um,
        seed,
    )
    scores = [
        TileScores(
            familiarity.score(one.source, one.stained.features),
            over_tissue(errors(one.stained.expected_error), one.source, one.stained.rgb),
            check.score(one.source, one.stained.rgb),
            one.damage.share,
            one.damage.kind,
        )
        for one in tuning
    ]
    subjects = [one.subject_id for one in tuning]
    return StainSafety(errors, check, fit_thresholds(scores, refuse_share, subjects))
