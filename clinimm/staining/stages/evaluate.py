"""The stage ``evaluate`` of a staining run: what the stains are worth beside the baselines."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from clinimm.core.record import write_text
from clinimm.encode import write_parquet
from clinimm.progress import Progress
from clinimm.staining.agreement import Figure
from clinimm.staining.baselines import Baseline, fit_baselines
from clinimm.staining.biology import Measured, measure_stain
from clinimm.staining.calibrate_stain import ErrorMap, PixelErrors
from clinimm.staining.image_metrics import SetDistance, set_distance
from clinimm.staining.pair_store import PairStore
from clinimm.staining.patch_features import cut_patches, patch_features
from clinimm.staining.prediction_store import Result, Results, Rgb
from clinimm.staining.record_help import record_warning
from clinimm.staining.refusal import refusal_curve
from clinimm.staining.reliability import reliability
from clinimm.staining.stages.encode import PAIRS, staining_of
from clinimm.staining.stages.predict import PLANTED
from clinimm.staining.stages.train import FUSED, load_safety
from clinimm.staining.table import join_tables, metrics_of, result_table, score
from clinimm.staining.verdict import StainVerdict, evidence_of, judge_stain
from clinimm.tables import load_cohort
from clinimm.workspace import Workspace

FORMAT = "clinimm.staining-metrics/1"
METRICS, TABLE = "metrics.json", "table.parquet"
#: The twin of the model that sees pixels alone.
PIXELS_ALONE = "pixels alone"
_PIXELS_A_REGION = 20_000
#: What is kept of ``predict/planted.json``: AUROC of each score, and the share that is refused.
_PLANTED = ("planted", "outside", "outside_refused", "refused", "tiles")


@dataclass(frozen=True)
class Judged:
    """One stain: its figures, its verdict, and what the record adds."""

    measured: Measured
    table: pd.DataFrame
    verdict: StainVerdict
    ablation: tuple[tuple[str, Figure], ...]
    safety: dict[str, Any]


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Measure the held-out stains; write ``metrics.json`` and ``table.parquet``.

    Each figure is of the first repeat: there every subject is held out once.
    """
    config = workspace.config
    store = PairStore(workspace.root / "encode" / PAIRS)
    results = list(_first_repeat(Results(workspace.root / "predict", store)))
    baselines = _baselines(workspace, store, {one.fit for one in results})
    model = staining_of(workspace).generator
    stains = sorted({stain for one in results for stain in one.made})
    judged = {
        stain: judge(
            [one for one in results if stain in one.made],
            stain,
            model,
            baselines,
            _error_maps(workspace, results, stain),
            config.seed,
        )
        for stain in progress.track(stains, "stains", len(stains))
    }
    folder = workspace.stage("evaluate")
    planted = json.loads(workspace.need("predict", PLANTED).read_text(encoding="utf-8"))
    write_parquet(folder / TABLE, join_tables([one.table for one in judged.values()]))
    metrics = {
        "format": FORMAT,
        "run": config.name,
        "model": model,
        "stains": {
            stain: _as_json(one, planted.get(stain, {}), _refusal(workspace, results, stain))
            for stain, one in judged.items()
        },
    }
    write_text(
        folder / METRICS, json.dumps(_finite(metrics), indent=1, sort_keys=True, allow_nan=False) + "\n"
    )
    for one in judged.values():
        progress.say(f"  {one.verdict.sentence}")
    return {"regions": len(results), "verdicts": {stain: one.verdict.key for stain, one in judged.items()}}


def judge(
    results: Sequence[Result],
    stain: str,
    model: str,
    baselines: Mapping[str, Mapping[str, Baseline]],
    error_maps: Mapping[str, ErrorMap],
    seed: int = 0,
) -> Judged:
    """Measure one stain on held-out regions.

    Args:
        results: those that have the stain.
        stain: which.
        model: what the model is called in the tables.
        baselines: fit -> name -> a baseline that was fitted to that fit's training pairs.
        error_maps: fit -> the calibration of its expected errors.
        seed: of the bootstraps.
    """
    pairs = [one.region.pair for one in results]
    made = _predictions(results, stain, model, baselines)
    everything = measure_stain(pairs, stain, made)
    rivals = tuple(name for name in everything.methods if name != PIXELS_ALONE)
    measured = replace(everything, methods=rivals)
    ablation = dict(_ablation(everything, model))
    evidence = evidence_of(
        measured,
        model,
        len({pair.subject_id for pair in pairs}),
        registration_error_um=_registration_error(results),
    )
    verdict = judge_stain(evidence)
    warnings = (*verdict.warnings, *record_warning(evidence, ablation))
    return Judged(
        everything,
        result_table(measured, model, _distances(pairs, stain, made, seed)),
        replace(verdict, warnings=warnings),
        tuple(ablation.items()),
        _safety(results, stain, error_maps, seed),
    )


def _predictions(
    results: Sequence[Result], stain: str, model: str, baselines: Mapping[str, Mapping[str, Baseline]]
) -> dict[str, list[Rgb]]:
    made = {model: [one.made[stain].rgb for one in results]}
    plain = [one.made[stain].plain for one in results]
    if all(image is not None for image in plain):
        made[PIXELS_ALONE] = [image for image in plain if image is not None]
    for name in next(iter(baselines.values())):
        made[name] = [baselines[one.fit][name].predict(one.region.pair.source, stain) for one in results]
    return made


