"""The stage ``predict`` of a staining run: every held-out region, by the stainer that never saw it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from clinimm.core.errors import DataError, MissingStageError
from clinimm.core.record import write_text
from clinimm.progress import Progress
from clinimm.staining.pair_store import PairStore
from clinimm.staining.pairs import StainPair
from clinimm.staining.prediction_store import Made, ResultWriter
from clinimm.staining.runner import runner
from clinimm.staining.safety import SafetyCase
from clinimm.staining.safety_evidence import judge_safety
from clinimm.staining.stages.encode import PAIRS
from clinimm.staining.stages.train import FUSED, PLAIN, load_context, load_safety
from clinimm.staining.stainer import Stainer
from clinimm.staining.tile_examples import Run, tile_examples
from clinimm.tables import Fit, load_cohort
from clinimm.workspace import Workspace

#: What the safety case made of regions into which something was planted.
PLANTED = "planted.json"
_MOST_PLANTED = 6


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Stain the held-out regions and judge their tiles; write both into ``predict/``.

    Raises:
        MissingStageError: a fold was not trained.
        DataError: nobody who is held out has a pair.
    """
    cohort = load_cohort(workspace)
    store = PairStore(workspace.root / "encode" / PAIRS)
    writer = ResultWriter(workspace.stage("predict"))
    torch.set_num_threads(workspace.config.train.threads)
    for fit in progress.track(cohort.fits, "folds"):
        models = _Models(workspace, fit)
        for place, pair in _held_out(store, fit):
            made, tiles = models.stain(pair)
            writer.add(pair.subject_id, place, fit.name, made, tiles)
    if not writer.regions:
        raise DataError(
            "no held-out subject has a registered pair of slides: hold out more subjects in the cohort file, "
            "or see encode/pairs/refusals.parquet."
        )
    tiles = writer.finish()
    _plant(workspace, store, cohort.fits[0], progress)
    return {
        "regions": int(tiles["file"].nunique()),
        "tiles": len(tiles),
        "refused_tiles": int(tiles["refused"].sum()),
    }


def _plant(workspace: Workspace, store: PairStore, fit: Fit, progress: Progress) -> None:
    """Plant nuclei and artefacts into some held-out regions, and keep what the safety case says of them."""
    pairs = [pair for _, pair in _held_out(store, fit)]
    chosen = np.random.default_rng(workspace.config.seed).permutation(len(pairs))[:_MOST_PLANTED]
    models = _Models(workspace, fit)
    progress.say(f"  planting artefacts and nuclei into {len(chosen)} held-out regions")
    found = judge_safety(
        models.safety,
        models.run,
        models.stainer.stride,
        [pairs[index] for index in sorted(chosen)],
        seed=workspace.config.seed,
    )
    content = {stain: evidence.to_json() for stain, evidence in found.items()}
    write_text(workspace.stage("predict") / PLANTED, json.dumps(content, indent=1, sort_keys=True) + "\n")


def _held_out(store: PairStore, fit: Fit) -> Iterator[tuple[int, StainPair]]:
    for place in store.places(fit.held_out):
        yield place, store.at(place).pair


class _Models:
    """The stainer of a fold, its safety case, and its twin that sees pixels alone."""

    def __init__(self, workspace: Workspace, fit: Fit) -> None:
        folder = workspace.root / "train"
        self.stainer = _load(folder / FUSED / fit.name)
        self.safety: SafetyCase = load_safety(folder / FUSED / fit.name)
        self.run = runner(self.stainer, load_context(workspace, self.stainer))
        twin = folder / PLAIN / fit.name
        self.plain: Run | None = runner(_load(twin)) if twin.is_dir() else None

    def stain(self, pair: StainPair) -> tuple[dict[str, Made], pd.DataFrame]:
        """Every stain of a pair that the model makes, and the verdicts on its tiles."""
        known = {name: image for name, image in pair.targets.items() if name in self.stainer.spec.stains}
        made, rows = {}, []
        for stain in known:
            whole = self._whole(self.run, pair, stain)
            plain = None if self.plain is None else self._whole(self.plain, pair, stain)[0]
            made[stain] = Made(whole[0], plain, self.safety.stains[stain].errors(whole[1]))
        for tile in tile_examples(self.run, self.stainer.stride, [replace(pair, targets=known)]):
            verdict = self.safety.refuse(tile.source, tile.stained, tile.damage)
            rows.append(
                {
                    "stain": tile.stained.stain,
                    "top": tile.top,
                    "left": tile.left,
                    "side": len(tile.source),
                    "ood": verdict.ood,
                    "hallucination": verdict.hallucination,
                    "uncertainty": verdict.uncertainty,
                    "refused": verdict.refused,
                    "reasons": ",".join(verdict.reasons),
                    "risk": verdict.risk,
                    "error": tile.mean_error(),
                }
            )
        return made, pd.DataFrame(rows)

    @staticmethod
    def _whole(run: Run, pair: StainPair, stain: str) -> tuple[np.ndarray, np.ndarray]:
        """The whole region stained at once, and the raw expectation of error."""
        image = torch.from_numpy(np.ascontiguousarray(pair.source)).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            stained = run(image, stain, pair.subject_id)
        colour = stained.colour[0].mul(255).round().clamp(0, 255).to(torch.uint8)
        return colour.permute(1, 2, 0).contiguous().numpy(), stained.uncertainty[0].contiguous().numpy()


def _load(folder: Path) -> Stainer:
    if not folder.is_dir():
        raise MissingStageError(f"{folder} is missing: run `clinimm train PIPELINE` first.")
    return Stainer.from_pretrained(folder)
