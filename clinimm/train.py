"""Training: one network at a time, readable from top to bottom.

A *fit* is one training set with its held-out subjects: one for a plain split, one a fold and
repeat for cross-validation. A fit trains ``model.members`` networks. One member trains on the
cohort's training subjects and stops early on its tuning subjects. Several members divide training
and tuning subjects into as many parts, and each stops early on its own part: together they see
every subject, and every subject has a prediction from a member that did not train on it, which is
what calibration and the operating point are fitted to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor

from clinimm.checkpoint import Checkpoint, Progression, copy_of
from clinimm.config import TrainConfig
from clinimm.core.errors import ModelError
from clinimm.corpus import Corpus
from clinimm.model import FusionNetwork, ModelSpec
from clinimm.nn.precision import autocast
from clinimm.nn.schedule import warm_cosine
from clinimm.nn.tokens import Batch, Tokens
from clinimm.tasks.diagnosis import Task
from clinimm.tasks.fairness import Combine, combiner, mean
from clinimm.warm_start import warm_start

_WARM_UP = 0.1  # share of the steps in which the learning rate rises
_FLOOR = 0.02  # learning rate at the end, as a share of its peak
_CLIP = 1.0  # largest norm of a step's gradient
_AVERAGE = 0.95  # weight of the past in the running average of the weights, a step
_SCALE_PENALTY = 10.0  # of a log scale away from zero, in subjects
_LOG_SCALES = (-3.0, 1.0)
_MOST_TO_START = 20_000  # subjects that the simple model is fitted to
NO_CHECKPOINT = Checkpoint(None)


@dataclass(frozen=True)
class TrainingSet:
    """Subjects with their targets, and the corpus that holds their tokens.

    Attributes:
        corpus: tokens.
        spec: the model.
        targets: subject -> target, (class,).
        groups: subject -> level of the attribute whose groups are to be served alike.
        combine: how the fused losses of a batch become one.
    """

    corpus: Corpus
    spec: ModelSpec
    targets: dict[str, np.ndarray]
    groups: dict[str, str] = field(default_factory=dict)
    combine: Combine = mean

    def batch(self, subjects: Sequence[str]) -> Batch:
        """Raw tokens of some subjects."""
        return self.corpus.batch(subjects, self.spec.statistics)

    def target(self, subjects: Sequence[str]) -> Tensor:
        """(subject, class), NaN where unknown."""
        return torch.from_numpy(np.stack([self.targets[subject] for subject in subjects])).float()


def train_member(
    data: TrainingSet,
    training: Sequence[str],
    tuning: Sequence[str],
    config: TrainConfig,
    seed: int,
    checkpoint: Checkpoint = NO_CHECKPOINT,
    said: Callable[[dict[str, float]], None] = lambda row: None,
) -> tuple[FusionNetwork, Progression]:
    """Train one network with early stopping; the same seed gives the same weights.

    Args:
        data: corpus, model and targets.
        training: subjects whose labels the loss sees.
        tuning: subjects whose loss decides when to stop; empty trains for all epochs.
        config: the loop's settings.
        seed: of initial weights, order, dropout.
        checkpoint: where an interrupted training finds itself again.
        said: called with each epoch's figures.
    """
    torch.manual_seed(seed)
    labels = {name: tuple(np.nan_to_num(data.targets[name], nan=-1.0).tolist()) for name in training}
    data = replace(data, combine=combiner(config.mitigation, data.groups, labels, config.mitigation_step))
    network = FusionNetwork(data.spec)
    network.initialise(data.batch(_some(training, seed)))
    weights = (
        data.spec.task.class_weights(data.target(training))
        if config.class_weight == "balanced"
        else torch.ones(2, len(data.spec.task.classes))
    )
    folds = _warm_start(network, data, training, weights, seed) if config.warm_start else {}
    average, best = copy_of(network.state_dict()), copy_of(network.state_dict())
    optimiser = _optimiser(network, config)
    state = checkpoint.resume(network, average, best, optimiser)
    if state.epoch == 0 and tuning and config.warm_start:
        state = replace(state, best_loss=_tuning_loss(network, average, data, tuning, weights, config))
    steps = max(1, -(-len(training) // config.batch_size))
    while state.epoch < config.epochs and state.epoch - state.best_epoch <= config.patience:
        torch.manual_seed(seed * 100_003 + state.epoch)
        network.train()
        losses = []
        for step, subjects in enumerate(_batches(training, config.batch_size, state.epoch, seed)):
            done = (state.epoch * steps + step) / (config.epochs * steps)
            share = warm_cosine(done, _WARM_UP, _FLOOR)
            losses.append(_step(network, data, subjects, folds, weights, optimiser, config, share))
            _update_average(average, network)
        loss = _tuning_loss(network, average, data, tuning, weights, config)
        row = {"epoch": state.epoch, "training_loss": float(np.mean(losses)), "tuning_loss": loss}
        better = loss < state.best_loss or not tuning
        if better:
            best = copy_of(average)
        state = Progression(
            epoch=state.epoch + 1,
            best_epoch=state.epoch if better else state.best_epoch,
            best_loss=loss if better else state.best_loss,
            history=(*state.history, row),
        )
        said(row)
        checkpoint.keep(state, network, average, best, optimiser)
    if tuning and not np.isfinite([row["tuning_loss"] for row in state.history]).any():
        raise ModelError(
            f"training diverged: the tuning loss was never finite in {state.epoch} epochs; lower "
            f"train.learning_rate (now {config.learning_rate}) or look at the encoded values."
        )
    network.load_state_dict(best)
    return network.eval(), state


def _warm_start(
    network: FusionNetwork, data: TrainingSet, training: Sequence[str], weights: Tensor, seed: int
) -> dict[str, int]:
    """Fit the simple model inside the network; gives each training subject's fold."""
    fitted = _some(training, seed, _MOST_TO_START)
    batches = (data.batch(fitted[start : start + 64]) for start in range(0, len(fitted), 64))
    folds = warm_start(network, batches, data.target(fitted), data.spec.task, weights, seed)
    # Whom no simple model has seen, any of them may read.
    return dict.fromkeys(training, 0) | dict(zip(fitted, folds.tolist(), strict=True))


