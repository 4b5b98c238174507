"""Training a stainer: one generator at a time, readable from top to bottom.

Each member starts from the per-pixel polynomial of the training pairs and is looked at on fixed
crops of the tuning pairs; the look that was best is kept, and the start counts as the first. So no
member is worse on tuning pairs than the polynomial. Members differ by seed and by a bootstrap of
subjects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from clinimm.checkpoint import Checkpoint, Progression, Weights, copy_of
from clinimm.config import StainingConfig
from clinimm.core.errors import ModelError
from clinimm.nn.precision import autocast
from clinimm.nn.schedule import warm_cosine
from clinimm.nn.stain.perception import Perception
from clinimm.nn.tokens import Tokens
from clinimm.progress import QUIET, Progress
from clinimm.staining.context import ContextData
from clinimm.staining.crops import Crops, CropSource
from clinimm.staining.objectives import Objective, build_objective
from clinimm.staining.optimise import build_optimiser, update_average
from clinimm.staining.pairs import StainPair, check_pairs
from clinimm.staining.record_start import departures, fit_record
from clinimm.staining.scale_uncertainty import scale_uncertainty
from clinimm.staining.stainer import Stainer, StainerSpec, StainMember
from clinimm.staining.training_spec import training_spec
from clinimm.tasks.virtual_staining import StainTask, absolute_error, known_mean

_WARM_UP = 0.05  # share of the steps in which the learning rate rises
_FLOOR = 0.02  # learning rate at the end, as a share of its peak
_CLIP = 1.0  # largest norm of a step's gradient
_LOOKS = 16  # tuning crops that are looked at
_LOOK_PIXELS = 256  # side of such a crop; smaller where the images are
_LOOK_MULTIPLE = 32  # the coarsest cell of six levels
_START_CROPS = 64  # training crops to which the polynomial is fitted
_START_SEED = 7_919


@dataclass(frozen=True)
class StainingData:
    """What members are trained on."""

    training: CropSource
    tuning: CropSource | None
    context: ContextData | None


def train_stainer(
    pairs_train: Sequence[StainPair],
    pairs_tuning: Sequence[StainPair],
    config: StainingConfig,
    seed: int,
    context: ContextData | None = None,
    progress: Progress = QUIET,
    source_stain: str = "HE",
    folder: Path | None = None,
) -> Stainer:
    """Train a stainer; the same seed gives the same weights.

    Args:
        pairs_train: registered pairs; methods for unpaired data use their images unpaired.
        pairs_tuning: of other subjects; they decide when to stop and scale the expected error.
            Where there are none, all steps are made and the expected error stays unscaled.
        config: the generator and the loop's settings.
        seed: of weights, crops and bootstraps.
        context: the patients' records; None trains on pixels alone.
        progress: shows the steps.
        source_stain: the stain of the pairs' sources.
        folder: where an interrupted training finds itself again; None keeps nothing.

    Raises:
        DataError: the pairs cannot be trained on, for the stated reason.
        ModelError: training diverged.
    """
    check_pairs(pairs_train, pairs_tuning, config.resolution_um, config.allow_synthetic_input)
    spec = training_spec(pairs_train, pairs_tuning, config, seed, context, source_stain)
    data = StainingData(
        CropSource(pairs_train, spec.task, config.crop_pixels), _tuning(pairs_tuning, spec.task), context
    )
    stainer = Stainer(spec)
    history: list[dict[str, float]] = []
    steps = iter(progress.track(range(config.members * config.steps), "staining"))
    for index in range(config.members):
        checkpoint = Checkpoint(None if folder is None else folder / f"member-{index}")
        member, state = train_stain_member(data, spec, config, seed + 1_000 * index, checkpoint, steps)
        stainer.members[index] = member
        history += [{"member": index, **row} for row in state.history]
    stainer.history = tuple(history)
    if data.tuning is not None:
        scale_uncertainty(stainer, data.tuning, context, _LOOKS)
    return stainer.eval()


class Trainee(nn.Module):
    """A member in training, with what it is trained against."""

    def __init__(self, spec: StainerSpec, config: StainingConfig) -> None:
        super().__init__()
        self.member = StainMember(spec)
        self.objective = build_objective(config, spec.settings)
        #: Training subject -> the fold in which the record's probes have not seen him.
        self.folds: dict[str, int] = {}
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a gap in torch's stubs

    def loss(self, crops: Crops, context: ContextData | None) -> Tensor:
        """The objective's loss of a batch."""
        tokens = read_context(self.member, crops.subjects, context, self.folds)
        return self.objective(self.member.generator, crops, tokens)


