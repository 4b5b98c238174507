"""What each modality contributed, alone and together: exact Shapley values and pairwise interactions.

All 2^M coalitions of a subject go through the model as one batch (16 rows for four modalities), so
the answer is exact, not sampled (Shapley 1953; Lundberg and Lee 2017, arXiv:1705.07874; interactions
after Grabisch and Roubens, Int J Game Theory 28, 1999). A modality that a subject lacks changes no
coalition: its value is zero, and it changes nobody else's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float

from clinimm.core.errors import DataError
from clinimm.evaluate.shapley import shapley
from clinimm.explain.problem import Explainable, class_logit, double, embed_present
from clinimm.nn.tokens import Batch, Tokens

#: More modalities than this would make the one batch too large (2^8 = 256 rows).
_MOST_MODALITIES = 8


@dataclass(frozen=True)
class Contributions:
    """Exact contributions of some subjects' modalities to one class's logit.

    Attributes:
        names: the modalities, sorted.
        present: (subject, modality) who has what.
        values: (subject, modality) signed Shapley values; zero where absent. A subject's values
            sum to ``logit - logit without any modality``.
        interactions: (subject, modality, modality) Shapley interaction index of each pair, zero on
            the diagonal: what the two add together beyond what each adds alone, averaged over
            which others are there. Positive where they reinforce each other.
        worth: (subject, coalition) the logit of every coalition; bit ``m`` of a coalition's number
            says whether modality ``m`` takes part.
    """

    names: tuple[str, ...]
    present: Bool[np.ndarray, "subject modality"]
    values: Float[np.ndarray, "subject modality"]
    interactions: Float[np.ndarray, "subject modality modality"]
    worth: Float[np.ndarray, "subject coalition"]

    @property
    def empty(self) -> Float[np.ndarray, " subject"]:
        """The logit without any modality, as the model gave it: what the values are counted from."""
        return self.worth[:, 0]


def contributions(model: Explainable, batch: Batch, target_class: int | Sequence[int]) -> Contributions:
    """Shapley values and interactions of every subject of a batch.

    A coalition keeps its modalities' tokens and masks all others, as if they were absent.

    Args:
        model: a fused model.
        batch: raw tokens.
        target_class: which logit; one for all, or one a subject.

    Raises:
        DataError: nobody has a token, or there are more than 8 modalities.
    """
    model.eval()
    embedded = embed_present(model, batch)
    names = tuple(sorted(embedded))
    if len(names) > _MOST_MODALITIES:
        raise DataError(
            f"{len(names)} modalities make {2 ** len(names)} coalitions; at most {_MOST_MODALITIES} fit."
        )
    present = np.stack([embedded[name].present.cpu().numpy() for name in names], axis=1)
    classes = np.broadcast_to(np.asarray(target_class), (len(present),))
    worth = _worth(model, embedded, names, classes)
    values, interactions = shapley(worth)
    return Contributions(names, present, values, interactions, worth)


def contributions_against(
    model: Explainable, batch: Batch, target_class: int | Sequence[int], references: Batch
) -> Contributions:
    """The same, counted from other patients rather than from nothing.

    A modality outside a coalition is a reference subject's instead of absent, and the coalition's
    worth is the mean logit over the references (the interventional reading of Lundberg and Lee 2017;
    Janzing et al. 2020, arXiv:1910.13413). A subject's values sum to its logit less the mean logit of
    references who take its place in every modality that it has. What it lacks stays absent throughout.

    The two readings answer different questions, "than without it" and "than in another patient", and
    where modalities interact they may differ in sign. Here the model sees fewer odd subsets, but odd
    combinations: one patient's film beside another's record.

    Args:
        model: a fused model.
        batch: raw tokens.
        target_class: which logit; one for all, or one a subject.
        references: raw tokens of reference subjects, best training subjects who have every modality.

    Raises:
        DataError: nobody has a token, no reference has a modality that subjects have, or there are more
            than 8 modalities.
    """
    model.eval()
    embedded, others = embed_present(model, batch), embed_present(model, references)
    names = tuple(sorted(embedded))
    if len(names) > _MOST_MODALITIES:
        raise DataError(
            f"{len(names)} modalities make {2 ** len(names)} coalitions; at most {_MOST_MODALITIES} fit."
        )
    if missing := [name for name in names if name not in others]:
        raise DataError(f"no reference subject has {', '.join(missing)}: there is nothing to compare with.")
    present = np.stack([embedded[name].present.cpu().numpy() for name in names], axis=1)
    classes = np.broadcast_to(np.asarray(target_class), (len(present),))
    found = []
    for subject, chosen in enumerate(classes):
        rows = {
            name: _exchanged(embedded[name].row(subject), others[name], bit, len(names))
            for bit, name in enumerate(names)
        }
        with torch.no_grad():
            logits = double(class_logit(model, model.logits(rows), int(chosen)))
        found.append(logits.reshape(2 ** len(names), -1).mean(axis=1))
    worth = np.stack(found)
    values, interactions = shapley(worth)
    return Contributions(names, present, values, interactions, worth)


def modality_shapley(model: Explainable, batch: Batch, target_class: int) -> dict[str, float]:
    """Signed Shapley value of each modality that the one subject in ``batch`` has.

    Raises:
        DataError: the batch holds more than one subject, no token, or more than 8 modalities.
    """
    found = contributions(model, batch, target_class)
    if len(found.values) != 1:
        raise DataError(f"got {len(found.values)} subjects, expected one: take `contributions` for many.")
    return dict(zip(found.names, map(float, found.values[0]), strict=True))


def _worth(
    model: Explainable, embedded: Batch, names: tuple[str, ...], classes: np.ndarray
) -> Float[np.ndarray, "subject coalition"]:
    """A subject at a time: its rows share their values, which the model then adapts once."""
    found = []
    for subject, chosen in enumerate(classes):
        rows = {
            name: _coalitions(embedded[name].row(subject), bit, len(names)) for bit, name in enumerate(names)
        }
        with torch.no_grad():
            found.append(double(class_logit(model, model.logits(rows), int(chosen))))
    return np.stack(found)


def _coalitions(tokens: Tokens, bit: int, count: int) -> Tokens:
    """The one subject's tokens once a coalition, masked where the coalition lacks the modality."""
    inside = (torch.arange(2**count, device=tokens.mask.device) >> bit & 1).bool()
    rows = tokens.expand(2**count)
    return rows.with_mask(rows.mask & inside[:, None])


