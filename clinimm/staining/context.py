"""The patient behind a slide: encoders, adapters and fusion that give a stainer its context.

The same parts, in the same order, as a diagnosis has in front of its head (``model.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from clinimm.config import ModalityConfig, ModelConfig
from clinimm.corpus import Corpus
from clinimm.fusion import build_fusion
from clinimm.modalities import get_modality
from clinimm.modality import Statistics
from clinimm.nn.blocks import Adapter
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.tokens import Batch, Tokens


@dataclass(frozen=True)
class ContextSpec:
    """All that is needed to build a trunk without its weights.

    Attributes:
        model: the fusion's configuration.
        modalities: name -> settings of its encoder.
        statistics: name -> what ``Modality.fit`` learned from the training subjects.
        plugins: modules of outside modalities.
    """

    model: ModelConfig
    modalities: dict[str, ModalityConfig]
    statistics: dict[str, Statistics]
    plugins: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "model": self.model.model_dump(mode="json"),
            "modalities": {name: item.model_dump(mode="json") for name, item in self.modalities.items()},
            "statistics": self.statistics,
            "plugins": list(self.plugins),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ContextSpec:
        """The inverse of ``to_json``."""
        modalities = value["modalities"]
        return cls(
            model=ModelConfig.model_validate(value["model"]),
            modalities={name: ModalityConfig.model_validate(item) for name, item in modalities.items()},
            statistics=value["statistics"],
            plugins=tuple(value["plugins"]),
        )


@dataclass(frozen=True)
class ContextData:
    """The corpus that holds the patients' tokens, and how to read it."""

    corpus: Corpus
    spec: ContextSpec

    def batch(self, subjects: Sequence[str]) -> Batch:
        """Raw tokens of some subjects; who is not in the corpus has none (law 3)."""
        return self.corpus.batch(subjects, self.spec.statistics)


class Trunk(nn.Module):
    """Raw tokens of several modalities -> fused tokens. Who has no token gets no token."""

    def __init__(self, spec: ContextSpec) -> None:
        super().__init__()
        config = spec.model
        encoders = {
            name: get_modality(name, spec.plugins).build_encoder(item, spec.statistics[name])
            for name, item in spec.modalities.items()
        }
        self.encoders = nn.ModuleDict(encoders)
        self.adapters = nn.ModuleDict(
            {name: Adapter(encoder.dim, config.width, config.dropout) for name, encoder in encoders.items()}
        )
        self.fusion = build_fusion(config)
        self.modality_dropout = config.modality_dropout

    @torch.no_grad()
    def initialise(self, batch: Batch) -> None:
        """Fit each adapter's mean, scale and projection to a batch of training subjects."""
        for name, tokens in batch.items():
            encoder, adapter = self.encoders[name], self.adapters[name]
            assert isinstance(encoder, TokenEncoder)
            assert isinstance(adapter, Adapter)
            if type(encoder).forward is TokenEncoder.forward:
                embedded = encoder.embed(tokens)
                adapter.initialise(embedded.values[embedded.mask].float())

    def embed(self, batch: Batch) -> Batch:
        """Each raw token embedded alone; where attributions start."""
        return {name: self._encoder(name).embed(tokens) for name, tokens in batch.items()}

    def fuse(self, embedded: Batch) -> Tokens:
        """Embedded tokens -> fused tokens, (batch, latent, width)."""
        adapted = {name: self.adapters[name](self._encoder(name)(t)) for name, t in embedded.items()}
        if self.training:
            adapted = {name: _hide(tokens, self.modality_dropout) for name, tokens in adapted.items()}
        present = torch.stack([tokens.present for tokens in adapted.values()]).any(0)
        fused: Tokens = self.fusion(adapted)
        return fused.with_mask(fused.mask & present[:, None])

    def forward(self, batch: Batch) -> Tokens:
        """Raw tokens -> fused tokens."""
        return self.fuse(self.embed(batch))

    def _encoder(self, name: str) -> TokenEncoder:
        encoder = self.encoders[name]
        assert isinstance(encoder, TokenEncoder)
        return encoder


def _hide(tokens: Tokens, chance: float) -> Tokens:
    """Hide a whole modality of random subjects, so that the stain does not come to depend on it."""
    keep = torch.rand(len(tokens.mask)) >= chance
    return tokens.with_mask(tokens.mask & keep[:, None])
