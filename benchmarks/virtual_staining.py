"""Can these stains be learned from these pairs? Real pairs, against every baseline, with the plain verdict.

    .venv/bin/python benchmarks/virtual_staining.py --set deepliif --split tile
    .venv/bin/python benchmarks/virtual_staining.py --set deepliif --split strips
    .venv/bin/python benchmarks/virtual_staining.py --set lesion --split strips

``deepliif``: IHC tiles with haematoxylin, DAPI, Lap2 and marker. ``lesion``: H&E with Ki67 and CD31 of
consecutive sections, at tissue level. Neither states its resolution; what is assumed stands in ``SETS``
with the reason, and ``--resolution`` changes it.

Pairs are registered first; what the gate refuses is named and left out (``--as-they-lie`` takes pairs as they
came, for sets that somebody else has registered). ``--split tile`` holds out one tile after the other;
``strips`` holds out upright strips of the same tiles, with a gap of at least the generator's halo to all that
is learned from. Training stops by tuning parts, which are never held-out ones; baselines are fitted to
training and tuning parts together. Each figure's interval is over blocks of tissue, for there are fewer than
four subjects: it speaks of this tissue and of nobody else.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from clinimm.config import StainingConfig
from clinimm.core.errors import CliniMMError
from clinimm.datasets.stain_pairs import HE_IHC_UM, PANELS_UM, Found, read_he_ihc, read_panels
from clinimm.nn.stain import build_generator
from clinimm.nn.stain.generator import GeneratorSettings
from clinimm.progress import Progress
from clinimm.staining.baselines import fit_baselines
from clinimm.staining.biology import BiologySettings, measure_stain
from clinimm.staining.blocks import cut_blocks
from clinimm.staining.optical import Rgb
from clinimm.staining.pairs import StainPair, stains_of
from clinimm.staining.register_gate import MAX_ERROR_UM, ErrorEstimate
from clinimm.staining.register_images import RegisteredImages, as_they_lie, register_images
from clinimm.staining.stainer import Stainer
from clinimm.staining.strips import Fold, leave_subject_out, strip_folds
from clinimm.staining.table import CELL_AUROC, join_tables, result_table
from clinimm.staining.train_stainer import train_stainer
from clinimm.staining.verdict import BLOCK, StainVerdict, evidence_of, judge_stain

ROOT = Path(__file__).parents[1]
#: Coarser than this a nucleus is a few pixels, and no measure of cells means anything.
COARSEST_FOR_CELLS_UM = 1.0
SHOWN = ("psnr", "ssim", "dice", "region_correlation", "region_correlation_raw", "positive_area_error")
SHOWN_OF_CELLS = ("cell_auroc", "cell_correlation", "count_error", "positivity_error", "h_score_error")


@dataclass(frozen=True)
class SetPlan:
    """What is known and assumed of a set.

    Attributes:
        folder: below the data folder.
        read: its layout.
        resolution_um: micrometres a pixel; the files state none.
        reason: why that resolution.
        magnified: see ``register_images``.
        max_error_um: of registration, 90th percentile; a quarter of a region at tissue level.
        region_um, block_um: sides of the regions that are compared and of the units of intervals.
        strips: of ``--split strips``.
    """

    folder: str
    read: Callable[[Path], Found]
    resolution_um: float
    reason: str
    magnified: float
    max_error_um: float
    region_um: float
    block_um: float
    strips: int


SETS = {
    "deepliif": SetPlan(
        "stains/deepliif/train",
        read_panels,
        PANELS_UM,
        "40 x; drawn nuclei are 28 pixels wide, 7 um",
        2.0,
        MAX_ERROR_UM,
        10.0,
        40.0,
        3,
    ),
    "lesion": SetPlan(
        "stains/lesion_he_ihc",
        read_he_ihc,
        HE_IHC_UM,
        "0.174 um scans of which a twentieth is left, from memory of the set's description",
        1.0,
        25.0,
        100.0,
        400.0,
        3,
    ),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Register, train, judge and print."""
    given = parse(arguments)
    torch.set_num_threads(1)
    began = time.process_time()
    plan = SETS[given.set]
    resolution_um = given.resolution or plan.resolution_um
    config = StainingConfig(
        generator=given.generator,
        source="IHC" if given.set == "deepliif" else "HE",
        resolution_um=resolution_um,
        crop_pixels=96,
        members=given.members,
        context=False,
        **{name: getattr(given, name) for name in ("steps", "learning_rate") if getattr(given, name)},
    )
    print(f"Assumed: {resolution_um:g} um a pixel ({plan.reason}); no file states it.")
    try:
        registered = prepare(plan, given.data, resolution_um, given.as_they_lie, given.seed)
        pairs = [one.pair for one in registered if one.pair is not None]
        pairs = judgeable(pairs) if given.split == "tile" else pairs
        folds = split(pairs, config, given.split, given.strips or plan.strips)
    except CliniMMError as refused:
        print(f"No answer: {refused}")
        return 1
    for fold in folds:
        print("\n".join(fold.lines(pairs)))
    held_out, made = run(folds, pairs, config, given.seed)
    tables, verdicts = judge(held_out, made, plan, registered, config)
    print(show(tables, given.generator, resolution_um))
    for verdict in verdicts:
        print(f"\n{verdict.sentence}")
        print("\n".join(f"  {warning}" for warning in verdict.warnings))
    print(f"\n{time.process_time() - began:.0f} s of processor.")
    if given.json:
        given.json.write_text(json.dumps(as_json(tables, verdicts, given), indent=1) + "\n", encoding="utf-8")
    return 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = os.environ.get("CLINIMM_TEST_DATA", ROOT.parent / "shared" / "data")
    parser.add_argument("--data", type=Path, default=Path(default))
    parser.add_argument("--set", choices=sorted(SETS), default="deepliif")
    parser.add_argument("--split", choices=("tile", "strips"), default="tile")
    parser.add_argument("--strips", type=int, default=0, help="0 is the set's own number")
    parser.add_argument("--resolution", type=float, default=0.0, help="um a pixel; 0 is the set's assumption")
    parser.add_argument("--as-they-lie", action="store_true", help="take pairs as registered by others")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--generator", default="unet")
    parser.add_argument("--learning-rate", type=float, default=0.0, help="0 is the configuration's default")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="write the figures there too")
    return parser.parse_args(arguments)


