"""What the record alone tells of a stain, fitted before any pixel is learned from.

A few dozen patients do not teach attention over all their facts the one fact that moves a stain:
it learns the patients by heart instead. A penalised linear model finds such a fact (decision 0011
does the same for a diagnosis). So each modality's ``Probe`` is fitted to how far a patient's real
stain departs from the colours that the pixels alone would give: three channels a stain, the penalty
by cross-validation, and each patient in training read by a model that has not seen him. What does
not predict patients that it has not seen is left out.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LassoCV, RidgeCV
from torch import Tensor

from clinimm.modalities.pathology.tissue import tissue_mask
from clinimm.nn.stain.start import ColourStart
from clinimm.nn.tokens import Batch
from clinimm.staining.context import CHANNELS, Trunk
from clinimm.staining.pairs import StainPair
from clinimm.tasks.virtual_staining import StainTask

_FOLDS = 5
_FEWEST = 10  # patients with modality and stain below which nothing is fitted
_STEP = 4  # every fourth pixel of a row and a column tells a mean well enough
_PENALTIES = 20  # of the lasso's path
_RIDGE = np.logspace(0, 5, 11)


def departures(
    pairs: Sequence[StainPair], task: StainTask, start: ColourStart, subjects: Sequence[str]
) -> Float[np.ndarray, "subject output"]:
    """Mean over tissue of the real stain less the start's colours, three channels a stain.

    Args:
        pairs: registered pairs.
        task: the stains, in order.
        start: fitted to the training pairs.
        subjects: the rows.

    Returns:
        In units of the range [0, 1]; NaN where a subject has no pair of a stain.
    """
    row = {name: index for index, name in enumerate(subjects)}
    total = np.zeros((len(subjects), len(task.stains), CHANNELS))
    count = np.zeros((len(subjects), len(task.stains), 1))
    for pair in pairs:
        if pair.subject_id not in row:
            continue
        source, known = pair.source[::_STEP, ::_STEP], pair.valid[::_STEP, ::_STEP]
        used = known & tissue_mask(pair.source)[::_STEP, ::_STEP]
        image = torch.from_numpy(source.copy()).permute(2, 0, 1)[None].float() / 255
        for stain, target in pair.targets.items():
            index = task.index(stain)
            made = start(image, torch.tensor([index]))[0].permute(1, 2, 0).numpy()
            apart = (target[::_STEP, ::_STEP] / 255.0 - made)[used]
            total[row[pair.subject_id], index] += apart.sum(0)
            count[row[pair.subject_id], index] += len(apart)
    with np.errstate(invalid="ignore"):
        return (total / np.where(count > 0, count, np.nan)).reshape(len(subjects), -1)


@torch.no_grad()
def fit_record(trunk: Trunk, batch: Batch, targets: Float[np.ndarray, "subject output"], seed: int) -> Tensor:
    """Fit the trunk's probes to training subjects.

    Args:
        trunk: changed in place.
        batch: the training subjects' raw tokens.
        targets: of ``departures``.
        seed: of the folds.

    Returns:
        Each subject's fold, for ``Trunk.forward``.
    """
    folds = np.random.default_rng(seed).permutation(len(targets)) % _FOLDS
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a stain that nobody has
        spread = np.nanstd(targets, axis=0)
        scaled = (targets - np.nanmean(targets, axis=0)) / np.where(spread > 0, spread, np.nan)
    embedded = trunk.embed(batch)
    for name, tokens in embedded.items():
        there = tokens.present.numpy()
        encoder = trunk.encoder(name)
        summary = encoder.summarise(tokens).double().numpy()
        if there.sum() >= _FEWEST:
            weight, bias = _fitted(summary, scaled, there, folds, encoder.sparse_summary)
            zero = torch.zeros(summary.shape[1])
            trunk.probe(name).set(zero, torch.from_numpy(weight).float(), torch.from_numpy(bias).float())
    return torch.from_numpy(folds)


def _fitted(
    summary: np.ndarray, targets: np.ndarray, there: np.ndarray, folds: np.ndarray, sparse: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Weights (fold, feature, output) and biases (fold, output), zero where they do not predict."""
    weight = np.zeros((_FOLDS, summary.shape[1], targets.shape[1]))
    bias = np.zeros((_FOLDS, targets.shape[1]))
    for column in range(targets.shape[1]):
        rows = np.flatnonzero(there & ~np.isnan(targets[:, column]))
        if len(rows) < _FEWEST:
            continue
        unseen = np.zeros(len(rows))
        for fold in range(_FOLDS):
            kept, left = rows[folds[rows] != fold], folds[rows] == fold
            slope, level = _linear(summary[kept], targets[kept, column], sparse)
            weight[fold, :, column], bias[fold, column] = slope, level
            unseen[left] = summary[rows[left]] @ slope + level
        real = targets[rows, column]
        if np.square(real - unseen).sum() >= np.square(real - real.mean()).sum():
            weight[:, :, column], bias[:, column] = 0, 0
    return weight, bias


def _linear(features: np.ndarray, target: np.ndarray, sparse: bool) -> tuple[np.ndarray, float]:
    """Lasso where each feature is a fact of its own, ridge where all tell a little."""
    mean = np.zeros(features.shape[1]) if sparse else features.mean(0)
    scale = float(np.sqrt(np.square(features - mean).mean())) or 1.0
    ready = (features - mean) / scale
    model: Any
    if sparse:
        model = LassoCV(alphas=_PENALTIES, cv=min(_FOLDS, len(target)), max_iter=5_000, random_state=0)
    else:
        model = RidgeCV(alphas=_RIDGE)
    with warnings.catch_warnings():
        # Where the weakest penalties do not converge, cross-validation does not choose them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(ready, target)
    slope = model.coef_ / scale
    return slope, float(model.intercept_ - mean @ slope)
