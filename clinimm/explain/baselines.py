"""What scores are counted from: the input that is taken to say nothing, modality by modality."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from clinimm.core.errors import ConfigError, DataError
from clinimm.explain.layout import Layout
from clinimm.explain.problem import Problem, plain
from clinimm.nn.tokens import Tokens

UNINFORMATIVE, BLURRED, ABSENT, TRAINING = "uninformative", "blurred", "absent", "training"
#: How far the blurred map is blurred, in cells. On a map of 14 x 14, 14 % of a finding of 2 x 2 cells is left
#: in its place, 27 % of 3 x 3 and 38 % of 4 x 4; in a corner 31, 49 and 61 %. A test holds the figures.
_BLUR_CELLS = 2.0
#: More rows or columns than any picture has cells or tiles.
_MOST_CELLS = 2**15
_TRAINING_WORDS = "tokens of training subjects, drawn at random"
_OWN_SORT = "of the same code or the same place where there is one"


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
            by ``generator``, of the same sort (``sorts_of``) where there is one.

    Raises:
        ConfigError: there is none of that name.
        DataError: the subjects, or those of the training, lack what it is made of.
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
        raise DataError("the baseline `blurred` needs a modality of pictures; here there is none.")
    values, words = list(own.values), dict(own.words)
    for index, name in enumerate(problem.names):
        if name in positions:
            rows = zip(problem.values[index], positions[name], strict=True)
            values[index] = torch.stack([blur(row, place) for row, place in rows])
            words[name] = "the same picture, its map of tokens blurred"
    return Reference(tuple(values), words)


def sorts_of(tokens: Tokens, layout: Layout | None, name: str) -> Int[Tensor, "batch token"] | None:
    """What may stand in for each token: a fact of its own code, a cell of its own place on a picture.

    Args:
        tokens: of one modality.
        layout: where tokens lie on pictures.
        name: the modality.

    Returns:
        Equal numbers for tokens of one sort; None where a modality tells no sorts apart. Places are the
        same where row and column are, of pictures that have as many of both.
    """
    if layout is None or name not in layout.positions:
        return None if tokens.kind is None else tokens.kind.cpu()
    found = np.full(tokens.mask.shape, -1, dtype=np.int64)
    for subject, positions in enumerate(layout.positions[name]):
        for picture in np.unique(positions[positions[:, 0] >= 0, 0]):
            here = positions[:, 0] == picture
            place = positions[here, 1:]
            rows, columns = place.max(axis=0) + 1
            shape = rows * _MOST_CELLS + columns
            found[subject, here] = (shape * _MOST_CELLS + place[:, 0]) * _MOST_CELLS + place[:, 1]
    return torch.from_numpy(found)


def _training(problem: Problem, generator: np.random.Generator) -> Reference:
    banks, words = problem.setting.references or {}, {}
    if missing := [name for name in problem.names if not len(banks.get(name, ()))]:
        raise DataError(
            f"the baseline `training` needs tokens of training subjects; there are none of "
            f"{', '.join(missing)}."
        )
    values = []
    for name, tokens in problem.embedded.items():
        bank = banks[name].to(tokens.values)
        known = (problem.setting.reference_kinds or {}).get(name)
        sorts = None if known is None else sorts_of(tokens, problem.setting.layout, name)
        # Each modality draws by itself, a number a place: neither padding nor the batch changes a draw.
        draw = np.random.default_rng(generator.integers(2**63)).random(tokens.mask.shape[1])
        drawn = _drawn(torch.from_numpy(draw).expand(tokens.mask.shape), len(bank), sorts, known)
        values.append(bank[drawn.to(bank.device)] * tokens.mask.unsqueeze(-1))
        words[name] = _TRAINING_WORDS if sorts is None else f"{_TRAINING_WORDS}, {_OWN_SORT}"
    return Reference(tuple(values), words)


def _drawn(
    draw: Float[Tensor, "batch token"],
    count: int,
    sorts: Int[Tensor, "batch token"] | None,
    known: Int[Tensor, " reference"] | None,
) -> Int[Tensor, "batch token"]:
    """Which reference takes each token's place: one of its own sort, or any where there is none."""
    found = (draw * count).long()
    if sorts is None or known is None:
        return found
    known = known.cpu()
    for sort in sorts.unique():
        own = torch.nonzero(known == sort).flatten()
        if len(own):
            places = sorts == sort
            found[places] = own[(draw[places] * len(own)).long()]
    return found


_MAKERS: dict[str, Callable[[Problem, np.random.Generator], Reference]] = {
    UNINFORMATIVE: _uninformative,
    BLURRED: _blurred,
    TRAINING: _training,
}
#: Every baseline; ``absent`` hides a token, as if it had never been recorded, and so has no values.
BASELINES = (*_MAKERS, ABSENT)
