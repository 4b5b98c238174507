"""What in the source's pixels and in the patient's record changed the stain of a region.

The question is the mean amount of the stain over a region (``optical.stain_amount``). The answer is a
budget that adds up:

    amount = amount without anything
           + what each source pixel adds
           + what each record fact adds
           + what having a record at all adds
           + a residual, which is printed

"Without anything" is the blurred source, in which no nucleus is left but colours are, with every
event of the record missing. Pixels and facts share one path of integrated gradients
(Sundararajan et al. 2017, arXiv:1703.01365) from the blurred source and uninformative facts to what was
there, so that nothing is counted twice. Whether a record is there at all is no matter of
degree, so it cannot lie on that path and has a line of its own. ``stain_deletion.py`` checks the ranking.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from clinimm.nn.tokens import Batch, Tokens
from clinimm.staining.optical import DAB, HAEMATOXYLIN, Signal, unmix_matrix
from clinimm.staining.region_view import BLUR_UM, Region, RegionView

BASELINE = f"source blurred by {BLUR_UM:g} µm, and every event of the record missing"
#: Images that go through the stainer at once.
_ROWS = 4
_DARKEST = 1.0 / 255.0
_SMALL_RESIDUAL = 0.01
_SMALLEST_CHANGE = 1e-3
_REFINEMENTS = (1, 2, 4)


class Explainable(Protocol):
    """A stainer whose record is already embedded; ``StainerView`` makes one."""

    halo: int
    stride: int

    def colour(
        self, image: Float[Tensor, "batch 3 row column"], record: Batch, origin: tuple[int, int]
    ) -> Float[Tensor, "batch 3 row column"]:
        """The stained image in [0, 1].

        Args:
            image: in [0, 1].
            record: embedded facts, a row an image; empty is a patient of whom nothing is known.
            origin: row and column of the image's first pixel in the source.
        """
        ...

    def baseline(self, record: Batch) -> Batch:
        """Uninformative facts in the places of ``record``."""
        ...


@dataclass(frozen=True)
class StainExplanation:
    """The budget of one region's stain.

    Attributes:
        region: which rectangle.
        amount: mean amount of the stain there.
        baseline_amount: the same for ``BASELINE``.
        pixels: (row, column) signed share of each source pixel, over the whole source; 0 where the
            region does not look.
        record: modality -> (token,) signed share of each fact, 0 where it is padding.
        presence: what having a record at all adds.
        residual: what is left over: ``amount`` less everything above.
        steps: nodes of the path.
    """

    region: Region
    amount: float
    baseline_amount: float
    pixels: Float[np.ndarray, "row column"]
    record: Mapping[str, Float[np.ndarray, " token"]]
    presence: float
    residual: float
    steps: int

    @property
    def from_pixels(self) -> float:
        """Sum over the pixels."""
        return float(self.pixels.sum())

    @property
    def from_record(self) -> float:
        """Sum over the facts and their presence."""
        return float(sum(scores.sum() for scores in self.record.values())) + self.presence

    def text(self) -> str:
        """The budget, a line a part."""
        lines = [("without anything", self.baseline_amount), ("source pixels", self.from_pixels)]
        lines += [(f"record: {name}", float(scores.sum())) for name, scores in self.record.items()]
        lines += [("record: that there is one", self.presence), ("residual", self.residual)]
        width = max(len(name) for name, _ in lines)
        told = [f"{name:<{width}}  {value:+.4f}" for name, value in lines]
        return "\n".join([*told, f"{'stain amount':<{width}}  {self.amount:+.4f}", f"baseline: {BASELINE}"])


def explain_stain(
    stainer: Explainable,
    source: UInt8[np.ndarray, "row column 3"],
    region: Region,
    signal: Signal,
    resolution_um: float,
    record: Batch | None = None,
    steps: int = 24,
) -> StainExplanation:
    """Attribute a region's mean stain amount to source pixels and record facts.

    Where the parts leave over more than 1 % of the change, twice and four times as many steps are
    tried; what is left then stands in ``residual``.

    Args:
        stainer: ready for inference.
        source: uint8, at ``resolution_um``.
        region: inside the source.
        signal: how the amount is measured (``optical.signal_of``).
        resolution_um: micrometres a pixel.
        record: the patient's embedded facts, one row; None or empty where nothing is known.
        steps: nodes of the path integral.

    Raises:
        DataError: the region lies outside the source, or the source is smaller than the stride.
    """
    view = RegionView.of(source, region, stainer.halo, stainer.stride, resolution_um)
    facts = {name: tokens for name, tokens in (record or {}).items() if tokens.mask.any()}
    for factor in _REFINEMENTS:
        found = _attribute(stainer, view, facts, signal, factor * steps, source.shape)
        change = abs(found.amount - found.baseline_amount)
        if abs(found.residual) <= _SMALL_RESIDUAL * max(change, _SMALLEST_CHANGE):
            break
    return found


def mean_amount(
    colour: Float[Tensor, "batch 3 row column"], signal: Signal, inside: tuple[slice, slice]
) -> Float[Tensor, " batch"]:
    """``optical.stain_amount`` averaged over a rectangle, differentiable."""
    part = colour[:, :, inside[0], inside[1]]
    if signal is Signal.FLUORESCENCE:
        return part.amax(dim=1).mean(dim=(1, 2))
    density = -torch.log10(part.clamp(min=_DARKEST))
    if signal is Signal.ABSORBANCE:
        return density.mean(dim=(1, 2, 3))
    column = unmix_matrix(HAEMATOXYLIN, DAB)[:, 1 if signal is Signal.DAB else 0]
    weights = torch.tensor(column, dtype=density.dtype)
    return torch.einsum("bcij,c->bij", density, weights).clamp(min=0).mean(dim=(1, 2))


def _attribute(
    stainer: Explainable, view: RegionView, facts: Batch, signal: Signal, steps: int, shape: tuple[int, ...]
) -> StainExplanation:
    from captum.attr import IntegratedGradients

    names = tuple(facts)
    uninformative = stainer.baseline(facts) if facts else {}
    forward = amount_of(stainer, facts, signal, view)
    values = (view.image, *(facts[name].values for name in names))
    reference = (view.blurred, *(uninformative[name].values for name in names))
    raw = IntegratedGradients(forward).attribute(
        values, baselines=reference, n_steps=steps, method="gausslegendre", internal_batch_size=_ROWS
    )
    with torch.no_grad():
        amount, start = float(forward(*values)), float(forward(*reference))
        nothing = amount_of(stainer, {}, signal, view)
        baseline_amount = float(nothing(view.blurred)) if facts else start
    pixels = np.zeros(shape[:2])
    pixels[view.place] = raw[0][0].detach().double().sum(0).numpy()
    record = {
        name: np.where(real_facts(facts[name]), part[0].detach().double().sum(1).numpy(), 0.0)
        for name, part in zip(names, raw[1:], strict=True)
    }
    presence = start - baseline_amount
    told = pixels.sum() + sum(scores.sum() for scores in record.values()) + presence
    residual = float(amount - baseline_amount - told)
    return StainExplanation(view.region, amount, baseline_amount, pixels, record, presence, residual, steps)


def amount_of(stainer: Explainable, facts: Batch, signal: Signal, view: RegionView) -> Callable[..., Tensor]:
    """The stainer as Captum wants it: image, then each modality's values, in; one amount a row out."""

    def forward(image: Tensor, *values: Tensor) -> Tensor:
        record = {
            name: tokens.expand(len(image)).with_values(value)
            for (name, tokens), value in zip(facts.items(), values, strict=True)
        }
        return mean_amount(stainer.colour(image, record, view.origin), signal, view.inside)

    return forward


def real_facts(tokens: Tokens) -> Bool[np.ndarray, " token"]:
    """True where a fact of the one patient is real."""
    return tokens.mask[0].cpu().numpy()