def _exchanged(own: Tokens, others: Tokens, bit: int, count: int) -> Tokens:
    """(coalition x reference) rows: the subject's tokens where the coalition has them, else a reference's."""
    if not own.mask.any():
        return own.expand(2**count * len(others))
    width = max(own.mask.shape[1], others.mask.shape[1])
    every = [_widened(own, width), _widened(others, width)]
    inside = torch.arange(2**count) >> bit & 1
    reference = torch.arange(1, len(others) + 1)
    row = torch.where(inside[:, None] == 1, 0, reference[None]).flatten().to(own.mask.device)
    kinds = [one.kind for one in every]
    kind = None if any(one is None for one in kinds) else torch.cat([one for one in kinds if one is not None])
    return Tokens(
        torch.cat([one.values for one in every])[row],
        torch.cat([one.mask for one in every])[row],
        torch.cat([one.time for one in every])[row],
        None if kind is None else kind[row],
    )


def _widened(tokens: Tokens, width: int) -> Tokens:
    """The same tokens with padding up to ``width``."""
    more = width - tokens.mask.shape[1]
    pad = torch.nn.functional.pad
    kind = None if tokens.kind is None else pad(tokens.kind, (0, more))
    return Tokens(
        pad(tokens.values, (0, 0, 0, more)),
        pad(tokens.mask, (0, more), value=False),
        pad(tokens.time, (0, more)),
        kind,
    )
