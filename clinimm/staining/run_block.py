"""One block of a slide through the stainer: pixels in, pixels and expected error out.

Nothing here measures the block: what a pixel becomes depends on the pixels within the stainer's
receptive field and on nothing else, so blocks can be cut hard.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from clinimm.staining.patient import NOBODY, Context, Patient, Picture
from clinimm.staining.plan import Block, Plan


class StainedLike(Protocol):
    """What is needed of ``clinimm.staining.stainer.Stained``."""

    @property
    def colour(self) -> Float[Tensor, "batch 3 row column"]:
        """In [0, 1]."""

    @property
    def uncertainty(self) -> Float[Tensor, "batch row column"]:
        """Expected absolute error in [0, 1]."""

    @property
    def feature_map(self) -> Float[Tensor, "batch feature cell_row cell_column"]:
        """What the model saw, a cell of ``stride`` pixels each."""


class StainerLike(Protocol):
    """What is needed of ``clinimm.staining.stainer.Stainer``."""

    @property
    def halo(self) -> int:
        """Pixels around a tile that influence it."""

    @property
    def stride(self) -> int:
        """Rows and columns are multiples of it."""

    @property
    def digest(self) -> str:
        """Digest of configuration and weights."""

    @property
    def spec(self) -> Any:
        """``stains`` and ``resolution_um``."""

    def __call__(
        self,
        image: Float[Tensor, "batch 3 row column"],
        stain_index: Int[Tensor, " batch"],
        context: Context | None = None,
        origin: Int[Tensor, "batch 2"] | None = None,
        /,
    ) -> StainedLike:
        """A batch of images, stained; ``origin`` is each one's first row and column on the slide."""


@dataclass(frozen=True)
class BlockResult:
    """A stained block, and why its tiles are refused.

    Attributes:
        colour: uint8 (row, column, 3).
        uncertainty: float32 (row, column), calibrated where the patient has a safety case.
        reasons: of each stored tile (``Block.tiles``); empty where it may be shown.
    """

    colour: Picture
    uncertainty: Float[np.ndarray, "row column"]
    reasons: tuple[tuple[str, ...], ...]


def run_block(
    stainer: StainerLike,
    source: Picture,
    block: Block,
    plan: Plan,
    stain: int,
    patient: Patient = NOBODY,
) -> BlockResult:
    """Stain one block.

    Args:
        source: the pixels of ``plan.run(block)``: the block with its halo.
        block: where it lies; ``plan`` its slide's plan.
        stain: index of the stain.
        patient: what conditions the stain, calibrates its errors and may refuse it, asked once a stored
            tile.
    """
    run = plan.run(block)
    with torch.inference_mode():
        image = torch.from_numpy(np.ascontiguousarray(source)).permute(2, 0, 1)[
            None
        ]  # channels last in memory
        stained = stainer(
            image.float().div_(255),
            torch.tensor([stain]),
            patient.context,
            torch.tensor([[run.top, run.left]]),
        )
        rows = slice(plan.halo, plan.halo + block.rows)
        columns = slice(plan.halo, plan.halo + block.columns)
        colour = stained.colour[0, :, rows, columns].mul(255).round_().clamp_(0, 255).to(torch.uint8)
        pixels = colour.permute(1, 2, 0).contiguous().numpy()
        raw = stained.uncertainty[0, rows, columns].float().contiguous().numpy()
        reasons = []
        for tile in block.tiles() if patient.refuse is not None else ():
            inside = tile.within(block)
            features = _features(stained.feature_map[0], plan, *inside)
            core = source[rows, columns][inside]
            assert patient.refuse is not None
            reasons.append(patient.refuse(core, pixels[inside], raw[inside], features, tile))
        believed = ((),) * len(block.tiles())
        return BlockResult(pixels, patient.expected_error(raw), tuple(reasons) or believed)


def _features(
    features: Float[Tensor, "feature cell_row cell_column"], plan: Plan, rows: slice, columns: slice
) -> Float[np.ndarray, " feature"]:
    """The features of one tile: the mean over its own part of the map, without the halo."""
    first = plan.halo // plan.stride
    cells = (
        slice(first + part.start // plan.stride, first + -(-part.stop // plan.stride))
        for part in (rows, columns)
    )
    return features[(slice(None), *cells)].mean(dim=(1, 2)).float().numpy()


def folded(stainer: nn.Module) -> nn.Module:
    """A copy for inference: batch normalisation inside the convolutions, channels last in memory.

    Wherever an ``nn.Sequential`` holds a convolution right before its normalisation, the two become
    one convolution with the same result up to rounding (about 1e-6).
    """
    ready = copy.deepcopy(stainer).eval()
    for part in ready.modules():
        if isinstance(part, nn.Sequential):
            _fold_sequence(part)
    # The stubs of torch leave this keyword out of ``Module.to``.
    return ready.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fold_sequence(sequence: nn.Sequential) -> None:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    names = list(sequence._modules)
    for first, second in pairwise(names):
        convolution, norm = sequence._modules[first], sequence._modules[second]
        if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            sequence._modules[first] = fuse_conv_bn_eval(convolution, norm)
            sequence._modules[second] = nn.Identity()