def prepare(
    plan: SetPlan, data: Path, resolution_um: float, unregistered: bool, seed: int
) -> list[RegisteredImages]:
    """Read and register; say what was refused."""
    found = plan.read(data / plan.folder)
    registered = []
    for images in found.images:
        one = (
            as_they_lie(images, resolution_um, plan.magnified, seed)
            if unregistered
            else register_images(images, resolution_um, plan.max_error_um, plan.magnified, seed)
        )
        for stain in one.after:
            print(
                f"{images.subject}, {stain}: registration error {words(one.before[stain])} before, "
                f"{words(one.after[stain])} after",
                flush=True,
            )
        registered.append(one)
    for refusal in (*found.refusals, *(one for each in registered for one in each.refusals)):
        print(
            f"left out: {refusal.file}, {refusal.item}: {refusal.code}: {refusal.reason} ({refusal.remedy})"
        )
    return registered


def words(error: ErrorEstimate) -> str:
    if error.p50_um is None or error.p90_um is None:
        return f"not measured ({error.judged} of {error.places} places agree)"
    return f"{error.p50_um:.2f} / {error.p90_um:.2f} um (half / 90 % of {error.judged} places, {error.scale})"


def judgeable(pairs: Sequence[StainPair]) -> list[StainPair]:
    """The pairs without stains that only one subject has: with it held out, nothing is left to learn from."""
    having = Counter(
        stain for _, stain in {(one.subject_id, stain) for one in pairs for stain in one.targets}
    )
    for stain in (name for name, subjects in having.items() if subjects < 2):
        print(f"Not judged: {stain}, which only one tile has.")
    kept = {stain for stain, subjects in having.items() if subjects > 1}
    return [
        replace(pair, targets={stain: image for stain, image in pair.targets.items() if stain in kept})
        for pair in pairs
    ]


def split(pairs: Sequence[StainPair], config: StainingConfig, kind: str, strips: int) -> list[Fold]:
    """The folds, with gaps of the generator's halo."""
    settings = GeneratorSettings(
        stains=1,
        width=config.width,
        levels=config.levels,
        fold=config.fold,
        sampler_steps=config.sampler_steps,
    )
    gap = build_generator(config.generator, settings).halo
    print(f"Gap between parts: {gap} pixels, the halo of `{config.generator}`.")
    if kind == "tile":
        return leave_subject_out(pairs, gap, config.crop_pixels)
    return strip_folds(pairs, strips, gap, config.crop_pixels)


def run(
    folds: Sequence[Fold], pairs: Sequence[StainPair], config: StainingConfig, seed: int
) -> tuple[list[StainPair], dict[str, dict[str, list[Rgb]]]]:
    """Train each fold; give the held-out pieces and, for each stain and method, an image a piece."""
    held_out: list[StainPair] = []
    made: dict[str, dict[str, list[Rgb]]] = {stain: {} for stain in stains_of(pairs)}
    for number, fold in enumerate(folds):
        training, tuning = (
            [piece.cut_as_subject(pairs) for piece in part] for part in (fold.training, fold.tuning)
        )
        began = time.process_time()
        stainer = train_stainer(
            training, tuning, config, seed + 10_000 * number, progress=Progress(), source_stain=config.source
        )
        print(
            f"{fold.name}: {time.process_time() - began:.0f} s of processor; {progress_of(stainer)}",
            flush=True,
        )
        baselines = fit_baselines([*training, *tuning])
        for piece in fold.held_out:
            cut = piece.cut(pairs)
            # Regions are compared within a specimen: what differs between two folds' models, or between
            # two folds' mean colours, is not the stain.
            held_out.append(replace(cut, specimen=f"{cut.specimen}, {fold.name}"))
            source, at = pairs[piece.pair].source, piece.block
            for stain, methods in made.items():
                for name, one in baselines.items():
                    methods.setdefault(name, []).append(one.predict(held_out[-1].source, stain))
                whole = paint(stainer, source, stain)[at.top : at.bottom, at.left : at.right]
                methods.setdefault(config.generator, []).append(whole)
    return held_out, made