def train_stain_member(
    data: StainingData,
    spec: StainerSpec,
    config: StainingConfig,
    seed: int,
    checkpoint: Checkpoint,
    steps: Iterator[int],
) -> tuple[StainMember, Progression]:
    """Train one member with early stopping; the same seed gives the same weights.

    Args:
        data: crops and records.
        spec: what is built.
        config: the loop's settings.
        seed: of initial weights, bootstrap and crops.
        checkpoint: where an interrupted training finds itself again.
        steps: moved on by one a step, for people.

    Raises:
        ModelError: the loss stopped being finite.
    """
    torch.manual_seed(seed)
    subjects = _bootstrap(data.training.subjects, config.members, seed)
    trainee = Trainee(spec, config)
    _initialise(trainee, data, seed)
    look = _build_look(data, trainee.objective)
    average, best = copy_of(trainee.state_dict()), copy_of(trainee.state_dict())
    optimiser = build_optimiser(trainee, config.learning_rate, trainee.objective.betas)
    state = checkpoint.resume(trainee, average, best, optimiser)
    if state.epoch == 0:
        state = Progression(best_loss=look(trainee, average))
    looks = -(-config.steps // config.check_every)
    while state.epoch < looks and state.epoch - state.best_epoch <= config.patience:
        torch.manual_seed(seed * 100_003 + state.epoch)
        random = np.random.default_rng([seed, state.epoch])
        trainee.train()
        first = state.epoch * config.check_every
        losses = []
        for step in range(first, min(first + config.check_every, config.steps)):
            crops = _draw(data.training, config, subjects, random, trainee.objective.paired)
            losses.append(_step(trainee, crops, data.context, optimiser, step / config.steps))
            update_average(average, trainee, step)
            next(steps, None)
        if not np.isfinite(losses).all():
            raise ModelError(
                f"training diverged before step {first + len(losses)}: the loss is no finite number; lower "
                f"staining.learning_rate (now {config.learning_rate}) or look at the pairs."
            )
        loss = look(trainee, average)
        better = data.tuning is None or loss < state.best_loss
        if better:
            best = copy_of(average)
        row = {"step": first + len(losses), "training_loss": float(np.mean(losses)), "tuning_loss": loss}
        state = Progression(
            epoch=state.epoch + 1,
            best_epoch=state.epoch if better else state.best_epoch,
            best_loss=loss if better else state.best_loss,
            history=(*state.history, row),
        )
        checkpoint.keep(state, trainee, average, best, optimiser)
    checkpoint.every_seconds = 0.0  # a finished member is never trained again
    checkpoint.keep(state, trainee, average, best, optimiser)
    trainee.load_state_dict(best)
    return trainee.member.eval(), state


def read_context(
    member: StainMember,
    subjects: Sequence[str],
    context: ContextData | None,
    folds: Mapping[str, int] | None = None,
) -> Tokens | None:
    """The subjects' fused tokens, a row each; ``folds`` are those of training subjects."""
    if member.trunk is None or context is None:
        return None
    fold = torch.tensor([folds[one] for one in subjects]) if folds else None
    tokens: Tokens = member.trunk(context.batch(subjects), fold)
    return tokens


def _step(
    trainee: Trainee,
    crops: Crops,
    context: ContextData | None,
    optimiser: torch.optim.Optimizer,
    done: float,
) -> float:
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * warm_cosine(done, _WARM_UP, _FLOOR)
    with autocast():
        loss = trainee.loss(crops, context)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    # Apart, or a critic's large gradient would hold the generator back.
    for part in (trainee.member, trainee.objective):
        if parameters := list(part.parameters()):
            torch.nn.utils.clip_grad_norm_(parameters, _CLIP)
    optimiser.step()
    return float(loss.detach())


def _draw(
    source: CropSource,
    config: StainingConfig,
    subjects: Sequence[str],
    random: np.random.Generator,
    paired: bool,
) -> Crops:
    plans = source.draw(config.crops_per_step, random, subjects)
    return source.cut(plans, None if paired else source.elsewhere(plans, random))


def _initialise(trainee: Trainee, data: StainingData, seed: int) -> None:
    """Fit the polynomial start of every stain, the adapters and the record's probes to training subjects."""
    plans = data.training.spread(_START_CROPS * trainee.objective.settings.stains, seed)
    paired = trainee.objective.paired
    random = np.random.default_rng([seed, _START_SEED])
    crops = data.training.cut(plans, None if paired else data.training.elsewhere(plans, random))
    start = trainee.member.generator.start
    for stain in crops.stain.unique().tolist():
        own = crops.stain == stain
        known = crops.known[own]
        source, target = (image[own].permute(0, 2, 3, 1) for image in (crops.source, crops.target))
        if paired:
            start.fit_pairs(stain, source[known], target[known])
        else:
            start.fit_unpaired(stain, source.reshape(-1, 3), target[known])
    trunk, subjects = trainee.member.trunk, data.training.subjects
    if trunk is not None and data.context is not None:
        batch = data.context.batch(subjects)
        trunk.initialise(batch)
        if paired:
            apart = departures(data.training.pairs, data.training.task, start, subjects)
            folds = fit_record(trunk, batch, apart, seed)
            trainee.folds = dict(zip(subjects, folds.tolist(), strict=True))


def _build_look(data: StainingData, objective: Objective) -> Callable[[Trainee, Weights], float]:
    """How the averaged weights are judged on fixed tuning crops: lower is better.

    L1 where pairs are registered. Unpaired training must not look at the pairing, so it watches how
    alike made and real stains are as sets of images.
    """
    tuning = data.tuning
    if tuning is None:
        return lambda trainee, average: float("nan")
    perception = None if objective.paired else Perception()
    plans = tuning.spread(_LOOKS)

    @torch.no_grad()
    def look(trainee: Trainee, average: Weights) -> float:
        current = copy_of(trainee.state_dict())
        trainee.load_state_dict(average)
        trainee.eval()
        losses = []
        for plan in plans:
            crops = tuning.cut([plan])
            tokens = read_context(trainee.member, crops.subjects, data.context)
            made = trainee.member.generator(crops.source, crops.stain, tokens)[:, :3]
            if perception is None:
                losses.append(known_mean(absolute_error(made, crops.target), crops.known))
            else:
                losses.append(perception.style_distance(made, crops.target))
        trainee.load_state_dict(current)
        return float(torch.stack(losses).mean())

    return look


def _tuning(pairs: Sequence[StainPair], task: StainTask) -> CropSource | None:
    if not pairs:
        return None
    side = min(_LOOK_PIXELS, *(min(pair.source.shape[:2]) for pair in pairs))
    return CropSource(pairs, task, side // _LOOK_MULTIPLE * _LOOK_MULTIPLE)


def _bootstrap(subjects: Sequence[str], members: int, seed: int) -> list[str]:
    """One member learns from all; several each from as many subjects, drawn with replacement."""
    if members == 1:
        return list(subjects)
    return [str(one) for one in np.random.default_rng(seed).choice(list(subjects), len(subjects))]