def _step(
    network: FusionNetwork,
    data: TrainingSet,
    subjects: Sequence[str],
    folds: dict[str, int],
    weights: Tensor,
    optimiser: torch.optim.Optimizer,
    config: TrainConfig,
    share: float,
) -> float:
    for group in optimiser.param_groups:
        group["lr"] = group["peak"] * share
    with autocast(config.precision):
        loss = _loss(network, data, subjects, folds, weights, config)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(network.parameters(), _CLIP)
    optimiser.step()
    return float(loss.detach())


def _loss(
    network: FusionNetwork,
    data: TrainingSet,
    subjects: Sequence[str],
    folds: dict[str, int],
    weights: Tensor,
    config: TrainConfig,
) -> Tensor:
    """Loss of the fused logit plus each modality's own, over the subjects that have it.

    An encoder may add one about its tokens (``TokenEncoder.auxiliary_loss``).
    """
    task: Task = data.spec.task
    model = data.spec.model
    batch = data.batch(subjects)
    target = data.target(subjects)
    embedded = network.embed(batch)
    answer = network.answer(
        embedded,
        drop=lambda tokens: drop(tokens, model.modality_dropout, model.token_dropout),
        fold=torch.tensor([folds[subject] for subject in subjects]) if folds else None,
    )
    loss = data.combine(task.loss(answer.fused.float(), target, weights, config.label_smoothing), subjects)
    for name, logits in answer.unimodal.items():
        present = batch[name].present
        own = task.loss(logits.float() + network.head_bias(), target, weights, config.label_smoothing)
        loss = loss + config.auxiliary_weight * (own * present).sum() / max(1, len(subjects))
        extra = network.encoder(name).auxiliary_loss(embedded[name], target)
        loss = loss if extra is None else loss + extra
    return loss


