"""The patient behind a slide: encoders, adapters and fusion that give a stainer its context.

The same parts, in the same order, as a diagnosis has in front of its head (``model.py``), and beside the
fused tokens one a modality that says what a linear model reads from it (``record_start.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from clinimm.config import ModalityConfig, ModelConfig
from clinimm.corpus import Corpus
from clinimm.fusion import build_fusion
from clinimm.modalities import get_modality
from clinimm.modality import Statistics
from clinimm.nn.blocks import Adapter
from clinimm.nn.encoder import TokenEncoder, summary_size
from clinimm.nn.evidence import Probe
from clinimm.nn.tokens import Batch, Tokens

CHANNELS = 3  #: of a stain's mean colour, which a probe tells
_HIDE_FUSED = 0.5  # of patients in training, whose stain then draws on the probes alone


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
    """Raw tokens of several modalities -> fused tokens. Who has no token gets no token.

    Args:
        spec: what is built.
        stains: how many; each modality's probe tells a colour for each.
    """

    def __init__(self, spec: ContextSpec, stains: int) -> None:
        super().__init__()
        config, outputs = spec.model, CHANNELS * stains
        encoders = {
            name: get_modality(name, spec.plugins).build_encoder(item, spec.statistics[name])
            for name, item in spec.modalities.items()
        }
        self.encoders = nn.ModuleDict(encoders)
        self.adapters = nn.ModuleDict(
            {name: Adapter(encoder.dim, config.width, config.dropout) for name, encoder in encoders.items()}
        )
        self.fusion = build_fusion(config)
        self.probes = nn.ModuleDict(
            {
                name: Probe(summary_size(encoder, int(spec.statistics[name]["raw_dim"])), outputs)
                for name, encoder in encoders.items()
            }
        )
        self.tellers = nn.ModuleDict({name: nn.Linear(outputs, config.width) for name in encoders})
        self.modality_dropout = config.modality_dropout

    @torch.no_grad()
    def initialise(self, batch: Batch) -> None:
        """Fit each adapter's mean, scale and projection to a batch of training subjects."""
        for name, tokens in batch.items():
            encoder, adapter = self.encoder(name), self.adapters[name]
            assert isinstance(adapter, Adapter)
            if type(encoder).forward is TokenEncoder.forward:
                embedded = encoder.embed(tokens)
                adapter.initialise(embedded.values[embedded.mask].float())

    def embed(self, batch: Batch) -> Batch:
        """Each raw token embedded alone; where attributions start."""
        return {name: self.encoder(name).embed(tokens) for name, tokens in batch.items()}

    def fuse(self, embedded: Batch, fold: Int[Tensor, " batch"] | None = None) -> Tokens:
        """Embedded tokens -> fused tokens, then one a modality: (batch, latent + modality, width).

        Args:
            embedded: of ``embed``.
            fold: each subject's fold in training; None for new subjects.
        """
        if self.training:
            embedded = {name: _hide(tokens, self.modality_dropout) for name, tokens in embedded.items()}
        adapted = {name: self.adapters[name](self.encoder(name)(t)) for name, t in embedded.items()}
        present = torch.stack([tokens.present for tokens in adapted.values()]).any(0)
        fused: Tokens = self.fusion(adapted)
        if self.training:  # else attention learns few patients by heart, and the probes are not heard
            fused = _hide(fused, _HIDE_FUSED)
        told = [self._told(name, tokens, fold) for name, tokens in embedded.items()]
        return Tokens(
            torch.cat([fused.values, *(values for values, _ in told)], dim=1),
            torch.cat([fused.mask & present[:, None], *(mask for _, mask in told)], dim=1),
            torch.cat([fused.time, *(torch.zeros_like(fused.time[:, :1]) for _ in told)], dim=1),
        )

    def forward(self, batch: Batch, fold: Int[Tensor, " batch"] | None = None) -> Tokens:
        """Raw tokens -> fused tokens."""
        return self.fuse(self.embed(batch), fold)

    def encoder(self, name: str) -> TokenEncoder:
        """The modality's encoder."""
        encoder = self.encoders[name]
        assert isinstance(encoder, TokenEncoder)
        return encoder

    def probe(self, name: str) -> Probe:
        """The modality's probe."""
        probe = self.probes[name]
        assert isinstance(probe, Probe)
        return probe

    def _told(self, name: str, embedded: Tokens, fold: Int[Tensor, " batch"] | None) -> tuple[Tensor, Tensor]:
        """What the modality's probe says, as a token, and who has it."""
        said = self.probe(name)(self.encoder(name).summarise(embedded), embedded.present, fold)
        token: Tensor = self.tellers[name](said)
        return token[:, None], embedded.present[:, None]


def _hide(tokens: Tokens, chance: float) -> Tokens:
    """Hide all tokens of random subjects, so that the stain does not come to depend on them."""
    keep = torch.rand(len(tokens.mask)) >= chance
    return tokens.with_mask(tokens.mask & keep[:, None])
