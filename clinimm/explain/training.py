"""What training subjects' tokens look like: where the baseline ``training`` comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from clinimm.explain.baselines import TRAINING
from clinimm.explain.problem import Setting
from clinimm.explain.subject import Explainer
from clinimm.model import FusionModel

#: Training subjects that are looked at, and tokens of each modality that are kept.
_SUBJECTS, _TOKENS = 64, 512


def with_training(explainer: Explainer, model: FusionModel, subjects: Sequence[str], seed: int) -> Setting:
    """The explainer's setting with what its baseline needs of a fit's training subjects.

    Args:
        explainer: how subjects are explained.
        model: the fit.
        subjects: those that it was trained on; up to 64 are drawn.
        seed: of the draw.
    """
    setting = explainer.setting
    if setting.baseline != TRAINING:
        return setting
    random = np.random.default_rng(seed)
    drawn = [str(one) for one in random.permutation(list(subjects))[:_SUBJECTS]]
    with torch.no_grad():
        embedded = model.embed(explainer.corpus.batch(drawn, model.statistics))
    banks, kinds = {}, {}
    for name, tokens in embedded.items():
        real = tokens.values[tokens.mask].float()
        kept = torch.from_numpy(random.permutation(len(real))[:_TOKENS])
        banks[name] = real[kept]
        if tokens.kind is not None:
            kinds[name] = tokens.kind[tokens.mask][kept]
    return replace(setting, references=banks, reference_kinds=kinds)