def _ablation(measured: Measured, model: str) -> Iterator[tuple[str, Figure]]:
    """What the record adds to each metric; nothing where no twin was trained."""
    if PIXELS_ALONE in measured.methods:
        for metric in metrics_of(measured):
            yield metric.name, score(measured, metric).gain(model, PIXELS_ALONE)


def _distances(
    pairs: Sequence[Any], stain: str, made: Mapping[str, Sequence[Rgb]], seed: int
) -> dict[str, SetDistance]:
    valid = [pair.valid for pair in pairs]
    real = patch_features(cut_patches([pair.targets[stain] for pair in pairs], valid))
    return {
        name: set_distance(real, patch_features(cut_patches(images, valid)), seed)
        for name, images in made.items()
        if name != PIXELS_ALONE
    }


def _safety(
    results: Sequence[Result], stain: str, error_maps: Mapping[str, ErrorMap], seed: int
) -> dict[str, Any]:
    """Expected against observed error, and what refusing tiles does to the error of the rest."""
    tiles = pd.concat([one.tiles[one.tiles["stain"] == stain] for one in results], ignore_index=True)
    tiles = tiles[np.isfinite(tiles["error"].to_numpy(float))]
    samples = [_pixel_errors(one, stain, seed) for one in results]
    found: dict[str, Any] = {
        "tiles": len(tiles),
        "refused_tiles": int(tiles["refused"].sum()),
        "reasons": {str(k): int(v) for k, v in tiles.loc[tiles["refused"], "reasons"].value_counts().items()},
        "reliability": reliability(samples, [error_maps[one.fit] for one in results], seed=seed).to_json(),
    }
    if len(tiles):
        risk, error = (tiles[name].to_numpy(float) for name in ("risk", "error"))
        found["refusal_curve"] = refusal_curve(risk, error, list(tiles["subject_id"]), seed).to_json()
    return found


def _pixel_errors(result: Result, stain: str, seed: int) -> PixelErrors:
    pair, made = result.region.pair, result.made[stain]
    valid = np.flatnonzero(pair.valid)
    picked = np.sort(np.random.default_rng(seed).permutation(valid)[:_PIXELS_A_REGION])
    difference = np.abs(made.rgb.astype(np.int16) - pair.targets[stain].astype(np.int16)) / 255
    return PixelErrors(
        pair.subject_id,
        made.expected_error.ravel()[picked],
        difference.astype(np.float32).reshape(-1, 3)[picked],
    )


def _error_maps(workspace: Workspace, results: Sequence[Result], stain: str) -> dict[str, ErrorMap]:
    """Maps for errors that are calibrated already: each fit's widths of intervals, and no more change."""
    maps = {}
    for fit in sorted({one.fit for one in results if stain in one.made}):
        fitted = load_safety(workspace.root / "train" / FUSED / fit).stains[stain].errors
        maps[fit] = replace(fitted, raw=(0.0, 1.0), calibrated=(0.0, 1.0))
    return maps


def _first_repeat(results: Results) -> Iterator[Result]:
    first = results.table["fit"].str.extract(r"^r(\d+)-", expand=False).astype(int)
    yield from results.some(np.flatnonzero(first == first.min()).tolist())


def _baselines(workspace: Workspace, store: PairStore, fits: set[str]) -> dict[str, dict[str, Baseline]]:
    """Each fit's baselines, fitted to what its stainer saw."""
    chosen = [fit for fit in load_cohort(workspace).fits if fit.name in fits]
    return {fit.name: fit_baselines(store.pairs((*fit.training, *fit.tuning))) for fit in chosen}


def _registration_error(results: Sequence[Result]) -> float | None:
    errors = [one.region.error_um for one in results if one.region.error_um is not None]
    return float(np.median(errors)) if errors else None


def _refusal(workspace: Workspace, results: Sequence[Result], stain: str) -> list[dict[str, Any]]:
    """How each fit's thresholds were set, and what they refuse of a tuning subject that they left out."""
    fits = sorted({one.fit for one in results if stain in one.made})
    every = {
        fit: load_safety(workspace.root / "train" / FUSED / fit).stains[stain].thresholds for fit in fits
    }
    return [{"fit": fit, **thresholds.to_json()} for fit, thresholds in every.items()]


def _as_json(
    judged: Judged, planted: Mapping[str, Any], refusal: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    evidence = judged.verdict.evidence
    return {
        "verdict": {
            "key": judged.verdict.key,
            "sentence": judged.verdict.sentence,
            "use": judged.verdict.use,
            "warnings": list(judged.verdict.warnings),
            "more_units": judged.verdict.more_units,
        },
        "subjects": evidence.subjects,
        "regions": int(judged.measured.images["pair"].nunique()),
        "registration_error_um": evidence.registration_error_um,
        "record_adds": {name: asdict(figure) for name, figure in judged.ablation},
        "safety": {
            **judged.safety,
            "refusal": list(refusal),
            "planted": {name: planted[name] for name in _PLANTED if name in planted},
        },
    }


def _finite(value: Any) -> Any:
    """NaN and infinity as null, for JSON has neither."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value