def progress_of(stainer: Stainer) -> str:
    """Each member's best look at the tuning parts."""
    history = pd.DataFrame(list(stainer.history))
    best = history.sort_values("tuning_loss").groupby("member").head(1)
    looks = zip(best["tuning_loss"], best["step"], strict=True)
    return "best tuning loss " + ", ".join(f"{loss:.4f} at step {step}" for loss, step in looks)


def paint(stainer: Stainer, source: Rgb, stain: str) -> Rgb:
    """The whole tile stained at once, mirrored at its far edges up to the stride."""
    rows, columns = source.shape[:2]
    far = [(0, -side % stainer.stride) for side in (rows, columns)]
    padded = np.pad(source, (*far, (0, 0)), mode="reflect")
    image = torch.from_numpy(padded).permute(2, 0, 1)[None].float() / 255
    with torch.inference_mode():
        colour = stainer(image, stainer.stain_index(stain)).colour[0]
    rgb: Rgb = colour.mul(255).round().to(torch.uint8).permute(1, 2, 0).numpy()[:rows, :columns]
    return np.ascontiguousarray(rgb)


def judge(
    held_out: Sequence[StainPair],
    made: dict[str, dict[str, list[Rgb]]],
    plan: SetPlan,
    registered: Sequence[RegisteredImages],
    config: StainingConfig,
) -> tuple[pd.DataFrame, list[StainVerdict]]:
    """All figures over blocks of tissue, and a verdict a stain."""
    settings = BiologySettings(region_um=plan.region_um)
    tables, verdicts = [], []
    for stain, methods in made.items():
        there = [index for index, pair in enumerate(held_out) if stain in pair.targets]
        pairs = [held_out[index] for index in there]
        chosen = {name: [images[index] for index in there] for name, images in methods.items()}
        blocks = cut_blocks(pairs, chosen, plan.block_um)
        measured = measure_stain(blocks.pairs, stain, blocks.predictions, settings, blocks.units)
        errors = [one.after[stain].p50_um for one in registered if stain in one.after]
        known = [error for error in errors if error is not None]
        evidence = evidence_of(
            measured,
            config.generator,
            len({pair.subject_id for pair in pairs}),
            BLOCK,
            float(np.median(known)) if known else None,
        )
        if config.resolution_um > COARSEST_FOR_CELLS_UM:
            kept = tuple(one for one in evidence.biology if one.name != CELL_AUROC.name)
            evidence = replace(evidence, biology=kept)
        tables.append(result_table(measured, config.generator))
        verdicts.append(judge_stain(evidence))
    return join_tables(tables), verdicts


def show(table: pd.DataFrame, model: str, resolution_um: float) -> str:
    """A Markdown table a stain: measures down, methods across, and the model less the best baseline."""
    names = SHOWN + (SHOWN_OF_CELLS if resolution_um <= COARSEST_FOR_CELLS_UM else ())
    lines = []
    for stain, rows in table.groupby("stain"):
        methods = [str(one) for one in dict.fromkeys(rows["method"]) if " - " not in str(one)]
        lines += [
            f"\n{stain}\n",
            "| measure | n | " + " | ".join([*methods, f"{model} less the best"]) + " |",
        ]
        lines.append("|---" * (len(methods) + 3) + "|")
        for name in names:
            found = {str(row["method"]): row for _, row in rows[rows["metric"] == name].iterrows()}
            if not found:
                continue
            gains = [
                f"{cell(row, '+')}, {name.split(' - ')[1]}" for name, row in found.items() if " - " in name
            ]
            cells = [str(found[methods[0]]["n"]), *(cell(found[one]) for one in methods), *gains]
            lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def cell(row: Any, sign: str = "") -> str:
    if np.isnan(row["value"]):
        return "-"
    if np.isnan(row["low"]):
        return f"{row['value']:{sign}.2f}"
    return f"{row['value']:{sign}.2f} ({row['low']:{sign}.2f} to {row['high']:{sign}.2f})"


def as_json(
    table: pd.DataFrame, verdicts: Sequence[StainVerdict], given: argparse.Namespace
) -> dict[str, Any]:
    settings = {name: value for name, value in vars(given).items() if name not in ("data", "json")}
    return {
        "settings": settings,
        "verdicts": {
            one.evidence.stain: {"key": one.key, "sentence": one.sentence, "warnings": list(one.warnings)}
            for one in verdicts
        },
        "table": json.loads(table.to_json(orient="records", double_precision=6)),
    }


if __name__ == "__main__":
    sys.exit(main())
