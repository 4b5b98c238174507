"""What the logit loses when a token, or a window of neighbours, is taken away (Captum)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from clinimm.explain.baselines import ABSENT, reference
from clinimm.explain.method import Parts
from clinimm.explain.problem import Problem, class_logit

_ROWS = 64
#: Side of the window that occlusion moves: cells of a picture, or tokens of a sequence.
_WINDOW = 3


def feature_ablation(problem: Problem) -> Parts:
    """One token at a time (Captum's ``FeatureAblation`` over switches that keep or take a token).

    What tokens do together is counted for each of them or for none, so parts do not sum up.
    """
    from captum.attr import FeatureAblation

    switches = tuple(torch.ones(tokens.mask.shape) for tokens in problem.embedded.values())
    with torch.no_grad():
        found = FeatureAblation(_switched(problem, ())).attribute(
            switches,
            baselines=(0.0,) * len(switches),
            additional_forward_args=_fixed(problem),
            perturbations_per_eval=max(1, _ROWS // problem.subjects),
        )
    return _parts(problem, tuple(part.double() for part in found))


def occlusion(problem: Problem) -> Parts:
    """A window of three by three cells of a picture, or of three tokens of a sequence, at a time.

    A token's score is the mean over the windows that hold it (Zeiler and Fergus 2014; Captum's
    ``Occlusion``), divided by the tokens that such a window takes away on average, so that a dense map
    does not count each loss nine times. Pictures need the setting's ``layout``.
    """
    tables = _canvases(problem)
    lost = _slide(_switched(problem, tables), tables, _fixed(problem))
    taken = _slide(lambda *tensors: _kept(tensors, tables), tables, (torch.arange(problem.subjects),))
    scores = []
    for loss, count, table, tokens in zip(lost, taken, tables, problem.embedded.values(), strict=True):
        score = torch.zeros(tokens.mask.shape, dtype=torch.double)
        for subject in range(problem.subjects):
            held = table[subject] >= 0
            share = loss[subject][held].double() / count[subject][held].double()
            score[subject, table[subject][held]] = share
        scores.append(score)
    return _parts(problem, tuple(scores))


def _slide(
    forward: Callable[..., Tensor], tables: tuple[Tensor, ...], beside: tuple[Tensor, ...]
) -> tuple[Tensor, ...]:
    """What ``forward`` loses, at each place the mean over the windows that hold it."""
    from captum.attr import Occlusion

    switches = tuple(torch.ones(table.shape) for table in tables)
    with torch.no_grad():
        found: tuple[Tensor, ...] = Occlusion(forward).attribute(
            switches,
            sliding_window_shapes=tuple(_window(table) for table in tables),
            baselines=(0.0,) * len(switches),
            additional_forward_args=beside,
            perturbations_per_eval=max(1, _ROWS // len(tables[0])),
        )
    return found


def _kept(tensors: tuple[Tensor, ...], tables: tuple[Tensor, ...]) -> Tensor:
    """(row,) how many tokens the switches leave on; the last tensor says whose row it is."""
    *switches, subject = tensors
    on = [
        ((table[subject] >= 0) * switch).flatten(1).sum(1)
        for switch, table in zip(switches, tables, strict=True)
    ]
    return torch.stack(on).sum(0)


def _parts(problem: Problem, scores: tuple[Tensor, ...]) -> Parts:
    choice = problem.setting.baseline or ABSENT
    if choice == ABSENT:
        nothing = {name: t.with_mask(torch.zeros_like(t.mask)) for name, t in problem.embedded.items()}
        with torch.no_grad():
            logit = class_logit(problem.model, problem.model.logits(nothing), problem.target_class)
        return Parts(scores, logit, dict.fromkeys(problem.names, "its absence"))
    counted_from = reference(problem, choice)
    return Parts(scores, problem.logit(counted_from.values), counted_from.words)


def _fixed(problem: Problem) -> tuple[Tensor, ...]:
    """What goes beside the switches, so that Captum repeats it with them: values, baseline, the rest."""
    choice = problem.setting.baseline or ABSENT
    other = problem.values if choice == ABSENT else reference(problem, choice).values
    subject = torch.arange(problem.subjects)
    return (*problem.values, *other, *problem.unchanged, subject)


def _switched(problem: Problem, tables: tuple[Tensor, ...]) -> Callable[..., Tensor]:
    """The logit with each token kept where its switch is on: hidden, or replaced by the baseline."""
    count, hide = len(problem.names), (problem.setting.baseline or ABSENT) == ABSENT
    forward = problem.forward

    def run(*tensors: Tensor) -> Tensor:
        switches, values = tensors[:count], tensors[count : 2 * count]
        other, masks = tensors[2 * count : 3 * count], tensors[3 * count : 4 * count]
        rest, subject = tensors[4 * count : -1], tensors[-1]
        kept = [switch > 0.5 for switch in switches]
        if tables:
            kept = [
                _off_canvas(keep, table[subject], mask)
                for keep, table, mask in zip(kept, tables, masks, strict=True)
            ]
        if hide:
            return forward(*values, *(m & k for m, k in zip(masks, kept, strict=True)), *rest)
        mixed = (torch.where(k[..., None], v, o) for k, v, o in zip(kept, values, other, strict=True))
        return forward(*mixed, *masks, *rest)

    return run


def _canvases(problem: Problem) -> tuple[Tensor, ...]:
    """Which token lies where, a modality: (batch, place) or (batch, picture, row, column), else -1.

    A margin all round lets windows reach over the border, so that every token is in as many windows
    as any other and padding changes nothing.
    """
    layout, margin = problem.setting.layout, _WINDOW - 1
    tables = []
    for name, tokens in problem.embedded.items():
        positions = None if layout is None else layout.positions.get(name)
        if positions is None:
            place = torch.arange(tokens.mask.shape[1]).expand(tokens.mask.shape)
            place = torch.where(tokens.mask, place, -1)
            tables.append(torch.nn.functional.pad(place, (margin, margin), value=-1))
            continue
        table = np.full((len(positions), *(positions.max(axis=(0, 1)) + 1)), -1, dtype=np.int64)
        for subject, row in enumerate(positions):
            real = np.flatnonzero(row[:, 0] >= 0)
            table[(subject, *row[real].T)] = real
        tables.append(torch.nn.functional.pad(torch.from_numpy(table), (margin,) * 4, value=-1))
    return tuple(tables)


def _window(table: Tensor) -> tuple[int, ...]:
    return (1, _WINDOW, _WINDOW) if table.ndim == 4 else (_WINDOW,)


def _off_canvas(keep: Tensor, table: Tensor, mask: Tensor) -> Tensor:
    """(row, token): False for the tokens whose place on the canvas is switched off."""
    found = torch.ones_like(mask)
    off = (~keep & (table >= 0)).flatten(1)
    row, place = off.nonzero(as_tuple=True)
    found[row, table.flatten(1)[row, place]] = False
    return found
