"""Where training starts: at the best simple model, not at random weights.

A network that sees a few hundred subjects rarely finds by gradient descent what a penalised linear
model finds at once. So each modality's ``Probe`` is fitted first: logistic regression on the
modality's summary, ridge where all features tell a little, lasso where each is a fact of its own,
the penalty by cross-validation. Then the probes' slopes and the weights of their products are
fitted to out-of-fold evidence, as in stacking. Training goes on from there, and its early stopping
may find that nothing beats the start.

Out of fold are the probes. A handful of numbers that are common to all folds, the penalties, slopes
and pair weights, see every training subject.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize
from scipy.sparse import csr_matrix, vstack
from scipy.special import expit, logsumexp, softmax
from sklearn import config_context
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from torch import Tensor

from clinimm.model import FusionNetwork
from clinimm.nn.tokens import Batch
from clinimm.tasks.diagnosis import Task

_FOLDS = 5
_FEWEST = 3  # subjects of each class below which no evidence is fitted
_MOST_TO_CHOOSE = 2_000  # subjects that choose the penalty
_STRENGTHS = {False: np.logspace(-4, 1, 11), True: np.logspace(-3, 1, 7)}
_PAIR_PENALTIES = (1e4, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)
_SLOPE_PENALTY = 10.0  # keeps slopes near one, where independent evidence has them
_SMALLEST_SLOPE = 0.05


@dataclass(frozen=True)
class Training:
    """What the simple model is fitted to.

    Attributes:
        task: what is predicted.
        summaries: modality -> (subject, feature); sparse where the encoder says so.
        present: modality -> (subject,), who has it.
        targets: (subject, class), NaN where unknown.
        folds: (subject,), which part of the cross-fitting a subject is in.
        weights: (2, class), weight of a negative and of a positive in the loss.
    """

    task: Task
    summaries: dict[str, Any]
    present: dict[str, np.ndarray]
    targets: np.ndarray
    folds: np.ndarray
    weights: np.ndarray


@torch.no_grad()
def warm_start(
    network: FusionNetwork, batches: Iterable[Batch], targets: Tensor, task: Task, weights: Tensor, seed: int
) -> Tensor:
    """Fit the network's probes and pairs to the training subjects.

    Args:
        network: changed in place.
        batches: raw tokens of all training subjects, in order.
        targets: (subject, class), NaN where unknown.
        task: what is predicted.
        weights: (2, class), of ``Task.class_weights``.
        seed: of the folds.

    Returns:
        Each subject's fold, for ``FusionNetwork.answer``.
    """
    folds = deal(targets.numpy(), _FOLDS, seed)
    summaries, present = _summarise(network, batches)
    data = Training(task, summaries, present, targets.numpy(), folds, weights.numpy())
    for name in summaries:
        fit_probe(network, name, data, seed)
    there = {name: torch.from_numpy(mask) for name, mask in present.items()}
    evidence = partial(_evidence, network, data, there)
    network.eval()
    network.evidence.settle(evidence(), there)
    products = network.evidence.products(evidence(), there).numpy().astype(float)
    own = np.stack([logit.numpy() for logit in evidence().values()]).astype(float)
    stack = _Stack(task, own, products, data.targets, data.weights)
    slopes, pairs, bias = stack.fitted(folds)
    for name, slope in zip(summaries, slopes, strict=True):
        network.probe(name).scale(float(slope))
    network.evidence.settle(evidence(), there)
    network.evidence.weight.copy_(torch.from_numpy(pairs))
    network.head_bias().copy_(torch.from_numpy(bias))
    return torch.from_numpy(folds)


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


def _summarise(
    network: FusionNetwork, batches: Iterable[Batch]
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Each modality's summaries of all subjects, and who has it."""
    network.eval()
    summaries: dict[str, list[Any]] = {}
    present: dict[str, list[np.ndarray]] = {}
    for batch in batches:
        embedded = network.embed(batch)
        for name, summary in network.summarise(embedded).items():
            values = summary.float().numpy()
            sparse = network.encoder(name).sparse_summary
            summaries.setdefault(name, []).append(csr_matrix(values) if sparse else values)
            present.setdefault(name, []).append(embedded[name].present.numpy())
    whole = {
        name: vstack(parts, format="csr") if network.encoder(name).sparse_summary else np.concatenate(parts)
        for name, parts in summaries.items()
    }
    return whole, {name: np.concatenate(parts) for name, parts in present.items()}


