"""A small finished staining run of drawn tissue, written into the files that the stages would leave."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.ndimage import gaussian_filter

from clinimm.config import PipelineConfig
from clinimm.core.record import RunRecord
from clinimm.encode import write_parquet
from clinimm.simulate.tissue import draw_tissue
from clinimm.simulate.tissue_plan import StainPlan, plan_tissue
from clinimm.staining.agreement import Figure
from clinimm.staining.biology import measure_stain
from clinimm.staining.calibrate_stain import ErrorMap, PixelErrors
from clinimm.staining.pair_store import PairStore, Region, write_regions
from clinimm.staining.pairs import StainPair
from clinimm.staining.prediction_store import Made, Results, ResultWriter
from clinimm.staining.refusal import refusal_curve
from clinimm.staining.reliability import reliability
from clinimm.staining.table import result_table
from clinimm.staining.verdict import evidence_of, judge_stain
from clinimm.workspace import Workspace

STAIN, MODEL, SIDE, TILE = "KI67", "unet", 192, 64
SUBJECTS = 5


def build_stain_run(root: Path, hostile: str = "", side: int = SIDE, explained: bool = True) -> Workspace:
    """A run of five subjects with one region each; every string that comes from data holds ``hostile``."""
    workspace = Workspace(
        PipelineConfig.model_validate(
            {
                "name": "toy",
                "runs_dir": root / "runs",
                "staining": {"generator": MODEL, "region_pixels": max(side, 128)},
                "report": {"patients": 3},
            }
        )
    )
    pairs = [draw_pair(number, hostile, side) for number in range(SUBJECTS)]
    regions = [Region(pair, 100 * at, 50, side, f"{at:064x}", 0.8) for at, pair in enumerate(pairs)]
    folder = workspace.stage("encode") / "pairs"
    write_regions(folder, regions)
    _write_registration(folder, pairs, hostile)
    _write_predictions(workspace, pairs)
    _write_evaluation(workspace, hostile)
    _write_cohort(workspace, hostile)
    if explained:
        _write_explanation(workspace, pairs[0], hostile)
    RunRecord(
        "predict",
        {},
        {},
        {},
        "0.1.0+abc",
        0,
        "2026-01-01T00:00:00+00:00",
        "2026-01-01T00:00:07+00:00",
        {},
        {},
    ).write(workspace.stage("predict"))
    return workspace


def draw_pair(number: int, hostile: str, side: int) -> StainPair:
    plan = plan_tissue(np.random.default_rng(number), side, (StainPlan(STAIN),))
    tissue = draw_tissue(plan)
    valid = np.ones((side, side), dtype=bool)
    valid[:, :4] = False
    return StainPair(
        f"S{number}{hostile}", f"block{hostile}", tissue.he, tissue.ihc, valid, plan.um_per_pixel
    )


def stained(pair: StainPair, number: int) -> Made:
    """What a fair model might make: the real stain, blurred, and noisier from subject to subject."""
    real = pair.targets[STAIN].astype(float)
    noise = np.random.default_rng(90 + number).normal(0, 2 + 3 * number, real.shape)
    rgb = np.clip(gaussian_filter(real, (1.5, 1.5, 0)) + noise, 0, 255).astype(np.uint8)
    plain = np.clip(gaussian_filter(real, (3, 3, 0)), 0, 255).astype(np.uint8)
    wrong = np.abs(rgb.astype(float) - real).mean(axis=2) / 255
    return Made(rgb, plain, gaussian_filter(wrong, 3).astype(np.float32))


def _write_predictions(workspace: Workspace, pairs: list[StainPair]) -> None:
    writer = ResultWriter(workspace.stage("predict"))
    for number, pair in enumerate(pairs):
        made = stained(pair, number)
        wrong = np.abs(made.rgb.astype(float) - pair.targets[STAIN]).mean(axis=2) / 255
        rows = []
        for top in range(0, pair.source.shape[0] - TILE + 1, TILE):
            for left in range(0, pair.source.shape[1] - TILE + 1, TILE):
                risk = 0.3 + 0.2 * number + (0.2 if (top, left) == (TILE, TILE) else 0.0)
                reasons = "outside,uncertain" if risk > 1.2 else "hallucination" if risk > 1 else ""
                rows.append(
                    {
                        "stain": STAIN, "top": top, "left": left, "side": TILE, "ood": risk,
                        "hallucination": risk, "uncertainty": 0.1, "refused": risk > 1, "reasons": reasons,
                        "risk": risk, "error": float(wrong[top : top + TILE, left : left + TILE].mean()),
                    }
                )  # fmt: skip
        writer.add(pair.subject_id, number, "r0-f0", {STAIN: made}, pd.DataFrame(rows))
    writer.finish()


def _write_registration(folder: Path, pairs: list[StainPair], hostile: str) -> None:
    rows = [
        {
            "subject_id": pair.subject_id, "specimen": pair.specimen, "stain": STAIN,
            "before_p50_um": 20.0 + number, "before_p90_um": 40.0, "before_judged": 9, "before_places": 10,
            "before_scale": "cell", "after_p50_um": 0.8 if number else 5.0, "after_p90_um": 2.0,
            "after_judged": 9, "after_places": 10, "after_scale": "cell",
            "refused": None if number else "badly-registered",
        }
        for number, pair in enumerate(pairs)
    ]  # fmt: skip
    write_parquet(folder / "registration.parquet", pd.DataFrame(rows))
    refusal = {
        "file": "f" * 64, "item": STAIN, "code": "badly-registered",
        "reason": f"5.0 um remain{hostile}", "remedy": f"leave it out{hostile}",
    }  # fmt: skip
    write_parquet(folder / "refusals.parquet", pd.DataFrame([refusal]))


def _write_evaluation(workspace: Workspace, hostile: str) -> None:
    results = list(Results(workspace.root / "predict", PairStore(workspace.root / "encode" / "pairs")))
    pairs = [one.region.pair for one in results]
    images = {
        MODEL: [one.made[STAIN].rgb for one in results],
        "copy": [pair.source for pair in pairs],
        "mean_colour": [np.full_like(pair.source, 200) for pair in pairs],
    }
    measured = measure_stain(pairs, STAIN, images)
    table = result_table(measured, MODEL)
    verdict = judge_stain(evidence_of(measured, MODEL, len(pairs), registration_error_um=0.8))
    folder = workspace.stage("evaluate")
    write_parquet(folder / "table.parquet", table)
    gain = Figure(0.04, -0.02, 0.10, len(pairs), "partial r")
    content = {
        "verdict": {
            "key": verdict.key, "sentence": verdict.sentence + hostile, "use": verdict.use,
            "warnings": [*verdict.warnings, "A warning." + hostile], "more_units": verdict.more_units,
        },
        "subjects": len(pairs),
        "regions": len(pairs),
        "registration_error_um": 0.8,
        "record_adds": {"region_correlation": asdict(gain), "count_error": asdict(gain)},
        "safety": _safety(results),
    }  # fmt: skip
    metrics = {
        "format": "clinimm.staining-metrics/1",
        "run": "toy",
        "model": MODEL,
        "stains": {STAIN: content},
    }
    (folder / "metrics.json").write_text(json.dumps(metrics))


def _safety(results: list) -> dict[str, object]:
    tiles = pd.concat([one.tiles for one in results], ignore_index=True)
    samples = []
    for one in results:
        made, real = one.made[STAIN], one.region.pair.targets[STAIN]
        wrong = np.abs(made.rgb.astype(float) - real) / 255
        samples.append(
            PixelErrors(
                one.region.pair.subject_id,
                made.expected_error.ravel()[::17],
                wrong.reshape(-1, 3)[::17].astype(np.float32),
            )
        )
    reasons = tiles.loc[tiles["refused"], "reasons"].value_counts()
    errors = ErrorMap((0.0, 1.0), (0.0, 1.0), ((0.5, 0.9), (0.9, 2.5)), 5, 1000)
    curve = refusal_curve(
        tiles["risk"].to_numpy(), tiles["error"].to_numpy(), list(tiles["subject_id"]), draws=50
    )
    return {
        "tiles": len(tiles),
        "refused_tiles": int(tiles["refused"].sum()),
        "reasons": {str(key): int(value) for key, value in reasons.items()},
        "reliability": reliability(samples, errors).to_json(),
        "refusal_curve": curve.to_json(),
    }


def _write_cohort(workspace: Workspace, hostile: str) -> None:
    folder = workspace.stage("cohort")
    task = {"name": "stain", "kind": "virtual_staining", "classes": [STAIN]}
    (folder / "task.json").write_text(json.dumps(task))
    (folder / "flow.json").write_text(json.dumps({"question": "Can KI67 be seen in HE?" + hostile}))


def _write_explanation(workspace: Workspace, pair: StainPair, hostile: str) -> None:
    folder = workspace.stage("explain")
    scores = np.random.default_rng(3).normal(0, 1e-4, pair.valid.shape).astype(np.float32)
    np.save(folder / "000.npy", scores, allow_pickle=False)
    entry = {
        "subject_id": pair.subject_id, "specimen": pair.specimen, "fit": "r0-f0", "stain": STAIN,
        "place": {"left": 0, "top": 50, "side": pair.source.shape[0]},
        "region": {"row": 64, "column": 0, "rows": 64, "columns": 64},
        "baseline": "source blurred by 8 µm", "amount": 0.31, "baseline_amount": 0.1, "from_pixels": 0.15,
        "presence": 0.01, "residual": 0.002, "relative_residual": 0.01, "pixels": "000.npy",
        "facts": [{"modality": "ehr", "text": f"LOINC//1 = 3{hostile}", "time_hours": 3.0, "score": 0.05}],
        "deletion": {"auc": -0.2, "nearest": 0.0, "random": 0.3}, "model_digest": "d" * 64,
    }  # fmt: skip
    (folder / "regions.json").write_text(json.dumps([entry]))
