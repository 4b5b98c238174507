"""One subject's logit while some of its tokens are hidden: what every faithfulness check asks for."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from clinimm.core.errors import DataError
from clinimm.explain.problem import Problem, class_logit, double
from clinimm.nn.tokens import Batch

#: The budget as a whole, beside each modality's own map.
ALL = "all"
_ROWS = 64


@dataclass(frozen=True)
class Hider:
    """Asks the model what it says without some real tokens.

    Tokens are hidden by the mask, so they are absent to the model rather than replaced by a value
    that it never saw.

    Attributes:
        problem: of one subject.
    """

    problem: Problem

    def __post_init__(self) -> None:
        if self.problem.subjects != 1:
            raise DataError(f"got {self.problem.subjects} subjects, expected one.")

    @property
    def counts(self) -> dict[str, int]:
        """Real tokens a modality; hidden tokens are numbered modality after modality."""
        return {name: int(tokens.mask.sum()) for name, tokens in self.problem.embedded.items()}

    def scopes(self) -> dict[str, Bool[np.ndarray, " token"]]:
        """Which real tokens each map has: every modality's, and those of all together."""
        owner = np.repeat(list(self.counts), list(self.counts.values()))
        return {name: owner == name for name in self.counts} | {ALL: np.ones(len(owner), dtype=bool)}

    def real(self, scores: dict[str, np.ndarray]) -> Float[np.ndarray, " token"]:
        """The subject's (1, token) scores without padding, modality after modality."""
        parts = [
            scores[name][0][tokens.mask[0].cpu().numpy()] for name, tokens in self.problem.embedded.items()
        ]
        return np.concatenate(parts)

    def logits(self, hidden: Bool[np.ndarray, "row token"]) -> Float[np.ndarray, " row"]:
        """The logit with each row's tokens hidden; equal rows are asked once."""
        rows, place = np.unique(hidden, axis=0, return_inverse=True)
        found = []
        with torch.no_grad():
            for start in range(0, len(rows), _ROWS):
                batch = self._hide(torch.from_numpy(rows[start : start + _ROWS]))
                found.append(self._logit(batch))
        return np.concatenate(found)[place.reshape(-1)]

    def _logit(self, batch: Batch) -> Float[np.ndarray, " row"]:
        model = self.problem.model
        return double(class_logit(model, model.logits(batch), self.problem.target_class))

    def _hide(self, hidden: Tensor) -> Batch:
        batch, start = {}, 0
        for name, tokens in self.problem.embedded.items():
            real = tokens.mask[0]
            stop = start + int(real.sum())
            mask = tokens.mask.repeat(len(hidden), 1)
            mask[:, real] = ~hidden[:, start:stop].to(mask.device)
            batch[name] = tokens.expand(len(hidden)).with_mask(mask)
            start = stop
        return batch
