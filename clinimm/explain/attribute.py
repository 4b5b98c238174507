"""Attributions through the fused model: Captum behind one function.

The parts are signed, one a token, and sum to the logit: ``baseline_logit + sum(scores) = logit``
up to ``delta``, which is kept so that a reader can judge the residual.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from clinimm.core.errors import ConfigError, DataError
from clinimm.nn.tokens import Batch, Tokens

#: Rows that go through the model at once; bounds the memory whatever the number of steps.
_ROWS = 64


class Explainable(Protocol):
    """What explanations need of a model; ``clinimm.model.FusionModel`` has it."""

    def embed(self, batch: Batch) -> Batch:
        """Raw tokens -> embedded tokens, each alone."""
        ...

    def logits(self, embedded: Batch) -> Tensor:
        """Embedded tokens -> (batch, class) logits."""
        ...

    def baseline(self, embedded: Batch) -> Batch:
        """What uninformative tokens look like, shaped as ``embedded``."""
        ...

    def eval(self) -> object:
        """Switch dropout off."""
        ...


@dataclass(frozen=True)
class Explanation:
    """The attribution of one class's logit for a batch of subjects.

    Attributes:
        scores: modality -> (batch, token) signed share of the logit, exactly 0 where the token is
            padding. Modalities that no subject of the batch has are left out.
        logit: (batch,) the explained logit.
        baseline_logit: (batch,) the logit when every token is uninformative.
        delta: (batch,) what the scores fail to account for:
            ``baseline_logit + sum(scores) - logit``.
        method: name of the method.
        baseline: what the scores are counted from, in words.
    """

    scores: dict[str, np.ndarray]
    logit: np.ndarray
    baseline_logit: np.ndarray
    delta: np.ndarray
    method: str
    baseline: str

    @property
    def total(self) -> np.ndarray:
        """(batch,) sum of all scores of a subject."""
        sums = [scores.sum(axis=1) for scores in self.scores.values()]
        return np.sum(sums, axis=0) if sums else np.zeros_like(self.logit)


def attribute(
    model: Explainable,
    batch: Batch,
    target_class: int,
    method: str = "integrated_gradients",
    steps: int = 32,
) -> Explanation:
    """Signed share of ``target_class``'s logit for each embedded token.

    Integrated gradients (Sundararajan et al. 2017, arXiv:1703.01365) from ``model.baseline`` to
    the embedded tokens with Gauss-Legendre nodes, in float32, summed over each token's vector.

    Args:
        model: a fused model.
        batch: raw tokens, as ``Corpus.batch`` gives them.
        target_class: which logit.
        method: a name in ``METHODS``.
        steps: nodes of the path integral; more make ``delta`` smaller.

    Raises:
        ConfigError: the method is unknown.
        DataError: nobody in the batch has a token.
    """
    if method not in METHODS:
        raise ConfigError(f"explain.method {method!r} is unknown; known are {', '.join(METHODS)}.")
    model.eval()
    embedded, baseline = embed_present(model, batch)
    names = tuple(embedded)
    forward = class_forward(model, names, target_class)
    extras = unchanged(embedded)
    values = tuple(embedded[name].values for name in names)
    reference = tuple(baseline[name].values for name in names)
    raw = METHODS[method](forward, values, reference, extras, steps)
    with torch.no_grad():
        logit, baseline_logit = forward(*values, *extras), forward(*reference, *extras)
    scores = {name: _token_scores(part, embedded[name].mask) for name, part in zip(names, raw, strict=True)}
    found = Explanation(
        scores, _double(logit), _double(baseline_logit), np.zeros(len(logit)), method, "uninformative token"
    )
    return replace(found, delta=found.baseline_logit + found.total - found.logit)


def embed_present(model: Explainable, batch: Batch) -> tuple[Batch, Batch]:
    """Embedded tokens and their baseline, without the modalities that nobody in the batch has.

    Raises:
        DataError: that leaves no modality.
    """
    with torch.no_grad():
        embedded = {name: _plain(tokens) for name, tokens in model.embed(batch).items() if tokens.mask.any()}
        if not embedded:
            raise DataError("nobody in the batch has a token, so there is nothing to explain.")
        baseline = {name: _plain(tokens) for name, tokens in model.baseline(embedded).items()}
    return embedded, baseline


def unchanged(embedded: Batch) -> tuple[Tensor, ...]:
    """What the model needs beside the values, and no method varies: masks, times and kinds."""
    tokens = list(embedded.values())
    kinds = [torch.zeros_like(one.mask, dtype=torch.long) if one.kind is None else one.kind for one in tokens]
    return tuple([one.mask for one in tokens] + [one.time for one in tokens] + kinds)


def class_forward(model: Explainable, names: Sequence[str], target_class: int) -> Callable[..., Tensor]:
    """The model as Captum wants it: values, then ``unchanged``, of each modality in; one logit out."""
    count = len(names)

    def forward(*tensors: Tensor) -> Tensor:
        fields = [tensors[start : start + count] for start in range(0, 4 * count, count)]
        tokens = {name: Tokens(*parts) for name, *parts in zip(names, *fields, strict=True)}
        return model.logits(tokens)[:, target_class]

    return forward


def _integrated_gradients(
    forward: Callable[..., Tensor],
    values: tuple[Tensor, ...],
    baselines: tuple[Tensor, ...],
    extras: tuple[Tensor, ...],
    steps: int,
) -> tuple[Tensor, ...]:
    from captum.attr import IntegratedGradients

    # One subject a row and step: at least one whole step must fit.
    rows = max(_ROWS, len(values[0]))
    found: tuple[Tensor, ...] = IntegratedGradients(forward).attribute(
        values,
        baselines=baselines,
        additional_forward_args=extras,
        n_steps=steps,
        method="gausslegendre",
        internal_batch_size=rows,
    )
    return found


Method = Callable[
    [Callable[..., Tensor], tuple[Tensor, ...], tuple[Tensor, ...], tuple[Tensor, ...], int],
    tuple[Tensor, ...],
]

#: Name -> method. Each takes the forward function, values, baselines, masks and times, and steps.
METHODS: dict[str, Method] = {"integrated_gradients": _integrated_gradients}


def _plain(tokens: Tokens) -> Tokens:
    return tokens.with_values(tokens.values.detach().float())


def _token_scores(attributions: Tensor, mask: Tensor) -> np.ndarray:
    """(batch, token, dim) -> (batch, token), exactly 0 for padding."""
    summed = attributions.double().sum(dim=2)
    return torch.where(mask, summed, torch.zeros_like(summed)).detach().cpu().numpy()


def _double(values: Tensor) -> np.ndarray:
    return values.detach().double().cpu().numpy()
