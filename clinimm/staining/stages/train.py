"""The stage ``train`` of a staining run: a stainer and its safety case for every fold.

Where the record conditions the stain, a second stainer is trained on pixels alone: the ablation
that says whether the record helps (law 5).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from clinimm.core.errors import DataError
from clinimm.core.record import write_text
from clinimm.corpus import Corpus
from clinimm.fit import fit_statistics, plan_digest, usable_modalities
from clinimm.parallel import cores, run_jobs
from clinimm.progress import QUIET, Progress
from clinimm.staining.context import ContextData, ContextSpec
from clinimm.staining.fit_safety import fit_safety
from clinimm.staining.pair_store import PairStore
from clinimm.staining.pairs import StainPair
from clinimm.staining.runner import runner
from clinimm.staining.safety import SafetyCase
from clinimm.staining.stages.encode import PAIRS, staining_of
from clinimm.staining.stainer import STAINER_FILES, Stainer
from clinimm.staining.tile_examples import tile_examples
from clinimm.staining.train_stainer import train_stainer
from clinimm.tables import Cohort, Fit, load_cohort, read_cohort
from clinimm.warm_start import deal
from clinimm.workspace import Workspace

SAFETY = "safety.json"
FUSED, PLAIN = "fits", "plain"
_DONE = "done"
_PLAN = "plan"
_SEED_STEP = 10_000
_TUNING_PARTS = 5
_MOST_SAFETY_PAIRS = 40


@dataclass(frozen=True)
class Job:
    """One stainer to train: where it goes, for whom, whether it reads the record, its seed."""

    target: Path
    fit: Fit
    context: bool
    seed: int


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Train every stainer of the run into ``train/``; what is finished already is kept.

    Raises:
        DataError: no training subject has a registered pair.
    """
    folder = workspace.stage("train")
    cohort = load_cohort(workspace)
    conditioned = staining_of(workspace).context and bool(_context_names(workspace))
    _forget_other_plan(folder, workspace)
    jobs = list(_jobs(folder, cohort, conditioned, workspace.config.seed))
    missing = [job for job in jobs if not (job.target / _DONE).exists()]
    for _ in progress.track(run_jobs(partial(_do, workspace), missing, cores()), "stainers", len(missing)):
        pass
    if len(cohort.fits) == 1:
        _copy(folder / FUSED / cohort.fits[0].name, folder / "model")
    history = [_history(job) for job in jobs]
    pd.concat(history, ignore_index=True).to_parquet(folder / "history.parquet", index=False)
    shipped = Stainer.from_pretrained(folder / "model")
    return {
        "stainers": len(jobs),
        "stains": list(shipped.spec.stains),
        "conditioned": conditioned,
        "parameters": sum(one.numel() for one in shipped.parameters()),
        "halo_pixels": shipped.halo,
        "model_digest": shipped.digest,
    }


def load_safety(folder: Path) -> SafetyCase:
    """The safety case beside a stainer."""
    return SafetyCase.from_json(json.loads((folder / SAFETY).read_text(encoding="utf-8")))


def load_context(workspace: Workspace, stainer: Stainer) -> ContextData | None:
    """The records that a saved stainer reads; None for one that reads none."""
    spec = stainer.spec.context
    return None if spec is None else ContextData(_corpus(workspace), spec)


def context_data(workspace: Workspace, subjects: Sequence[str]) -> ContextData:
    """The records behind the pairs, with statistics of some subjects alone."""
    config, corpus = workspace.config, _corpus(workspace)
    names = usable_modalities(config, corpus)
    return ContextData(
        corpus,
        ContextSpec(
            config.model,
            {name: config.modality(name) for name in names},
            fit_statistics(corpus, subjects, names, config),
            config.plugins,
        ),
    )


def _context_names(workspace: Workspace) -> tuple[str, ...]:
    return usable_modalities(workspace.config, _corpus(workspace))


def _corpus(workspace: Workspace) -> Corpus:
    return Corpus.load(workspace.root / "encode", workspace.config.plugins)


