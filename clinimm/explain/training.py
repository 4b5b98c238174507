"""What training subjects' tokens look like: where the baseline ``training`` comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Int

from clinimm.core.errors import ModelError
from clinimm.explain.baselines import TRAINING, sorts_of
from clinimm.explain.problem import Setting
from clinimm.explain.subject import Explainer
from clinimm.model import FusionModel
from clinimm.tables import load_cohort
from clinimm.workspace import Workspace

#: Training subjects that are looked at; tokens that are kept of a modality, or of a sort where it has sorts.
_SUBJECTS, _TOKENS, _OF_A_SORT = 64, 512, 32


def with_training(explainer: Explainer, model: FusionModel, subjects: Sequence[str], seed: int) -> Setting:
    """The explainer's setting with what its baseline needs of a fit's training subjects.

    Tokens that are not finite are left out: one bad training subject spoils nobody's baseline.

    Args:
        explainer: how subjects are explained.
        model: the fit.
        subjects: those that it was trained on; up to 64 are drawn.
        seed: of the draw.
    """
    if explainer.setting.baseline != TRAINING:
        return explainer.setting
    random = np.random.default_rng(seed)
    drawn = [str(one) for one in random.permutation(list(subjects))[:_SUBJECTS]]
    batch, setting = explainer.batch(model, drawn)
    with torch.no_grad():
        embedded = model.embed(batch)
    banks, kinds = {}, {}
    for name, tokens in embedded.items():
        real = tokens.mask & torch.isfinite(tokens.values).all(dim=2)
        sorts = sorts_of(tokens, setting.layout, name)
        own = None if sorts is None else sorts[real.cpu()].numpy()
        kept = torch.from_numpy(_kept(random.permutation(int(real.sum())), own))
        banks[name] = tokens.values[real].float()[kept]
        if own is not None:
            kinds[name] = torch.from_numpy(own)[kept]
    return replace(explainer.setting, references=banks, reference_kinds=kinds)


def training_subjects(workspace: Workspace, fit: str) -> Sequence[str]:
    """The subjects that a fit was trained on; ``train/model`` is the only fit where there is one.

    Args:
        workspace: the run.
        fit: name of the fit's folder.

    Raises:
        ModelError: there is no such fit, and others are no stand-in: they trained on other subjects.
    """
    fits = {one.name: one for one in load_cohort(workspace, needs_labels=False).fits}
    if fit in fits:
        return fits[fit].training
    if len(fits) == 1:
        return next(iter(fits.values())).training
    raise ModelError(f"{fit} is none of the fits of this cohort ({', '.join(fits)}); fit the model again.")


def _kept(
    order: Int[np.ndarray, " token"], sorts: Int[np.ndarray, " token"] | None
) -> Int[np.ndarray, " kept"]:
    """The first so many in a random order; of every sort, so that a rare one has draws of its own too."""
    if sorts is None:
        return order[:_TOKENS]
    return order[pd.Series(sorts[order]).groupby(sorts[order]).cumcount().to_numpy() < _OF_A_SORT]
