"""Who read whom: attention weights, written down while a network runs.

A network that is given a ``Trace`` computes its attention step by step instead of in one fused
kernel and notes the weights, still part of the graph, so that gradients with respect to them can be
taken. Without a trace nothing changes, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Float
from torch import Tensor

#: Names of the streams that the trunk's parts read and write.
TOKENS, LATENTS, CLASSES = "tokens", "latents", "classes"


@dataclass(frozen=True)
class Attention:
    """One attention.

    Attributes:
        reader: the stream whose vectors were updated.
        read: the stream that was looked at; the same one for self-attention.
        weights: (batch, head, query, 1 + key), each row sums to one. The first key holds nothing:
            its share was spent on reading nothing at all.
    """

    reader: str
    read: str
    weights: Float[Tensor, "batch head query key"]


#: Takes the weights of one attention.
Note = Callable[[Tensor], None]


@dataclass
class Trace:
    """The attentions of one forward pass, in the order in which they were computed."""

    attentions: list[Attention] = field(default_factory=list)

    def noting(self, reader: str, read: str) -> Note:
        """What a ``MaskedAttention`` hands its weights to."""
        return lambda weights: self.attentions.append(Attention(reader, read, weights))
