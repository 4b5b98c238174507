"""The stage ``explain`` of a staining run: which pixels and which facts changed a stain, for some tiles."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from clinimm.core.record import write_text
from clinimm.modalities import get_modality
from clinimm.progress import Progress
from clinimm.staining.context import ContextData
from clinimm.staining.explain_stain import BASELINE, StainExplanation, explain_stain
from clinimm.staining.optical import signal_of, stain_amount
from clinimm.staining.pair_store import PairStore
from clinimm.staining.prediction_store import Result, Results
from clinimm.staining.region_view import Region
from clinimm.staining.stages.encode import PAIRS
from clinimm.staining.stages.train import FUSED, load_context
from clinimm.staining.stain_deletion import delete
from clinimm.staining.stainer import Stainer
from clinimm.staining.stainer_view import StainerView
from clinimm.workspace import Workspace

#: What lies in ``explain/``: a list with an entry an explained tile.
EXPLAINED = "regions.json"
_TILE = 128
_MOST_FACTS = 12


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Explain the most stained tile of ``explain.subjects`` held-out regions, one a subject."""
    store = PairStore(workspace.root / "encode" / PAIRS)
    results = Results(workspace.root / "predict", store)
    rows = _one_a_subject(results, workspace.config.explain.subjects)
    torch.set_num_threads(workspace.config.train.threads)
    folder = workspace.stage("explain")
    entries: list[dict[str, Any]] = []
    for result in progress.track(results.some(rows), "explain", len(rows)):
        for stain in sorted(result.made):
            entry, pixels = _explain(workspace, result, stain)
            np.save(folder / f"{len(entries):03d}.npy", pixels.astype(np.float32), allow_pickle=False)
            entries.append({**entry, "pixels": f"{len(entries):03d}.npy"})
    write_text(folder / EXPLAINED, json.dumps(entries, indent=1, sort_keys=True, allow_nan=False) + "\n")
    worst = max((entry["relative_residual"] for entry in entries), default=None)
    return {"explained": len(entries), "worst_relative_residual": worst}


def most_stained(rgb: np.ndarray, stain: str, side: int = _TILE) -> Region:
    """The tile of a grid in which the virtual stain is strongest."""
    amount = stain_amount(rgb, signal_of(stain))
    side = min(side, *amount.shape)
    rows, columns = amount.shape[0] // side, amount.shape[1] // side
    means = amount[: rows * side, : columns * side].reshape(rows, side, columns, side).mean(axis=(1, 3))
    row, column = divmod(int(means.argmax()), columns)
    return Region(row * side, column * side, side, side)


def _one_a_subject(results: Results, most: int) -> Sequence[int]:
    table = results.table.drop_duplicates("subject_id")
    chosen = np.linspace(0, len(table) - 1, min(most, len(table))).round().astype(int)
    return [int(row) for row in table.index[chosen]]


def _explain(workspace: Workspace, result: Result, stain: str) -> tuple[dict[str, Any], np.ndarray]:
    pair = result.region.pair
    stainer = Stainer.from_pretrained(workspace.root / "train" / FUSED / result.fit)
    context = load_context(workspace, stainer)
    view, signal = StainerView(stainer, stain), signal_of(stain)
    record = view.embed(context.batch([pair.subject_id])) if context else None
    region = most_stained(result.made[stain].rgb, stain)
    found = explain_stain(view, pair.source, region, signal, pair.resolution_um, record)
    check = delete(view, pair.source, found, signal, pair.resolution_um, record, workspace.config.seed)
    change = max(abs(found.amount - found.baseline_amount), 1e-3)
    entry = {
        "subject_id": pair.subject_id,
        "specimen": pair.specimen,
        "fit": result.fit,
        "place": {"left": result.region.left, "top": result.region.top, "side": result.region.side},
        "stain": stain,
        "region": vars(region),
        "baseline": BASELINE,
        "amount": found.amount,
        "baseline_amount": found.baseline_amount,
        "from_pixels": found.from_pixels,
        "presence": found.presence,
        "residual": found.residual,
        "relative_residual": abs(found.residual) / change,
        "facts": _facts(workspace, context, pair.subject_id, found),
        "deletion": {"auc": check.auc, "nearest": check.auc_nearest, "random": check.auc_random},
        "model_digest": stainer.digest,
    }
    return entry, found.pixels


def _facts(
    workspace: Workspace, context: ContextData | None, subject_id: str, found: StainExplanation
) -> list[dict[str, Any]]:
    """The facts of the record with the largest shares, in words."""
    rows: list[dict[str, Any]] = []
    for name, scores in found.record.items() if context else ():
        modality = get_modality(name, workspace.config.plugins)
        assert context is not None  # the loop is empty without one
        table = context.corpus.rows(subject_id, name).to_dict("records")
        for record, score in zip(table, scores, strict=False):
            place = modality.locate({str(key): value for key, value in record.items()}, 0)
            rows.append(
                {
                    "modality": name,
                    "text": place.text,
                    "time_hours": float(place.time_hours),
                    "score": float(score),
                }
            )
    return sorted(rows, key=lambda row: -abs(row["score"]))[:_MOST_FACTS]