def drop(tokens: Batch, modality_dropout: float, token_dropout: float) -> Batch:
    """Hide random tokens and whole modalities; a subject keeps at least one that it has.

    So the network learns to answer from every subset of modalities, and from no single token.
    """
    names = list(tokens)
    present = torch.stack([tokens[name].present for name in names], dim=1)  # (batch, modality)
    keep = present & (torch.rand(present.shape) >= modality_dropout)
    # Where the draw hid all, one of the present modalities stays, chosen at random.
    rescued = (torch.rand(present.shape) * present).argmax(dim=1)
    none = ~keep.any(dim=1) & present.any(dim=1)
    keep[none, rescued[none]] = True
    return {
        name: tokens[name].with_mask(_hide(tokens[name], token_dropout) & keep[:, [column]])
        for column, name in enumerate(names)
    }


def _hide(tokens: Tokens, chance: float) -> Tensor:
    hidden = tokens.mask & (torch.rand(tokens.mask.shape) >= chance)
    # A modality whose tokens were all hidden keeps them all: that is modality dropout's business.
    return torch.where(hidden.any(dim=1, keepdim=True), hidden, tokens.mask)


@torch.no_grad()
def predict_raw(network: FusionNetwork, data: TrainingSet, subjects: Sequence[str]) -> Tensor:
    """Uncalibrated fused logits (subject, class) of one member."""
    network.eval()
    parts = [
        network.answer(network.embed(data.batch(subjects[start : start + 64]))).fused.float()
        for start in range(0, len(subjects), 64)
    ]
    return torch.cat(parts) if parts else torch.zeros(0, len(data.spec.task.classes))


def _tuning_loss(
    network: FusionNetwork,
    average: dict[str, Tensor],
    data: TrainingSet,
    tuning: Sequence[str],
    weights: Tensor,
    config: TrainConfig,
) -> float:
    if not tuning:
        return float("nan")
    current = copy_of(network.state_dict())
    network.load_state_dict(average)
    logits = predict_raw(network, data, tuning)
    network.load_state_dict(current)
    return calibrated_loss(data.spec.task, logits, data.target(tuning), weights)


def calibrated_loss(task: Task, logits: Tensor, targets: Tensor, weights: Tensor) -> float:
    """The mean loss after the best scaling of the logits (Guo et al. 2017).

    The model is calibrated after training, so confidence that only needs scaling down is no reason
    to stop. A few subjects cannot tell the scale: a penalty keeps it near one for them.
    """
    if not torch.isfinite(logits).all():
        return float("nan")

    def penalised(log_scale: float) -> float:
        loss = float(task.loss(logits * float(np.exp(log_scale)), targets, weights).mean())
        return loss + _SCALE_PENALTY * log_scale**2 / len(logits)

    return float(minimize_scalar(penalised, bounds=_LOG_SCALES, method="bounded").fun)


def _optimiser(network: FusionNetwork, config: TrainConfig) -> torch.optim.AdamW:
    """AdamW; what came pretrained learns slower; biases, gains and latents do not decay."""
    slow = {id(parameter) for parameter in network.pretrained()}
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, parameter in network.named_parameters():
        if parameter.requires_grad:
            decays = parameter.ndim > 1 and "latents" not in name
            groups.setdefault((id(parameter) in slow, decays), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "peak": config.encoder_learning_rate if pretrained else config.learning_rate,
                "weight_decay": config.weight_decay if decays else 0.0,
            }
            for (pretrained, decays), parameters in groups.items()
        ]
    )


def _update_average(average: dict[str, Tensor], network: FusionNetwork) -> None:
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            average[name].lerp_(value, 1 - _AVERAGE)
        else:
            average[name].copy_(value)


def _batches(subjects: Sequence[str], size: int, epoch: int, seed: int) -> Iterator[list[str]]:
    order = np.random.default_rng([seed, epoch]).permutation(len(subjects))
    for start in range(0, len(order), size):
        yield [subjects[index] for index in order[start : start + size]]


def _some(subjects: Sequence[str], seed: int, most: int = 512) -> list[str]:
    order = np.random.default_rng(seed).permutation(len(subjects))[:most]
    return [subjects[index] for index in order]
