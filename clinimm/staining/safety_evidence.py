"""What the safety case is worth on held-out subjects: every figure with its n and its interval.

Nothing here is fitted. Errors are judged against the real stain; the hallucination score on nuclei
that were planted into generated tiles, and the out-of-distribution score on artefacts planted into
sources, both compared with the same tiles left alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from clinimm.core.errors import DataError
from clinimm.simulate.artefacts import KINDS, draw_artefact, with_artefact
from clinimm.staining.agreement import Figure, unknown
from clinimm.staining.clusters import auroc_figure, cluster_figure, figure_json, ratio
from clinimm.staining.fit_safety import pixel_errors
from clinimm.staining.hallucination import HallucinationCheck
from clinimm.staining.pairs import StainPair
from clinimm.staining.plant import Kind, plant
from clinimm.staining.refusal import RefusalCurve, refusal_curve
from clinimm.staining.reliability import Reliability, reliability
from clinimm.staining.safety import Rgb, SafetyCase, TileExample, TileSafety
from clinimm.staining.structure_grid import Places
from clinimm.staining.tile_examples import Run, tile_examples, tile_places

#: Sources with nothing of tissue in them.
NOISE = "noise"
#: How many nuclei are planted in a tile; one is the hardest.
_PLANTED = 1


@dataclass(frozen=True)
class StainEvidence:
    """The figures of one stain.

    Attributes:
        reliability: expected against observed error.
        planted: kind -> AUROC of the hallucination score, one nucleus a tile.
        outside: artefact -> AUROC of the out-of-distribution score.
        outside_refused: artefact -> share of spoiled tiles that are refused, for any reason.
        refused: share of untouched tiles that are refused.
        reasons: how many of those for which reason.
        curve: refusal on untouched tiles.
        spoiled_curve: refusal on untouched and spoiled tiles together; a spoiled tile's error is its
            distance from the real stain of the tissue below.
        tiles: untouched tiles behind all of this.
    """

    reliability: Reliability
    planted: dict[str, Figure]
    outside: dict[str, Figure]
    outside_refused: dict[str, Figure]
    refused: Figure
    reasons: dict[str, int]
    curve: RefusalCurve
    spoiled_curve: RefusalCurve
    tiles: int

    def to_json(self) -> dict[str, Any]:
        """As JSON values, for a run's evidence."""
        tables = {
            name: {key: figure_json(figure) for key, figure in getattr(self, name).items()}
            for name in ("planted", "outside", "outside_refused")
        }
        return {
            **tables,
            "reliability": self.reliability.to_json(),
            "refused": figure_json(self.refused),
            "reasons": self.reasons,
            "curve": self.curve.to_json(),
            "spoiled_curve": self.spoiled_curve.to_json(),
            "tiles": self.tiles,
        }


def judge_safety(
    case: SafetyCase,
    run: Run,
    stride: int,
    held_out: Sequence[StainPair],
    nuclei: Sequence[Places] | None = None,
    seed: int = 0,
) -> dict[str, StainEvidence]:
    """Judge a safety case on held-out tiles, stain by stain.

    Args:
        case: fitted on other subjects.
        run: the stainer, as ``tile_examples`` takes it.
        stride: of the stainer.
        held_out: pairs of subjects that neither stainer nor safety case has seen.
        nuclei: (nucleus, 2) row and column of the nuclei of each pair's source where they are known;
            else those that the check finds.
        seed: of artefacts, places and resamples.

    Raises:
        DataError: there is no tile.
    """
    if not held_out:
        raise DataError("there is no held-out pair to judge the safety case on.")
    found = {}
    for stain in sorted({stain for pair in held_out for stain in pair.targets}):
        which = [index for index, pair in enumerate(held_out) if stain in pair.targets]
        pairs = [replace(held_out[index], targets={stain: held_out[index].targets[stain]}) for index in which]
        known = None if nuclei is None else [nuclei[index] for index in which]
        found[stain] = _judge_stain(_Bench(case, run, stride, stain, seed), pairs, known)
    return found


@dataclass(frozen=True)
class _Bench:
    """What every figure of one stain needs."""

    case: SafetyCase
    run: Run
    stride: int
    stain: str
    seed: int

    def judge(self, pairs: Sequence[StainPair]) -> _Judged:
        """Stain pairs, cut them, judge every tile."""
        tiles = tile_examples(self.run, self.stride, pairs, self.case.tile_pixels)
        return _Judged(tiles, [self.case.refuse(one.source, one.stained, one.damage) for one in tiles])

    def spoil(self, pair: StainPair, kind: str, index: int) -> StainPair:
        """A pair each of whose tiles has one artefact; the real stain stays as it is."""
        generator = np.random.default_rng([self.seed, index])
        source = pair.source.copy()
        for place in tile_places(pair, self.stride, self.case.tile_pixels):
            source[place] = _spoiled(source[place], kind, self.case.resolution_um, generator)
        return replace(pair, source=source)


