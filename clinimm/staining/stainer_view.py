"""A stainer as explanations see it: one stain, and a record whose facts are embedded already."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from clinimm.core.errors import ModelError
from clinimm.nn.blocks import Adapter
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.tokens import Batch, Tokens
from clinimm.staining.context import Trunk
from clinimm.staining.stainer import Stainer, StainMember


class StainerView:
    """What ``explain_stain.Explainable`` asks for.

    Every member embeds the record by itself; their embeddings of a fact lie side by side, so that a
    fact has one share, the sum over the members.
    """

    def __init__(self, stainer: Stainer, stain: str) -> None:
        self._stainer, self._stain = stainer.eval(), stain
        self._index = stainer.stain_index(stain)
        self.halo, self.stride = stainer.halo, stainer.stride

    @torch.no_grad()
    def embed(self, batch: Batch) -> Batch:
        """A patient's raw facts as all members embed them.

        Args:
            batch: of ``ContextData.batch``, one row.

        Raises:
            ModelError: the stainer was trained on pixels alone.
        """
        parts = [trunk.embed(batch) for trunk in self._trunks()]
        return {
            name: tokens.with_values(torch.cat([part[name].values for part in parts], dim=2))
            for name, tokens in parts[0].items()
        }

    def baseline(self, record: Batch) -> Batch:
        """Uninformative facts in the places of ``record``."""
        trunks = self._trunks()
        parts = [
            {name: _baseline(trunk, name, own) for name, own in apart.items()}
            for trunk, apart in zip(trunks, _apart(record, len(trunks)), strict=True)
        ]
        return {
            name: tokens.with_values(torch.cat([part[name] for part in parts], dim=2))
            for name, tokens in record.items()
        }

    def colour(
        self, image: Float[Tensor, "batch 3 row column"], record: Batch, origin: tuple[int, int]
    ) -> Float[Tensor, "batch 3 row column"]:
        """See ``Explainable.colour``."""
        rows = len(image)
        context = None
        if record:
            trunks = self._trunks()
            apart = _apart(record, len(trunks))
            context = tuple(trunk.fuse(own) for trunk, own in zip(trunks, apart, strict=True))
        origins = torch.tensor([origin]).expand(rows, -1)
        return self._stainer(image, self._index.expand(rows), context, origins).colour

    def _trunks(self) -> list[Trunk]:
        found = []
        for member in self._stainer.members:
            assert isinstance(member, StainMember)
            if member.trunk is None:
                raise ModelError("this stainer was trained on pixels alone; it has no record to explain.")
            found.append(member.trunk)
        return found


def _apart(record: Batch, members: int) -> list[Batch]:
    """Each member's own part of the embeddings."""
    chunks = {name: tokens.values.chunk(members, dim=2) for name, tokens in record.items()}
    return [
        {name: tokens.with_values(chunks[name][index]) for name, tokens in record.items()}
        for index in range(members)
    ]


def _baseline(trunk: Trunk, name: str, tokens: Tokens) -> Tensor:
    """As a diagnosis has it: the encoder's own, else the training facts' mean."""
    encoder, adapter = trunk.encoders[name], trunk.adapters[name]
    assert isinstance(encoder, TokenEncoder)
    assert isinstance(adapter, Adapter)
    plain = type(encoder).forward is TokenEncoder.forward
    if plain and type(encoder).baseline is TokenEncoder.baseline:
        return adapter.mean.expand(tokens.values.shape).clone()
    return encoder.baseline(tokens)
