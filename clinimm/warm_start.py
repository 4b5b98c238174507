"""Where training starts: at the best simple model, not at random weights.

A network that sees a few hundred subjects rarely finds by gradient descent what a penalised linear
model finds at once. So each modality's ``Probe`` is fitted first: logistic regression on the
modality's summary, ridge where all features tell a little, lasso where each is a fact of its own,
the penalty by cross-validation. Then the weights of their products are fitted to out-of-fold
evidence, as in stacking. Training goes on from there, and its early stopping may find that nothing
beats the start.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.special import expit
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, LogisticRegressionCV
from torch import Tensor

from clinimm.model import FusionNetwork
from clinimm.nn.tokens import Batch

_FOLDS = 5
_FEWEST = 3  # subjects of each class below which no evidence is fitted
_MOST_TO_CHOOSE = 2_000  # subjects that choose the penalty
_MOST_TO_FIT = 20_000  # subjects that a linear model is fitted to
_STRENGTHS = np.logspace(-4, 1, 11)
_PAIR_PENALTIES = (1e4, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)


@dataclass(frozen=True)
class Training:
    """What the simple model is fitted to.

    Attributes:
        summaries: modality -> (subject, feature).
        present: modality -> (subject,), who has it.
        targets: (subject, class), NaN where unknown.
        folds: (subject,), which part of the cross-fitting a subject is in.
        weights: (2, class), weight of a negative and of a positive in the loss.
    """

    summaries: dict[str, np.ndarray]
    present: dict[str, np.ndarray]
    targets: np.ndarray
    folds: np.ndarray
    weights: np.ndarray


@torch.no_grad()
def warm_start(
    network: FusionNetwork, batches: Iterable[Batch], targets: Tensor, weights: Tensor, seed: int
) -> Tensor:
    """Fit the network's probes and pairs to the training subjects.

    Args:
        network: changed in place.
        batches: raw tokens of all training subjects, in order.
        targets: (subject, class), NaN where unknown.
        weights: (2, class), of ``Task.class_weights``.
        seed: of the folds.

    Returns:
        Each subject's fold, for ``FusionNetwork.answer``.
    """
    folds = deal(targets.numpy(), _FOLDS, seed)
    data = _training(network, batches, targets.numpy(), folds, weights.numpy())
    for name in data.summaries:
        fit_probe(network, name, data, seed)
    fold = torch.from_numpy(folds)
    summaries = {name: torch.from_numpy(values) for name, values in data.summaries.items()}
    present = {name: torch.from_numpy(there) for name, there in data.present.items()}
    evidence = {name: network.probe(name)(summaries[name], present[name], fold) for name in summaries}
    network.evidence.settle(evidence, present)
    network.eval()
    products = network.evidence.products(evidence, present).numpy()
    start = torch.stack(list(evidence.values())).sum(0).numpy()
    for column in range(targets.shape[1]):
        pairs, intercept = _fit_pairs(products[:, :, column].T, start[:, column], data, column)
        network.evidence.weight[:, column] = torch.from_numpy(pairs).float()
        network.head_bias()[column] = intercept
    return fold


def deal(targets: np.ndarray, parts: int, seed: int) -> np.ndarray:
    """A part for each subject, such that all parts have alike shares of each combination of classes.

    Args:
        targets: (subject, class), NaN where unknown.
    """
    order = np.random.default_rng(seed).permutation(len(targets))
    weights = 2 ** (np.arange(targets.shape[1]) % 50)
    strata = np.nan_to_num(targets[order]) @ weights
    place = np.empty(len(order), np.int64)
    # Dealing out each stratum in turn keeps its share alike in every part.
    place[order[np.argsort(strata, kind="stable")]] = np.arange(len(order))
    return place % parts


def _training(
    network: FusionNetwork,
    batches: Iterable[Batch],
    targets: np.ndarray,
    folds: np.ndarray,
    weights: np.ndarray,
) -> Training:
    network.eval()
    summaries: dict[str, list[np.ndarray]] = {}
    present: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        embedded = network.embed(batch)
        for name, summary in network.summarise(embedded).items():
            summaries.setdefault(name, []).append(summary.float().numpy())
            present.setdefault(name, []).append(embedded[name].present.numpy())
    return Training(
        {name: np.concatenate(parts) for name, parts in summaries.items()},
        {name: np.concatenate(parts) for name, parts in present.items()},
        targets,
        folds,
        weights,
    )


def fit_probe(
    network: FusionNetwork, name: str, data: Training, seed: int = 0, strength: float | None = None
) -> None:
    """Fit one linear model a fold to the other folds' subjects, and give them to the modality's probe.

    Args:
        network: changed in place.
        name: the modality.
        data: the training subjects.
        seed: of the parts that choose the penalty.
        strength: inverse penalty; None chooses by cross-validation.
    """
    there = data.present[name]
    values = data.summaries[name]
    if there.sum() < 2 * _FEWEST:
        return
    mean = values[there].mean(axis=0)
    scale = float((values[there] - mean).std())
    if not scale > 1e-9:
        return
    features = (values - mean) / scale
    classes = data.targets.shape[1]
    weight = np.zeros((_FOLDS, features.shape[1], classes))
    bias = np.zeros((_FOLDS, classes))
    sparse = network.encoder(name).sparse_summary
    for column in range(classes):
        rows = np.flatnonzero(there & ~np.isnan(data.targets[:, column]))
        label = data.targets[rows, column].astype(int)
        if np.bincount(label, minlength=2).min() < _FEWEST:
            continue
        sample = _sample_weight(label, data.weights[:, column])
        chosen = strength or _strength(features[rows], label, sample, sparse, seed)
        prior = np.log((sample * label).sum() / (sample * (1 - label)).sum())
        for fold in range(_FOLDS):
            kept = np.flatnonzero(data.folds[rows] != fold)[:_MOST_TO_FIT]
            if np.bincount(label[kept], minlength=2).min() < 1:
                continue
            model = _quietly(_logistic(sparse, chosen), features[rows][kept], label[kept], sample[kept])
            weight[fold, :, column] = model.coef_[0] / scale
            # The share of positives is the head's business; evidence is what departs from it.
            bias[fold, column] = float(model.intercept_[0]) - prior
    network.probe(name).set(*(torch.from_numpy(part).float() for part in (mean, weight, bias)))


def _sample_weight(label: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return np.where(label == 1, weights[1], weights[0]).astype(float)


def _strength(features: np.ndarray, label: np.ndarray, sample: np.ndarray, sparse: bool, seed: int) -> float:
    """The inverse penalty with the best cross-validated log loss."""
    chosen = np.random.default_rng(seed).permutation(len(label))[:_MOST_TO_CHOOSE]
    fewest = int(np.bincount(label[chosen], minlength=2).min())
    if fewest < 2:
        return float(_STRENGTHS[0])
    model = LogisticRegressionCV(
        Cs=_STRENGTHS,
        cv=min(_FOLDS, fewest),
        scoring="neg_log_loss",
        use_legacy_attributes=False,
        random_state=seed,
        l1_ratios=(float(sparse),),
        **_solver(sparse),
    )
    return float(_quietly(model, features[chosen], label[chosen], sample[chosen]).C_)


def _logistic(sparse: bool, strength: float) -> LogisticRegression:
    return LogisticRegression(C=strength, l1_ratio=float(sparse), random_state=0, **_solver(sparse))


def _solver(sparse: bool) -> dict[str, Any]:
    return {"solver": "liblinear" if sparse else "lbfgs", "max_iter": 300}


def _quietly(model: Any, features: np.ndarray, label: np.ndarray, sample: np.ndarray) -> Any:
    with warnings.catch_warnings():
        # Where the weakest penalties do not converge, cross-validation does not choose them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, label, sample_weight=sample)


def _fit_pairs(
    products: np.ndarray, start: np.ndarray, data: Training, column: int
) -> tuple[np.ndarray, float]:
    """Weights of the products on top of the summed evidence, and the intercept, of one class."""
    rows = np.flatnonzero(~np.isnan(data.targets[:, column]))
    label = data.targets[rows, column]
    nothing = np.zeros(products.shape[1]), 0.0
    if min((label == 1).sum(), (label == 0).sum()) < _FEWEST:
        return nothing
    problem = _Offset(products[rows], start[rows], label, _sample_weight(label, data.weights[:, column]))
    losses = [problem.cross_validated(penalty, data.folds[rows]) for penalty in _PAIR_PENALTIES]
    found = problem.fit(_PAIR_PENALTIES[int(np.argmin(losses))])
    return found[:-1], float(found[-1])


@dataclass(frozen=True)
class _Offset:
    """Ridge logistic regression on top of a given logit."""

    features: np.ndarray
    start: np.ndarray
    label: np.ndarray
    sample: np.ndarray

    def fit(self, penalty: float) -> np.ndarray:
        """Weights, then the intercept, which is not penalised."""

        def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            logit = self._logit(parameters)
            error = self.sample * (expit(logit) - self.label)
            slope = np.r_[self.features.T @ error + penalty * parameters[:-1], error.sum()]
            return self._loss(logit).sum() + 0.5 * penalty * (parameters[:-1] ** 2).sum(), slope

        zero = np.zeros(self.features.shape[1] + 1)
        return np.asarray(minimize(loss, zero, jac=True, method="L-BFGS-B").x)

    def cross_validated(self, penalty: float, folds: np.ndarray) -> float:
        """Summed loss of every subject under the fit to the other folds."""
        total = 0.0
        for fold in np.unique(folds):
            parameters = self._part(folds != fold).fit(penalty)
            rest = self._part(folds == fold)
            total += float(rest._loss(rest._logit(parameters)).sum())
        return total

    def _part(self, rows: np.ndarray) -> _Offset:
        return _Offset(self.features[rows], self.start[rows], self.label[rows], self.sample[rows])

    def _logit(self, parameters: np.ndarray) -> np.ndarray:
        return np.asarray(self.start + self.features @ parameters[:-1] + parameters[-1])

    def _loss(self, logit: np.ndarray) -> np.ndarray:
        return np.asarray(self.sample * (np.logaddexp(0, logit) - self.label * logit))