@dataclass(frozen=True)
class _Judged:
    """Tiles and their verdicts."""

    tiles: list[TileExample]
    verdicts: list[TileSafety]

    @property
    def subjects(self) -> list[str]:
        return [one.subject_id for one in self.tiles]

    @property
    def ood(self) -> list[float]:
        return [one.ood for one in self.verdicts]


def _judge_stain(bench: _Bench, pairs: list[StainPair], nuclei: list[Places] | None) -> StainEvidence:
    safety, seed = bench.case.stains[bench.stain], bench.seed
    clean = bench.judge(pairs)
    spoiled = {
        kind: bench.judge([bench.spoil(pair, kind, index) for index, pair in enumerate(pairs)])
        for kind in (*KINDS, NOISE)
    }
    places = [safety.check.nuclei(pair.source) for pair in pairs] if nuclei is None else nuclei
    known = [local for pair, found in zip(pairs, places, strict=True) for local in _local(bench, pair, found)]
    every = _Judged(
        [*clean.tiles, *(one for part in spoiled.values() for one in part.tiles)],
        [*clean.verdicts, *(one for part in spoiled.values() for one in part.verdicts)],
    )
    return StainEvidence(
        reliability=reliability(pixel_errors(clean.tiles, seed), safety.errors, seed=seed),
        planted={kind: _planted(safety.check, clean, known, kind, seed) for kind in get_args(Kind)},
        outside={kind: _auroc(clean.ood, part.ood, clean.subjects, seed) for kind, part in spoiled.items()},
        outside_refused={kind: _share(part, seed) for kind, part in spoiled.items()},
        refused=_share(clean, seed),
        reasons=dict(Counter(reason for one in clean.verdicts for reason in one.reasons)),
        curve=_curve(clean, seed),
        spoiled_curve=_curve(every, seed),
        tiles=len(clean.tiles),
    )


def _spoiled(rgb: Rgb, kind: str, resolution_um: float, generator: np.random.Generator) -> Rgb:
    if kind == NOISE:
        return generator.integers(0, 256, rgb.shape).astype(np.uint8)
    known = next(name for name in KINDS if name == kind)
    return with_artefact(rgb, draw_artefact(known, generator), resolution_um)[0]


def _local(bench: _Bench, pair: StainPair, nuclei: Places) -> list[Places]:
    """The nuclei of each of a pair's tiles, counted from the tile's corner."""
    found = []
    for rows, columns in tile_places(pair, bench.stride, bench.case.tile_pixels):
        local = nuclei - np.array([rows.start, columns.start])
        size = np.array([rows.stop - rows.start, columns.stop - columns.start])
        found.append(local[((local >= 0) & (local < size)).all(axis=1)])
    return found


def _planted(
    check: HallucinationCheck, clean: _Judged, nuclei: list[Places], kind: Kind, seed: int
) -> Figure:
    """AUROC of tiles with a planted nucleus against the same tiles; tiles without room are left out."""
    before, after, subjects = [], [], []
    for index, (one, verdict, places) in enumerate(zip(clean.tiles, clean.verdicts, nuclei, strict=True)):
        try:
            planted = plant(one.stained.rgb, places, kind, _PLANTED, check.radius_px, seed + index)
        except DataError:
            continue
        before.append(verdict.hallucination)
        after.append(check.score(one.source, planted.rgb))
        subjects.append(one.subject_id)
    if not before:
        return unknown(0, "no tile has both a whole nucleus and bare ground", "AUROC")
    return _auroc(before, after, subjects, seed)


def _auroc(before: Sequence[float], after: Sequence[float], subjects: Sequence[str], seed: int) -> Figure:
    positive = np.repeat([False, True], len(before))
    return auroc_figure(positive, np.array([*before, *after], dtype=float), [*subjects, *subjects], seed)


def _share(judged: _Judged, seed: int) -> Figure:
    refused = np.array([one.refused for one in judged.verdicts], dtype=float)
    return cluster_figure(
        lambda weights: ratio(weights @ refused, weights.sum(axis=1)), judged.subjects, "share", seed
    )


def _curve(judged: _Judged, seed: int) -> RefusalCurve:
    risk = np.array([one.risk for one in judged.verdicts])
    error = np.array([one.mean_error() for one in judged.tiles])
    return refusal_curve(risk, error, judged.subjects, seed)