def _jobs(folder: Path, cohort: Cohort, conditioned: bool, seed: int) -> Iterator[Job]:
    """Every stainer of the run; under cross-validation the shipped one learns from everybody."""
    if len(cohort.fits) > 1:
        whole = Fit(-1, -1, cohort.labelled, (), ())
        yield Job(folder / "model", whole, conditioned, seed + _SEED_STEP * len(cohort.fits))
    for index, fit in enumerate(cohort.fits):
        yield Job(folder / FUSED / fit.name, fit, conditioned, seed + _SEED_STEP * index)
        if conditioned:
            yield Job(folder / PLAIN / fit.name, fit, False, seed + _SEED_STEP * index)


def _do(workspace: Workspace, job: Job) -> None:
    """Train one stainer and fit its safety case, in whichever process this is."""
    torch.set_num_threads(workspace.config.train.threads)
    config = staining_of(workspace)
    store = PairStore(workspace.root / "encode" / PAIRS)
    cohort = read_cohort(workspace.root / "cohort")
    training, tuning = _sides(job.fit, cohort, store, job.seed)
    pool = (*training, *tuning)
    context = context_data(workspace, pool) if job.context else None
    pairs, looked = store.pairs(training), store.pairs(tuning)
    stainer = train_stainer(
        pairs, looked, config, job.seed, context, QUIET, config.source, job.target / "members"
    )
    stainer.save_pretrained(job.target)
    safety = _safety(stainer, pairs, looked, context, config.refuse_share, job.seed)
    write_text(job.target / SAFETY, json.dumps(safety.to_json(), sort_keys=True) + "\n")
    pd.DataFrame(list(stainer.history)).to_parquet(job.target / "history.parquet", index=False)
    shutil.rmtree(job.target / "members", ignore_errors=True)
    write_text(job.target / _DONE, stainer.digest + "\n")


def _sides(fit: Fit, cohort: Cohort, store: PairStore, seed: int) -> tuple[list[str], list[str]]:
    """Training and tuning subjects with a registered pair; a share is put aside where none is named."""
    there = store.subjects
    training = [subject for subject in fit.training if subject in there]
    tuning = [subject for subject in fit.tuning if subject in there]
    if not tuning and len(training) >= _TUNING_PARTS:
        known = np.stack([np.nan_to_num(cohort.targets[subject]) for subject in training])
        part = deal(known, _TUNING_PARTS, seed)
        tuning = [subject for subject, number in zip(training, part, strict=True) if number == 0]
        training = [subject for subject in training if subject not in set(tuning)]
    if not training or not tuning:
        raise DataError(
            f"fit {fit.name}: {len(training)} training and {len(tuning)} tuning subjects have a registered "
            "pair; both are needed, the second to say how wrong the stain is."
        )
    return training, tuning


def _safety(
    stainer: Stainer,
    pairs: list[StainPair],
    tuning: list[StainPair],
    context: ContextData | None,
    refuse_share: float,
    seed: int,
) -> SafetyCase:
    run_one = runner(stainer, context)
    few = np.random.default_rng(seed).permutation(len(pairs))[:_MOST_SAFETY_PAIRS]
    learned = tile_examples(run_one, stainer.stride, [pairs[index] for index in sorted(few)])
    looked = tile_examples(run_one, stainer.stride, tuning)
    return fit_safety(learned, looked, stainer.spec.resolution_um, refuse_share, seed=seed)


def _copy(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in (*STAINER_FILES, SAFETY):
        shutil.copyfile(source / name, target / name)


def _history(job: Job) -> pd.DataFrame:
    table = pd.read_parquet(job.target / "history.parquet")
    return table.assign(fit=job.fit.name, model="with record" if job.context else "pixels alone")


def _forget_other_plan(folder: Path, workspace: Workspace) -> None:
    """Drop finished stainers that were trained under other settings or on other data."""
    config = workspace.config.model_dump(mode="json", include={"staining"})
    plan = plan_digest(workspace) + json.dumps(config, sort_keys=True)
    record = folder / _PLAN
    if record.exists() and record.read_text(encoding="utf-8").strip() != plan:
        for name in (FUSED, PLAIN, "model"):
            shutil.rmtree(folder / name, ignore_errors=True)
    write_text(record, plan + "\n")
