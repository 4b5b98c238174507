"""What is explained: one class's logit as a function of embedded tokens, and where it is counted from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clinimm.core.errors import DataError
from clinimm.explain.layout import Layout
from clinimm.nn.tokens import Batch, Tokens


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
class Setting:
    """What a method may be told; each takes what it has a use for.

    Attributes:
        baseline: what scores are counted from, a name in ``BASELINES``; None is the method's own.
        steps: nodes of a path integral, or random samples of it.
        seed: of what is drawn.
        layout: where the tokens lie on their pictures; modalities that it lacks are sequences.
        references: modality -> (token, embedded dim), tokens of training subjects, for the
            baseline ``training``.
        reference_kinds: modality -> (token,) which sort each of these is (``baselines.sorts_of``), where
            sorts are told apart; a token is then replaced by one of its own sort.
    """

    baseline: str | None = None
    steps: int = 32
    seed: int = 0
    layout: Layout | None = None
    references: dict[str, Float[Tensor, "token dim"]] | None = None
    reference_kinds: dict[str, Int[Tensor, " token"]] | None = None


#: Every method's own choice.
DEFAULT = Setting()


@dataclass(frozen=True)
class Problem:
    """One class's logit of some subjects, as a function of their embedded tokens.

    Attributes:
        model: the model, dropout off.
        embedded: modality -> tokens; modalities that nobody has are left out.
        target_class: which logit.
        setting: what the method was told.
    """

    model: Explainable
    embedded: Batch
    target_class: int
    setting: Setting = DEFAULT

    @property
    def names(self) -> tuple[str, ...]:
        """The modalities, in the order of ``values``."""
        return tuple(self.embedded)

    @property
    def values(self) -> tuple[Tensor, ...]:
        """(batch, token, dim) a modality."""
        return tuple(tokens.values for tokens in self.embedded.values())

    @property
    def subjects(self) -> int:
        """How many subjects there are."""
        return len(next(iter(self.embedded.values())))

    @property
    def unchanged(self) -> tuple[Tensor, ...]:
        """What the model needs beside the values, and no method varies: masks, times and kinds."""
        tokens = list(self.embedded.values())
        kinds = [
            torch.zeros_like(one.mask, dtype=torch.long) if one.kind is None else one.kind for one in tokens
        ]
        return tuple([one.mask for one in tokens] + [one.time for one in tokens] + kinds)

    @property
    def forward(self) -> Callable[..., Tensor]:
        """The model as Captum wants it: values, then ``unchanged``, of each modality in; one logit out."""
        return class_forward(self.model, self.names, self.target_class)

    def logit(self, values: Sequence[Tensor] | None = None) -> Tensor:
        """(batch,) the logit, or what it would be with other values; no gradient."""
        with torch.no_grad():
            return self.forward(*(self.values if values is None else values), *self.unchanged)

    def one(self, subject: int) -> Problem:
        """The same for a single subject of the batch."""
        return replace(self, embedded={name: _row(tokens, subject) for name, tokens in self.embedded.items()})


def pose(model: Explainable, batch: Batch, target_class: int, setting: Setting = DEFAULT) -> Problem:
    """The problem of explaining ``target_class``'s logit for raw tokens.

    Raises:
        DataError: nobody in the batch has a token.
    """
    model.eval()
    return Problem(model, embed_present(model, batch), target_class, setting)


def embed_present(model: Explainable, batch: Batch) -> Batch:
    """Embedded tokens without the modalities that nobody in the batch has, without gradients.

    Raises:
        DataError: that leaves no modality.
    """
    with torch.no_grad():
        embedded = {name: plain(tokens) for name, tokens in model.embed(batch).items() if tokens.mask.any()}
    if not embedded:
        raise DataError("nobody in the batch has a token, so there is nothing to explain.")
    return embedded


def class_forward(model: Explainable, names: Sequence[str], target_class: int) -> Callable[..., Tensor]:
    """Values, masks, times and kinds of each modality in; one logit out."""
    count = len(names)

    def forward(*tensors: Tensor) -> Tensor:
        fields = [tensors[start : start + count] for start in range(0, 4 * count, count)]
        tokens = {name: Tokens(*parts) for name, *parts in zip(names, *fields, strict=True)}
        return class_logit(model, model.logits(tokens), target_class)

    return forward


def class_logit(
    model: object, logits: Float[Tensor, "batch cls"], target_class: int
) -> Float[Tensor, " batch"]:
    """The log odds of a class; what every method explains and every check asks for.

    A class by itself has its logit. Where classes exclude each other the softmax does not heed what is
    added to all logits alike, so a raw logit may rise while the class grows less probable; its log odds
    are its logit less the log of the others' summed exponentials. Their sigmoid is the probability.

    Args:
        model: ``multiclass`` as its ``kind`` says that classes exclude each other.
        logits: of all classes.
        target_class: which.
    """
    own = logits[:, target_class]
    if getattr(model, "kind", None) != "multiclass" or logits.shape[1] < 2:
        return own
    others = torch.cat([logits[:, :target_class], logits[:, target_class + 1 :]], dim=1)
    return own - others.logsumexp(dim=1)


def plain(tokens: Tokens) -> Tokens:
    """The same tokens in float32, without their history."""
    return tokens.with_values(tokens.values.detach().float())


def double(values: Tensor) -> np.ndarray:
    """A float64 array."""
    return values.detach().double().cpu().numpy()


def _row(tokens: Tokens, subject: int) -> Tokens:
    row = slice(subject, subject + 1)
    kind = None if tokens.kind is None else tokens.kind[row]
    return Tokens(tokens.values[row], tokens.mask[row], tokens.time[row], kind)
