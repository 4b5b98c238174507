"""How the losses of subjects become one number when groups are to be served alike.

``reweighing`` gives each subject the weight under which group and label are independent in training
(Kamiran and Calders, Knowl Inf Syst 2012): a group whose outcome was seen rarely counts more where it
was seen. ``group_dro`` minimises a soft worst group instead of the mean (Sagawa et al., ICLR 2020). Both
can lower what everybody gets, so what they did is judged by ``audit.mitigate.change``, for everybody.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Mitigation = Literal["none", "reweighing", "group_dro"]
#: Losses of a batch, and whose they are -> one loss.
Combine = Callable[[Tensor, Sequence[str]], Tensor]


def mean(losses: Float[Tensor, " batch"], subjects: Sequence[str]) -> Float[Tensor, ""]:
    """The plain mean."""
    return losses.mean()


def combiner(
    kind: Mitigation, groups: Mapping[str, str], labels: Mapping[str, Hashable], step_size: float = 1.0
) -> Combine:
    """How losses are combined in training.

    Args:
        kind: what is done.
        groups: subject -> level of the attribute; a missing value is a level of its own.
        labels: training subject -> label.
        step_size: of group DRO: 0 is the mean over groups, large the worst group alone.
    """
    if kind == "reweighing":
        return Weighted(reweighing({name: groups[name] for name in labels}, labels))
    if kind == "group_dro":
        return SoftWorstGroup(dict(groups), step_size)
    return mean


def reweighing(groups: Mapping[str, Hashable], labels: Mapping[str, Hashable]) -> dict[str, float]:
    """Subject -> weight: expected over observed share of its group and label; their mean is 1.

    >>> groups = {"s": "a", "t": "a", "u": "a", "v": "b", "w": "b", "x": "b"}
    >>> reweighing(groups, {"s": 1, "t": 1, "u": 0, "v": 1, "w": 0, "x": 0})["v"]
    1.5
    """
    n = len(labels)
    by_group = Counter(groups[name] for name in labels)
    by_label = Counter(labels.values())
    by_both = Counter((groups[name], label) for name, label in labels.items())
    raw = {
        name: by_group[groups[name]] * by_label[label] / (n * by_both[groups[name], label])
        for name, label in labels.items()
    }
    # Where a group lacks a label altogether, the weights sum to less than n.
    total = sum(raw.values())
    return {name: weight * n / total for name, weight in raw.items()} if total else raw


@dataclass(frozen=True)
class Weighted:
    """A mean with fixed weights; a subject without one counts 1."""

    weights: Mapping[str, float]

    def __call__(self, losses: Float[Tensor, " batch"], subjects: Sequence[str]) -> Float[Tensor, ""]:
        """One loss of a batch."""
        weight = losses.new_tensor([self.weights.get(name, 1.0) for name in subjects])
        return (losses * weight).mean()


@dataclass(frozen=True)
class SoftWorstGroup:
    """The log of the mean over groups of ``exp(step_size x loss of the group)``, over ``step_size``.

    Its gradient weighs groups by the softmax of their loss, which is one exponentiated-gradient step of
    group DRO from equal weights. It keeps no weights between steps, so a training that was interrupted
    goes on as if it had not been.
    """

    groups: Mapping[str, str]
    step_size: float

    def __call__(self, losses: Float[Tensor, " batch"], subjects: Sequence[str]) -> Float[Tensor, ""]:
        """One loss of a batch."""
        names = [self.groups[name] for name in subjects]
        number = {name: place for place, name in enumerate(sorted(set(names)))}
        member = torch.nn.functional.one_hot(torch.tensor([number[name] for name in names]))
        of_group = (losses @ member.to(losses)) / member.sum(dim=0).to(losses)  # (group,)
        if self.step_size == 0:
            return of_group.mean()
        soft = torch.logsumexp(self.step_size * of_group, dim=0)
        return (soft - torch.log(losses.new_tensor(float(len(number))))) / self.step_size
