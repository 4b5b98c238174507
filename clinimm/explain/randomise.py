"""Does a map depend on what the model learned? Cascading randomisation of the weights.

Adebayo et al., "Sanity Checks for Saliency Maps" (NeurIPS 2018, arXiv:1810.03292): weights are
made random layer by layer, from the answer down to the input, and a map that hardly changes did
not come from the model. Weights are shuffled within each tensor and given random signs rather than
drawn anew, so that their sizes stay: a fresh start of this network is silent, and a silent network
has no map. Without the signs the sum of a tensor would stay too, and with it part of the map: on the
demonstration's films a correlation of 0.3.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.ndimage import uniform_filter
from scipy.stats import rankdata
from torch import Tensor, nn

from clinimm.explain.attribute import Explanation
from clinimm.explain.hide import ALL
from clinimm.explain.layout import Layout, canvas
from clinimm.explain.stability import rank_correlation

#: The model's parts from the answer down to the input; what is linear evidence is randomised with
#: the heads, for it is as near to the answer as they are.
CASCADE: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("answer", ("head", "evidence", "heads", "probes")),
    ("fusion", ("fusion",)),
    ("adapters", ("adapters",)),
    ("encoders", ("encoders",)),
)
#: The step at which everything that was learned is random.
DEEPEST = CASCADE[-1][0]
#: Buffers that were fitted as weights are. Other buffers are statistics of the data and stay.
_FITTED = {"probes": ("weight", "bias")}
_SSIM_WINDOW = 3
#: Orders of so many tokens are all counted (720).
_ENUMERATED = 6


@dataclass(frozen=True)
class Likeness:
    """How like the trained model's map one map of a randomised model still is.

    Attributes:
        depth: the last part that was randomised; all above it were as well.
        seed: of the shuffle.
        subject: row of the batch.
        modality: whose map; ``all`` for all tokens together.
        tokens: how many it has.
        correlation: Spearman's, of signed scores.
        correlation_of_sizes: Spearman's, of their sizes.
        chance: mean of the larger size of the two correlations when one map's tokens change places at
            random; of up to six tokens every way to do so is counted.
        ssim: structural similarity of the pictures' maps, mean; NaN without a picture.
    """

    depth: str
    seed: int
    subject: int
    modality: str
    tokens: int
    correlation: float
    correlation_of_sizes: float
    chance: float
    ssim: float


def cascade(
    model: nn.Module,
    explain: Callable[[nn.Module], Explanation],
    layout: Layout | None = None,
    shuffles: int = 1,
) -> list[Likeness]:
    """Explain the same batch with ever more of the model randomised.

    Args:
        model: a ``FusionModel``, or anything with ``members`` that have the parts of ``CASCADE``.
        explain: what explains a batch with a model; always the same batch.
        layout: where the batch's tokens lie, for the structural similarity.
        shuffles: how often; the first goes down step by step, the others look at the deepest alone.
    """
    trained = explain(model)
    found = []
    for seed in range(shuffles):
        for depth, randomised in randomise(model, seed):
            if seed == 0 or depth == DEEPEST:
                found += _compare((depth, seed), trained, explain(randomised), layout)
    return found


def randomise(model: nn.Module, seed: int) -> Iterator[tuple[str, nn.Module]]:
    """Copies of the model with ever more parts shuffled, and the name of the last one."""
    generator = torch.Generator().manual_seed(seed)
    copied = copy.deepcopy(model)
    members: Sequence[nn.Module] = getattr(copied, "members", None) or [copied]
    for depth, parts in CASCADE:
        for member in members:
            for part in parts:
                if isinstance(module := getattr(member, part, None), nn.Module):
                    _shuffle(module, _FITTED.get(part, ()), generator)
        yield depth, copied


@torch.no_grad()
def _shuffle(module: nn.Module, fitted: tuple[str, ...], generator: torch.Generator) -> None:
    tensors: list[Tensor] = list(module.parameters())
    tensors += [buffer for name, buffer in module.named_buffers() if name.rpartition(".")[2] in fitted]
    for tensor in tensors:
        _shuffle_values(tensor, generator)


def _shuffle_values(tensor: Tensor, generator: torch.Generator) -> None:
    order = torch.randperm(tensor.numel(), generator=generator)
    sign = 2 * torch.randint(2, (tensor.numel(),), generator=generator).to(tensor) - 1
    tensor.copy_((sign * tensor.reshape(-1)[order.to(tensor.device)]).reshape(tensor.shape))


def _compare(
    step: tuple[str, int], trained: Explanation, other: Explanation, layout: Layout | None
) -> list[Likeness]:
    found = []
    for subject in range(len(trained.logit)):
        pairs = {}
        for name, scores in trained.scores.items():
            # A token of which neither map says anything is padding.
            real = (scores[subject] != 0) | (other.scores[name][subject] != 0)
            pairs[name] = (scores[subject][real], other.scores[name][subject][real])
        pairs[ALL] = tuple(np.concatenate(both) for both in zip(*pairs.values(), strict=True))  # type: ignore[assignment]
        for name, (one, two) in pairs.items():
            found.append(
                Likeness(
                    *step,
                    subject,
                    name,
                    len(one),
                    rank_correlation(one, two),
                    rank_correlation(np.abs(one), np.abs(two)),
                    chance_likeness(one, two),
                    _map_ssim(trained, other, layout, subject, name),
                )
            )
    return found


def chance_likeness(one: Float[np.ndarray, " token"], two: Float[np.ndarray, " token"]) -> float:
    """How alike two maps are, on average, once the second one's tokens have changed places.

    Likeness is the larger size of the rank correlations of signed scores and of sizes. Of two maps of
    four tokens it is above a half by chance alone. NaN where a map has no order.
    """
    if len(one) < 2 or np.ptp(one) == 0 or np.ptp(two) == 0:
        return float("nan")
    places = shuffled_places(len(one))
    pairs = ((one, two), (np.abs(one), np.abs(two)))
    sizes = [np.abs(_ranks(second)[places] @ _ranks(first)) for first, second in pairs]
    return float(np.max(sizes, axis=0).mean())


def shuffled_places(tokens: int, draws: int = 999) -> Int[np.ndarray, "draw token"]:
    """Every order of up to six tokens, or so many random ones, the same each time."""
    if tokens <= _ENUMERATED:
        return np.array(list(permutations(range(tokens))))
    return np.random.default_rng(0).permuted(np.tile(np.arange(tokens), (draws, 1)), axis=1)


def _ranks(values: Float[np.ndarray, " token"]) -> Float[np.ndarray, " token"]:
    """Ranks of mean zero and length one, so that a product of two is Spearman's correlation."""
    centred = rankdata(values) - (len(values) + 1) / 2
    length = float(np.linalg.norm(centred))
    return centred / length if length > 0 else centred


