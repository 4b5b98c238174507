"""The train stage: which models are fitted to which subjects.

For every fold of the cohort's split: the fused model, and one model a modality alone (law 5).
Under cross-validation a last model, the one that is shipped, is fitted to all labelled subjects;
its performance is what the folds measured.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from clinimm.calibrate import platt, platt_multiclass
from clinimm.checkpoint import Checkpoint
from clinimm.config import PipelineConfig
from clinimm.core.errors import DataError, MissingStageError
from clinimm.core.record import digest_file, digest_json, write_text
from clinimm.corpus import Corpus
from clinimm.modalities import get_modality
from clinimm.modality import Statistics
from clinimm.model import MODEL_FILES, FusionModel, FusionNetwork, ModelSpec
from clinimm.origin import write_origin
from clinimm.parallel import cores, run_jobs
from clinimm.progress import Progress
from clinimm.tables import Cohort, Fit, load_cohort, read_cohort
from clinimm.train import TrainingSet, predict_raw, train_member
from clinimm.warm_start import deal
from clinimm.workspace import Workspace

_SEED_STEP = 1_000
_PLAN = "plan"  # file with the digest of all that decides what is fitted to what
_TUNING_PARTS = 5  # of which one is for tuning, where the split names no tuning subjects


def run(workspace: Workspace, progress: Progress) -> dict[str, Any]:
    """Fit every model of the run into ``train/``; what is finished already is kept.

    Raises:
        DataError: no subject is labelled, or no modality is left to train on.
    """
    config = workspace.config
    folder = workspace.stage("train")
    cohort = load_cohort(workspace)
    corpus = Corpus.load(workspace.root / "encode", config.plugins)
    modalities = usable_modalities(config, corpus)
    _forget_other_plan(folder, workspace)
    jobs = list(_jobs(folder, cohort, modalities, config))
    missing = [job for job in jobs if not (job.target / "done").exists()]
    finished = run_jobs(partial(_do, workspace), missing, _workers(config))
    for _ in progress.track(finished, "models", len(missing)):
        pass
    if not _is_cross_validation(cohort):
        _copy_model(folder / "fits" / cohort.fits[0].name, folder / "model")
    history = [_history(job.target) for job in jobs]
    pd.concat(history, ignore_index=True).to_parquet(folder / "history.parquet", index=False)
    shipped = FusionModel.from_pretrained(folder / "model")
    write_origin(workspace, _shipped_pool(cohort), shipped.digest)
    return {
        "models": len(jobs),
        "modalities": list(modalities),
        "parameters": sum(p.numel() for p in shipped.parameters()),
        "trained_parameters": sum(p.numel() for p in shipped.parameters() if p.requires_grad),
        "model_digest": shipped.digest,
        "labelled_subjects": len(cohort.labelled),
    }


def usable_modalities(config: PipelineConfig, corpus: Corpus) -> tuple[str, ...]:
    """The enabled modalities of which somebody has a token.

    Raises:
        DataError: there is none.
    """
    names = tuple(name for name in corpus.modalities if config.modality(name).enabled)
    if not names:
        raise DataError("no enabled modality has a single token; see encode/index.json for why.")
    return names


@dataclass(frozen=True)
class Job:
    """One model to fit: where it goes, its subjects, its modalities, its seed."""

    target: Path
    fit: Fit
    modalities: tuple[str, ...]
    seed: int


def _jobs(folder: Path, cohort: Cohort, modalities: tuple[str, ...], config: PipelineConfig) -> Iterator[Job]:
    """Every model of the run; the longest trainings first."""
    if _is_cross_validation(cohort):
        whole = Fit(-1, -1, cohort.labelled, (), ())
        yield Job(folder / "model", whole, modalities, config.seed + _SEED_STEP * len(cohort.fits))
    for index, fit in enumerate(cohort.fits):
        yield Job(folder / "fits" / fit.name, fit, modalities, config.seed + _SEED_STEP * index)
    if config.train.single_modality and len(modalities) > 1:
        for index, fit in enumerate(cohort.fits):
            for name in modalities:
                target = folder / "singles" / fit.name / name
                yield Job(target, fit, (name,), config.seed + _SEED_STEP * index)


def _workers(config: PipelineConfig) -> int:
    """Models side by side: as asked for, else one a core."""
    return config.train.workers or cores()


def _do(workspace: Workspace, job: Job) -> None:
    """Do one job, in whichever process this is."""
    torch.set_num_threads(workspace.config.train.threads)
    plan = (workspace.root / "train" / _PLAN).read_text(encoding="utf-8")
    cohort, corpus = _tables(workspace.root, plan, workspace.config.plugins)
    _fit_model(job, corpus, cohort, workspace.config)


@lru_cache(maxsize=1)
def _tables(root: Path, plan: str, plugins: tuple[str, ...]) -> tuple[Cohort, Corpus]:
    """Read once a process and plan: a worker fits many models to the same tables."""
    return read_cohort(root / "cohort"), Corpus.load(root / "encode", plugins)


def _fit_model(job: Job, corpus: Corpus, cohort: Cohort, config: PipelineConfig) -> None:
    """Train the members of one model, calibrate it, and save it with its tuning logits."""
    fit, target, seed = job.fit, job.target, job.seed
    pool = tuple(sorted((*fit.training, *fit.tuning)))
    spec = ModelSpec(
        task=cohort.task,
        model=config.model,
        modalities={name: config.modality(name) for name in job.modalities},
        statistics=fit_statistics(corpus, pool, job.modalities, config),
        plugins=config.plugins,
        provenance={"fit": fit.name, "seed": seed, "subjects": len(pool)},
    )
    data = TrainingSet(corpus, spec, cohort.targets, cohort.groups(config.train.mitigation_attribute))
    members: list[FusionNetwork] = []
    tuned: dict[str, np.ndarray] = {}
    rows: list[dict[str, Any]] = []
    for number, (training, tuning) in enumerate(_parts(fit, cohort, config.model.members, seed)):
        checkpoint = Checkpoint(target / f"member-{number}")
        network, state = train_member(data, training, tuning, config.train, seed + number, checkpoint)
        members.append(network)
        logits = predict_raw(network, data, tuning).numpy()
        tuned |= dict(zip(tuning, logits, strict=True))
        rows += [{"model": target.name, "fit": fit.name, "member": number, **row} for row in state.history]
    model = FusionModel(spec)
    for slot, network in zip(model.members, members, strict=True):
        slot.load_state_dict(network.state_dict())
    _calibrate(model, tuned, cohort)
    model.save_pretrained(target)
    pd.DataFrame(rows).to_parquet(target / "history.parquet", index=False)
    _tuning_logits(model, tuned).to_parquet(target / "tuning_logits.parquet", index=False)
    for number in range(len(members)):
        shutil.rmtree(target / f"member-{number}", ignore_errors=True)
    write_text(target / "done", model.digest + "\n")


def fit_statistics(
    corpus: Corpus, subjects: Sequence[str], modalities: tuple[str, ...], config: PipelineConfig
) -> dict[str, Statistics]:
    """What each modality learns from these subjects, and from no others."""
    found = {}
    for name in modalities:
        modality = get_modality(name, config.plugins)
        encoded = corpus.encoded(name, subjects)
        statistics = modality.fit(encoded, config.modality(name))
        sample = replace(encoded, tokens=encoded.tokens.iloc[:1], values=encoded.values[:1])
        found[name] = {**statistics, "raw_dim": int(modality.tensorise(sample, statistics).shape[1])}
    return found


def _parts(
    fit: Fit, cohort: Cohort, members: int, seed: int
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...]]]:
    """Training and tuning subjects of each member (see the module's first lines)."""
    if members == 1 and fit.tuning:
        yield fit.training, fit.tuning
        return
    pool = np.array(sorted((*fit.training, *fit.tuning)))
    targets = np.stack([cohort.targets[subject] for subject in pool])
    part = deal(targets, max(members, 2 if members > 1 else _TUNING_PARTS), seed)
    for number in range(members):
        yield tuple(pool[part != number]), tuple(pool[part == number])


def _calibrate(model: FusionModel, tuned: dict[str, np.ndarray], cohort: Cohort) -> None:
    if not tuned:
        return
    logits = np.stack(list(tuned.values()))
    targets = np.stack([cohort.targets[subject] for subject in tuned])
    if cohort.task.kind == "multiclass":
        slope, intercept = platt_multiclass(logits, targets.argmax(1))
    else:
        pairs = [platt(logits[:, column], targets[:, column]) for column in range(targets.shape[1])]
        slope, intercept = (np.array(values) for values in zip(*pairs, strict=True))
    model.slope.copy_(torch.from_numpy(slope))
    model.intercept.copy_(torch.from_numpy(intercept))


def _tuning_logits(model: FusionModel, tuned: dict[str, np.ndarray]) -> pd.DataFrame:
    """Calibrated logits of tuning subjects, each from a member that did not train on it."""
    if not tuned:
        return pd.DataFrame({"subject_id": pd.Series(dtype=str)})
    raw = torch.from_numpy(np.stack(list(tuned.values())))
    logits = model.calibrate(raw).detach().numpy()
    columns = {f"logit:{name}": logits[:, index] for index, name in enumerate(model.classes)}
    return pd.DataFrame({"subject_id": list(tuned), **columns}).sort_values("subject_id")


def _is_cross_validation(cohort: Cohort) -> bool:
    return len(cohort.fits) > 1


def _shipped_pool(cohort: Cohort) -> tuple[str, ...]:
    """Whom the shipped model was fitted to, tuning included."""
    first = cohort.fits[0]
    return cohort.labelled if _is_cross_validation(cohort) else (*first.training, *first.tuning)


def _copy_model(source: Path, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for name in MODEL_FILES:
        shutil.copyfile(source / name, target / name)


def _history(target: Path) -> pd.DataFrame:
    table = pd.read_parquet(target / "history.parquet")
    kind = "fused" if target.parent.name in ("fits", "train") else f"single:{target.name}"
    return table.assign(model=kind)


def plan_digest(workspace: Workspace) -> str:
    """Digest of all that decides what is fitted to what: settings, cohort, split and tokens."""
    config = workspace.config
    return digest_json(
        {
            "config": config.model_dump(
                mode="json", include={"seed", "modalities", "model", "train", "plugins"}
            ),
            "cohort": digest_file(workspace.need("cohort", "cohort.parquet")),
            "splits": digest_file(workspace.need("cohort", "splits.parquet")),
            "encode": digest_file(workspace.need("encode", "index.json")),
        }
    )


def require_same_plan(workspace: Workspace) -> None:
    """Refuse models that were fitted to another split: they may have seen today's held-out subjects.

    Raises:
        MissingStageError: settings, cohort, split or tokens changed since the training.
    """
    if workspace.need("train", _PLAN).read_text(encoding="utf-8").strip() != plan_digest(workspace):
        raise MissingStageError(
            f"{workspace.root / 'train'} was fitted under other settings or to another cohort, split or "
            "tokens, so its models may have seen the held-out subjects: run `clinimm train PIPELINE` first."
        )


def _forget_other_plan(folder: Path, workspace: Workspace) -> None:
    """Drop finished models that were fitted under another configuration or to other data."""
    plan = plan_digest(workspace)
    record = folder / _PLAN
    if record.exists() and record.read_text(encoding="utf-8").strip() != plan:
        for name in ("fits", "singles", "model"):
            shutil.rmtree(folder / name, ignore_errors=True)
    write_text(record, plan + "\n")
