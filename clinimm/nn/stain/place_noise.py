"""Noise that belongs to places: the same pixel of a slide gets the same number in every tile."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

_WORD = 0xFFFFFFFF  # 32 bits, kept in 64 so that products do not overflow


def place_noise(
    origin: Int[Tensor, "batch 2"], channels: int, rows: int, columns: int, seed: int
) -> Float[Tensor, "batch channel row column"]:
    """Standard normal numbers, a function of absolute row, absolute column, channel and seed alone.

    Args:
        origin: row and column on the slide of each image's first pixel; may be negative.
        channels, rows, columns: shape of what is wanted.
        seed: another seed is another noise.

    Each place is hashed twice to uniform numbers, and those go through Box and Muller's transform.
    """
    device = origin.device
    row = origin[:, 0, None] + torch.arange(rows, device=device)
    column = origin[:, 1, None] + torch.arange(columns, device=device)
    channel = torch.arange(channels, device=device)
    key = _mix(torch.full((), seed & _WORD, dtype=torch.int64, device=device))
    word = _mix((key + row) & _WORD)[:, None, :, None]
    word = _mix(word ^ _mix((column + 0x9E3779B9) & _WORD)[:, None, None, :])
    word = _mix(word + channel[None, :, None, None])
    first, second = _uniform(word), _uniform(_mix(word ^ 0x85EBCA6B))
    return (-2 * first.log()).sqrt() * (2 * torch.pi * second).cos()


def _mix(word: Tensor) -> Tensor:
    """A 32-bit finaliser: every bit of the result depends on every bit of the word."""
    word = word & _WORD
    for factor in (0x7FEB352D, 0x46685257):  # below 2**31, so that 64 bits hold the product
        word = word ^ (word >> 16)
        word = (word * factor) & _WORD
    return word ^ (word >> 16)


def _uniform(word: Tensor) -> Tensor:
    """32 bits -> (0, 1), neither end included."""
    return ((word >> 8).float() + 0.5) / 2**24