def _map_ssim(
    trained: Explanation, other: Explanation, layout: Layout | None, subject: int, name: str
) -> float:
    if layout is None or name not in layout.positions:
        return float("nan")
    place = layout.positions[name][subject]
    pairs = zip(
        canvas(place, trained.scores[name][subject]), canvas(place, other.scores[name][subject]), strict=True
    )
    values = [ssim(scaled(one), scaled(two)) for one, two in pairs if min(one.shape) >= _SSIM_WINDOW]
    return float(np.mean(values)) if values else float("nan")


def scaled(picture: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """A signed map between -1 and 1, zero where it has no token, so that only its pattern is compared."""
    filled = np.nan_to_num(picture)
    largest = np.abs(filled).max()
    return filled / largest if largest > 0 else filled


def ssim(one: Float[np.ndarray, "row column"], two: Float[np.ndarray, "row column"]) -> float:
    """Structural similarity (Wang et al. 2004) of two maps within -1 and 1, in windows of three cells.

    As scikit-image computes it with a uniform window, sample covariance and its usual constants.
    """
    size = _SSIM_WINDOW**2
    unbiased = size / (size - 1)
    mean_one, mean_two = _window_mean(one), _window_mean(two)
    variance_one = unbiased * (_window_mean(one * one) - mean_one**2)
    variance_two = unbiased * (_window_mean(two * two) - mean_two**2)
    covariance = unbiased * (_window_mean(one * two) - mean_one * mean_two)
    first, second = (0.01 * 2) ** 2, (0.03 * 2) ** 2
    top = (2 * mean_one * mean_two + first) * (2 * covariance + second)
    bottom = (mean_one**2 + mean_two**2 + first) * (variance_one + variance_two + second)
    edge = _SSIM_WINDOW // 2
    return float((top / bottom)[edge:-edge, edge:-edge].mean())


def _window_mean(values: Float[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    return uniform_filter(values, size=_SSIM_WINDOW)
