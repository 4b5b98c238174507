"""An image encoder whose last blocks are trained together with the fusion.

The frozen trunk ran once, on several views of each picture; here its cached maps go through the
trainable tail. In training a random view is taken, which is all the augmentation that caching
leaves room for; the resulting map is turned back, so a cell always means the same place.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from clinimm.core.errors import ConfigError
from clinimm.nn.dense import Standardise, fit_dense
from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.tokens import Tokens

#: ``augment`` -> views. View ``v`` is mirrored if ``v >= 4``, then turned ``v % 4`` quarter turns.
VIEWS: dict[str, tuple[int, ...]] = {"none": (0,), "flips": (0, 4), "dihedral": tuple(range(8))}
_FIT_ROWS = 256
_STEP = 32


def views_of(augment: str) -> tuple[int, ...]:
    """The views of an ``augment`` option.

    Raises:
        ConfigError: the option is unknown.
    """
    if augment not in VIEWS:
        raise ConfigError(f"augment is {augment!r}; known are {', '.join(VIEWS)}.")
    return VIEWS[augment]


def turn(image: Float[np.ndarray, "channel side side"], view: int) -> Float[np.ndarray, "channel side side"]:
    """A square picture as ``view`` shows it."""
    mirrored = image[:, :, ::-1] if view >= 4 else image
    return np.rot90(mirrored, view % 4, axes=(1, 2))


def turn_back(maps: Float[Tensor, "row channel h w"], view: int) -> Float[Tensor, "row channel h w"]:
    """Undo ``turn`` on feature maps."""
    upright = torch.rot90(maps, -(view % 4), dims=(2, 3))
    return upright.flip(3) if view >= 4 else upright


class FineTunedImageEncoder(TokenEncoder):
    """Cached maps of the trunk in, one token a cell of the tail's map out.

    Zero is the average training token before fine-tuning, so the default baseline holds.

    Args:
        tail: (row, channel, h, w) -> (row, dim, h', w'), trainable.
        views: what each row's maps show, in order.
        statistics: of ``fit_fine_tuned``.
        test_time: ``first`` reads the upright view only, ``mean`` averages all views.
    """

    def __init__(
        self, tail: nn.Module, views: tuple[int, ...], statistics: dict[str, Any], test_time: str = "first"
    ) -> None:
        super().__init__()
        self.tail = tail
        self.views = views
        self.test_time = test_time
        self.shape: tuple[int, ...] = tuple(statistics["shape"])
        self.cells = int(statistics["cells"])
        self.standardise = Standardise(statistics)
        self.dim = self.standardise.dim

    def pretrained(self) -> Iterator[nn.Parameter]:
        """The tail's parameters."""
        return self.tail.parameters()

    def embed(self, raw: Tokens) -> Tokens:
        """(batch, row, view * channel * h * w) -> (batch, row * cells, dim)."""
        batch, rows = raw.mask.shape
        maps = raw.values[raw.mask].unflatten(1, self.shape)  # (real row, view, channel, h, w)
        tokens = self.standardise(self._tokens(maps))  # (real row, cell, dim)
        values = tokens.new_zeros(batch, rows, self.cells, self.dim)
        values[raw.mask] = tokens
        mask = raw.mask.repeat_interleave(self.cells, dim=1)
        return Tokens(values.flatten(1, 2), mask, raw.time.repeat_interleave(self.cells, dim=1))

    def _tokens(self, maps: Float[Tensor, "row view channel h w"]) -> Float[Tensor, "row cell dim"]:
        if len(maps) == 0:
            return maps.new_zeros(0, self.cells, len(self.standardise.mean))
        if self.training:
            chosen = torch.randint(len(self.views), (len(maps),), device=maps.device)
            return _cells(self._run(maps[torch.arange(len(maps)), chosen], chosen))
        if self.test_time == "first":
            return _cells(self.tail(maps[:, 0]))
        every = torch.arange(len(self.views), device=maps.device).repeat(len(maps))
        return _cells(self._run(maps.flatten(0, 1), every).unflatten(0, maps.shape[:2]).mean(dim=1))

    def _run(self, maps: Tensor, chosen: Tensor) -> Tensor:
        output = self.tail(maps.contiguous(memory_format=torch.channels_last))
        upright = torch.empty_like(output)
        for position, view in enumerate(self.views):
            upright[chosen == position] = turn_back(output[chosen == position], view)
        return upright


def fit_fine_tuned(values: np.ndarray, tail: nn.Module) -> dict[str, Any]:
    """Mean and scale of what the pretrained tail makes of training rows.

    Args:
        values: (row, view, channel, h, w), training rows only.

    Returns:
        JSON values: ``shape`` of a row, ``cells``, and what ``fit_dense`` returns.
    """
    chosen = np.linspace(0, max(len(values) - 1, 0), min(len(values), _FIT_ROWS)).astype(int)
    shape = [int(size) for size in values.shape[1:]]
    with torch.inference_mode():
        upright = [
            torch.from_numpy(values[chosen[i : i + _STEP], 0].astype(np.float32))
            for i in range(0, len(chosen), _STEP)
        ] or [torch.zeros(0, *shape[1:])]
        probe = tail(torch.zeros(1, *shape[1:]))
        tokens = torch.cat([_cells(tail(maps)) for maps in upright if len(maps)] or [_cells(probe)[:0]])
    statistics = fit_dense(tokens.flatten(0, 1).numpy(), components=0)
    return {
        "shape": shape,
        "cells": int(probe.shape[2] * probe.shape[3]),
        **statistics,
        "raw_dim": int(np.prod(shape)),
    }


def _cells(maps: Float[Tensor, "row dim h w"]) -> Float[Tensor, "row cell dim"]:
    return maps.flatten(2).transpose(1, 2)
