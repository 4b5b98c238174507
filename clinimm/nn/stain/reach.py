"""How far a network looks: exact, by following intervals of positions from output to input.

A tile of a slide comes out as the whole slide would, wherever its margin is at least as wide as
the network looks. So each generator describes itself as a chain of the steps below, run backwards:
which input positions do these output positions depend on? One axis is enough, for rows and columns
are alike. The method is the interval form of the arithmetic in Araujo et al., "Computing receptive
fields of convolutional neural networks" (Distill, 2019).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """Positions ``low`` to ``high``, both included, on one axis."""

    low: int
    high: int

    def convolved(self, kernel: int) -> Span:
        """What a convolution of an odd ``kernel``, stride 1 and centred, reads."""
        return Span(self.low - kernel // 2, self.high + kernel // 2)

    def pooled(self, factor: int) -> Span:
        """What blocks of ``factor`` positions (pooling, folding pixels into channels) read."""
        return Span(self.low * factor, self.high * factor + factor - 1)

    def repeated(self, factor: int) -> Span:
        """What repeating each position ``factor`` times (or unfolding channels) reads."""
        return Span(self.low // factor, self.high // factor)

    def joined(self, other: Span) -> Span:
        """The smallest span that holds both."""
        return Span(min(self.low, other.low), max(self.high, other.high))


def reach(pull: Callable[[Span], Span], stride: int) -> int:
    """The largest distance in pixels at which an input pixel can influence an output pixel.

    Args:
        pull: output positions -> the input positions that they depend on.
        stride: the network repeats itself after so many pixels, so only those need a look.

    Example:
        >>> reach(lambda span: span.convolved(3).convolved(3), stride=1)
        2
    """
    spans = [(position, pull(Span(position, position))) for position in range(stride)]
    return max(max(position - span.low, span.high - position) for position, span in spans)


def round_up(pixels: int, stride: int) -> int:
    """The next multiple of ``stride``."""
    return -(-pixels // stride) * stride
