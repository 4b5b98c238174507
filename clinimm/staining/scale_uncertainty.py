"""The expected error of a trained stainer, brought to the scale of the error that it makes."""

from __future__ import annotations

import torch

from clinimm.staining.context import ContextData
from clinimm.staining.crops import CropSource
from clinimm.staining.stainer import Stainer
from clinimm.tasks.virtual_staining import absolute_error, known_mean


@torch.no_grad()
def scale_uncertainty(stainer: Stainer, tuning: CropSource, context: ContextData | None, looks: int) -> None:
    """Make the mean expected error of each stain its mean observed error on tuning pairs.

    Args:
        stainer: trained; its ``uncertainty_slope`` is set.
        tuning: crops of subjects that it did not learn from.
        context: the patients' records, where it reads them.
        looks: how many crops are looked at.
    """
    stainer.eval()
    expected = torch.zeros(len(stainer.spec.stains))
    observed = torch.zeros(len(stainer.spec.stains))
    for plan in tuning.spread(looks):
        crops = tuning.cut([plan])
        tokens = None if context is None else stainer.read_context(context.batch(crops.subjects))
        stained = stainer(crops.source, crops.stain, tokens)
        expected[plan.stain] += known_mean(stained.uncertainty, crops.known)
        observed[plan.stain] += known_mean(absolute_error(stained.colour, crops.target), crops.known)
    seen = expected > 0
    stainer.uncertainty_slope[seen] = observed[seen] / expected[seen]
