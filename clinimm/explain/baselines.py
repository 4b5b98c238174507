"""What scores are counted from: the input that is taken to say nothing, modality by modality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clinimm.core.errors import ConfigError
from clinimm.explain.problem import Problem, plain

UNINFORMATIVE, BLURRED, ABSENT, TRAINING = "uninformative", "blurred", "absent", "training"
#: How far the blurred map is blurred, in cells. On a map of 14 x 14, 14 % of a finding of 2 x 2 cells is left
#: in its place, 27 % of 3 x 3 and 38 % of 4 x 4; in a corner 31, 49 and 61 %. A test holds the figures.
_BLUR_CELLS = 2.0


@dataclass(frozen=True)
class Reference:
    """One baseline of a problem.

    Attributes:
        values: (batch, token, dim) a modality, in the problem's order.
        words: modality -> what it is, for people.
    """

    values: tuple[Tensor, ...]
    words: dict[str, str]


def reference(problem: Problem, choice: str, generator: np.random.Generator | None = None) -> Reference:
    """The baseline of that name.

    Args:
        problem: what is explained.
        choice: ``uninformative``, the encoder's own; ``blurred``, each picture's map of tokens blurred, which
            lowers the contrast of small findings and leaves large ones, and the encoder's own for
            modalities without pictures; ``training``, a token of a training subject in each place, drawn
            by ``generator``, of the same sort of fact where sorts are told apart.

    Raises:
        ConfigError: there is none of that name, or it needs what the setting does not have.
    """
    if choice not in _MAKERS:
        raise ConfigError(f"baseline {choice!r} has no values; known are {', '.join(_MAKERS)}.")
    return _MAKERS[choice](problem, generator or np.random.default_rng(problem.setting.seed))


def baseline_words(problem: Problem) -> dict[str, str]:
    """What each encoder takes for an uninformative token."""
    encoders = getattr(problem.model, "encoders", {})
    return {
        name: getattr(encoders[name], "baseline_words", "an uninformative token")
        if name in encoders
        else "an uninformative token"
        for name in problem.names
    }


def blur(
    values: Float[Tensor, "token dim"], positions: Int[np.ndarray, "token 3"], cells: float = _BLUR_CELLS
) -> Float[Tensor, "token dim"]:
    """Each token as the Gaussian mean of the tokens of its picture; padding stays as it is.

    Args:
        values: tokens of one subject.
        positions: picture, row and column of each; -1 for padding.
        cells: standard deviation of the Gaussian.
    """
    place = torch.from_numpy(positions).to(values.device)
    real = place[:, 0] >= 0
    same = (place[:, None, 0] == place[None, :, 0]) & real[:, None] & real[None]
    far = (place[:, None, 1:] - place[None, :, 1:]).square().sum(2).to(values.dtype)
    weight = torch.exp(-far / (2 * cells**2)) * same
    weight = weight / weight.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return torch.where(real[:, None], weight @ values, values)


def _uninformative(problem: Problem, _: np.random.Generator) -> Reference:
    with torch.no_grad():
        values = problem.model.baseline(problem.embedded)
    return Reference(tuple(plain(values[name]).values for name in problem.names), baseline_words(problem))


def _blurred(problem: Problem, generator: np.random.Generator) -> Reference:
    own, layout = _uninformative(problem, generator), problem.setting.layout
    positions = {} if layout is None else layout.positions
    if not set(positions) & set(problem.names):
        raise ConfigError("the baseline `blurred` needs a modality of pictures; here there is none.")
    values, words = list(own.values), dict(own.words)
    for index, name in enumerate(problem.names):
        if name in positions:
            rows = zip(problem.values[index], positions[name], strict=True)
            values[index] = torch.stack([blur(row, place) for row, place in rows])
            words[name] = "the same picture, its map of tokens blurred"
    return Reference(tuple(values), words)


def _training(problem: Problem, generator: np.random.Generator) -> Reference:
    banks = problem.setting.references or {}
    if missing := [name for name in problem.names if not len(banks.get(name, ()))]:
        raise ConfigError(
            f"the baseline `training` needs tokens of training subjects; there are none of "
            f"{', '.join(missing)}."
        )
    values = []
    for name, tokens in problem.embedded.items():
        bank, sorts = banks[name].to(tokens.values), (problem.setting.reference_kinds or {}).get(name)
        drawn = torch.from_numpy(generator.integers(0, len(bank), size=tuple(tokens.mask.shape)))
        if sorts is not None and tokens.kind is not None:
            _draw_own_sort(drawn, tokens.kind.cpu(), sorts.cpu(), generator)
        values.append(bank[drawn.to(bank.device)] * tokens.mask.unsqueeze(-1))
    return Reference(
        tuple(values), dict.fromkeys(problem.names, "tokens of training subjects, drawn at random")
    )


def _draw_own_sort(
    drawn: Int[Tensor, "batch token"],
    kinds: Int[Tensor, "batch token"],
    sorts: Int[Tensor, " reference"],
    generator: np.random.Generator,
) -> None:
    """Draw again, in place, among references of a token's own sort, where there are any."""
    for kind in kinds.unique():
        places, known = kinds == kind, torch.nonzero(sorts == kind).flatten()
        if len(known):
            drawn[places] = known[torch.from_numpy(generator.integers(0, len(known), int(places.sum())))]


_MAKERS: dict[str, Callable[[Problem, np.random.Generator], Reference]] = {
    UNINFORMATIVE: _uninformative,
    BLURRED: _blurred,
    TRAINING: _training,
}
#: Every baseline; ``absent`` hides a token, as if it had never been recorded, and so has no values.
BASELINES = (*_MAKERS, ABSENT)