def _evidence(network: FusionNetwork, data: Training, present: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every training subject's out-of-fold logits."""
    folds = torch.from_numpy(data.folds)
    return {
        name: torch.cat(
            [
                network.probe(name)(_dense(data.summaries[name][part]), present[name][part], folds[part])
                for part in np.array_split(np.arange(len(folds)), 1 + len(folds) // 1024)
            ]
        )
        for name in data.summaries
    }


def _dense(values: Any) -> Tensor:
    return torch.from_numpy(values.toarray() if hasattr(values, "toarray") else values)


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
    there, values = data.present[name], data.summaries[name]
    sparse = network.encoder(name).sparse_summary
    if there.sum() < 2 * _FEWEST:
        return
    mean = np.zeros(values.shape[1]) if sparse else values[there].mean(axis=0)
    scale = _spread(values[there], mean)
    if not scale > 1e-9:
        return
    features, axes = (values / scale, None) if sparse else _rotated((values - mean) / scale, there)
    weight = np.zeros((_FOLDS, values.shape[1], data.targets.shape[1]))
    bias = np.zeros((_FOLDS, data.targets.shape[1]))
    for question in _questions(data, there):
        counts = np.unique(question.label, return_counts=True)[1]
        if len(counts) < 2 or counts.min() < _FEWEST:
            continue
        chosen = strength or _strength(features, question, sparse, seed)
        for fold in range(_FOLDS):
            kept = question.part(data.folds[question.rows] != fold)
            if len(np.unique(kept.label)) == len(question.classes):
                coefficients, intercept = _linear(features, kept, sparse, chosen)
                whole = coefficients if axes is None else coefficients @ axes
                weight[fold][:, question.columns] = whole.T / scale
                bias[fold, question.columns] = intercept
    network.probe(name).set(*(torch.from_numpy(part).float() for part in (mean, weight, bias)))


def _rotated(features: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Coordinates in the space that the subjects span, where it is the smaller one, and its axes.

    A ridge solution lies in that space, so nothing is lost, and with a hundred subjects and a
    thousand features it is found much sooner.
    """
    if there.sum() >= features.shape[1]:
        return features, None
    axes = np.linalg.svd(features[there], full_matrices=False)[2]
    return features @ axes.T, axes


def _spread(values: Any, mean: np.ndarray) -> float:
    if hasattr(values, "toarray"):
        return float(np.sqrt(values.power(2).mean()))
    return float((values - mean).std())


@dataclass(frozen=True)
class _Question:
    """One logistic regression: binary for a label, multinomial for classes that exclude each other."""

    rows: np.ndarray
    label: np.ndarray
    sample: np.ndarray
    columns: np.ndarray

    @property
    def classes(self) -> np.ndarray:
        return np.unique(self.label)

    def part(self, chosen: np.ndarray) -> _Question:
        return _Question(self.rows[chosen], self.label[chosen], self.sample[chosen], self.columns)


def _questions(data: Training, there: np.ndarray) -> list[_Question]:
    if data.task.kind == "multiclass":
        rows = np.flatnonzero(there & ~np.isnan(data.targets).any(axis=1))
        label = data.targets[rows].argmax(axis=1)
        return [_Question(rows, label, data.weights[1][label].astype(float), np.unique(label))]
    found = []
    for column in range(data.targets.shape[1]):
        rows = np.flatnonzero(there & ~np.isnan(data.targets[:, column]))
        label = data.targets[rows, column].astype(int)
        sample = data.weights[:, column][label].astype(float)
        found.append(_Question(rows, label, sample, np.array([column])))
    return found


def _linear(
    features: Any, question: _Question, sparse: bool, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Coefficients (column, feature) and intercepts (column), less the classes' shares.

    How frequent a class is, is the head's business; evidence is what departs from it.
    """
    model = _logistic(sparse, strength, len(question.classes))
    _quietly(model, features[question.rows], question)
    shares = np.array([question.sample[question.label == one].sum() for one in question.classes])
    prior = np.log(shares / shares.sum())
    if len(question.columns) == 1:
        score = features[question.rows] @ model.coef_[0]
        return model.coef_, np.array([_intercept(score, question) - (prior[1] - prior[0])])
    if len(question.classes) == 2:  # scikit-learn gives one logit: half of it for, half against
        both = np.concatenate([-model.coef_, model.coef_]) / 2
        return both, np.concatenate([-model.intercept_, model.intercept_]) / 2 - (prior - prior.mean())
    return model.coef_, model.intercept_ - (prior - prior.mean())


def _intercept(score: np.ndarray, question: _Question) -> float:
    """The best intercept on top of a score; liblinear penalises its own."""
    loss = partial(_binary_loss, score, question.label, question.sample)
    return float(minimize(loss, np.zeros(1), jac=True, method="L-BFGS-B").x[0])


def _binary_loss(
    score: np.ndarray, label: np.ndarray, sample: np.ndarray, shift: np.ndarray
) -> tuple[float, np.ndarray]:
    logit = score + shift[0]
    loss = float((sample * (np.logaddexp(0, logit) - label * logit)).sum())
    return loss, np.array([(sample * (expit(logit) - label)).sum()])


def _strength(features: Any, question: _Question, sparse: bool, seed: int) -> float:
    """The inverse penalty with the best cross-validated log loss."""
    drawn = np.random.default_rng(seed).permutation(len(question.label))[:_MOST_TO_CHOOSE]
    sample = question.part(np.sort(drawn))
    classes, counts = np.unique(sample.label, return_counts=True)
    strengths = _STRENGTHS[sparse]
    if counts.min() < 2 or len(classes) < len(question.classes):
        return float(strengths[0])
    losses = np.zeros(len(strengths))
    parts = StratifiedKFold(int(min(_FOLDS, counts.min())), shuffle=True, random_state=seed)
    for fitted, judged in parts.split(sample.rows, sample.label):
        one, other = sample.part(fitted), sample.part(judged)
        model = _logistic(sparse, strengths[0], len(classes))
        place = np.searchsorted(classes, other.label)
        for index, strength in enumerate(strengths):  # each starts where the last one ended
            _quietly(model.set_params(C=strength), features[one.rows], one)
            chance = model.predict_proba(features[other.rows])[np.arange(len(place)), place]
            losses[index] -= (other.sample * np.log(np.maximum(chance, 1e-12))).sum()
    return float(strengths[int(np.argmin(losses))])


def _logistic(sparse: bool, strength: float, classes: int) -> LogisticRegression:
    return LogisticRegression(
        C=strength, l1_ratio=float(sparse), random_state=0, warm_start=not sparse, **_solver(sparse, classes)
    )


def _solver(sparse: bool, classes: int) -> dict[str, Any]:
    if not sparse:
        return {"solver": "lbfgs", "max_iter": 300}
    return {"solver": "liblinear" if classes == 2 else "saga", "max_iter": 200}


def _quietly(model: Any, features: Any, question: _Question) -> Any:
    with warnings.catch_warnings(), config_context(assume_finite=True, skip_parameter_validation=True):
        # Where the weakest penalties do not converge, cross-validation does not choose them.
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(features, question.label, sample_weight=question.sample)


@dataclass(frozen=True)
class _Stack:
    """Slopes of the modalities' evidence, weights of its products, and the classes' biases.

    Attributes:
        task: its kind says which loss.
        own: (modality, subject, class), out-of-fold evidence.
        products: (pair, subject, class).
        targets: (subject, class), NaN where unknown.
        weights: (2, class).
    """

    task: Task
    own: np.ndarray
    products: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def fitted(self, folds: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Slopes (modality), pair weights (pair, class) and biases (class); the penalty by the folds."""
        losses = [self._cross_validated(penalty, folds) for penalty in _PAIR_PENALTIES]
        return self._apart(self._fit(_PAIR_PENALTIES[int(np.argmin(losses))]))

    def _cross_validated(self, penalty: float, folds: np.ndarray) -> float:
        total = 0.0
        for fold in np.unique(folds):
            parameters = self._part(folds != fold)._fit(penalty)
            rest = self._part(folds == fold)
            total += rest._loss(rest._logits(parameters))[0]
        return total

    def _fit(self, penalty: float) -> np.ndarray:
        modalities, pairs = len(self.own), self.products.shape[0] * self.targets.shape[1]
        start = np.r_[np.ones(modalities), np.zeros(pairs + self.targets.shape[1])]
        strength = np.r_[
            np.full(modalities, _SLOPE_PENALTY), np.full(pairs, penalty), np.zeros_like(self.targets[0])
        ]

        def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
            value, error = self._loss(self._logits(parameters))
            slope = np.r_[
                (self.own * error).sum((1, 2)), (self.products * error).sum(1).ravel(), error.sum(0)
            ]
            moved = parameters - start
            return value + 0.5 * float((strength * moved**2).sum()), slope + strength * moved

        bounds = [(_SMALLEST_SLOPE, None)] * modalities + [(None, None)] * (len(start) - modalities)
        return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x)

    def _apart(self, parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        modalities, classes = len(self.own), self.targets.shape[1]
        pairs = parameters[modalities : len(parameters) - classes]
        return parameters[:modalities], pairs.reshape(-1, classes), parameters[len(parameters) - classes :]

    def _logits(self, parameters: np.ndarray) -> np.ndarray:
        slopes, pairs, bias = self._apart(parameters)
        return np.asarray(
            np.einsum("m,msc->sc", slopes, self.own) + np.einsum("pc,psc->sc", pairs, self.products) + bias
        )

    def _loss(self, logits: np.ndarray) -> tuple[float, np.ndarray]:
        """The summed loss, and its slope in each logit."""
        known = ~np.isnan(self.targets)
        target = np.nan_to_num(self.targets)
        if self.task.kind == "multiclass":
            weight = (target * self.weights[1]).sum(1) * known.all(1)
            value = weight * (logsumexp(logits, axis=1) - (target * logits).sum(1))
            return float(value.sum()), weight[:, None] * (softmax(logits, axis=1) - target)
        sample = np.where(target > 0.5, self.weights[1], self.weights[0]) * known
        return float((sample * (np.logaddexp(0, logits) - target * logits)).sum()), sample * (
            expit(logits) - target
        )

    def _part(self, rows: np.ndarray) -> _Stack:
        return _Stack(self.task, self.own[:, rows], self.products[:, rows], self.targets[rows], self.weights)
