"""One block of a slide through the stainer: pixels in, pixels and expected error out.

Nothing here measures the block: what a pixel becomes depends on the pixels within the stainer's
receptive field and on nothing else, so blocks can be cut hard.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Protocol

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from clinimm.nn.tokens import Tokens
from clinimm.staining.plan import TILE_PIXELS, Block, Plan

Picture = UInt8[np.ndarray, "row column 3"]
#: A patient's fused tokens as each member of the model sees them (``stainer.Context``).
Context = tuple[Tokens, ...]


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


#: ``refuse(source, colour, uncertainty, features)`` of one tile: uint8 source and result (row, column, 3),
#: float32 expected error (row, column), float32 features. True, or True where, means: do not believe it.
Refuse = Callable[
    [Picture, Picture, Float[np.ndarray, "row column"], Float[np.ndarray, " feature"]],
    bool | Bool[np.ndarray, "row column"],
]


class BlockResult:
    """A stained block, with the parts of it that the refusal looks at.

    Attributes:
        colour: uint8 (row, column, 3).
        uncertainty: float32 (row, column).
        refused: bool (row, column).
    """

    def __init__(self, colour: Picture, uncertainty: Float[np.ndarray, "row column"]) -> None:
        self.colour = colour
        self.uncertainty = uncertainty
        self.refused = np.zeros(uncertainty.shape, dtype=bool)


def run_block(
    stainer: StainerLike,
    source: Picture,
    block: Block,
    plan: Plan,
    stain: int,
    context: Context | None = None,
    refuse: Refuse | None = None,
) -> BlockResult:
    """Stain one block.

    Args:
        source: the pixels of ``plan.run(block)``: the block with its halo.
        block: where it lies; ``plan`` its slide's plan.
        stain: index of the stain.
        context: the patient's fused tokens (one row each).
        refuse: asked once a stored tile.
    """
    run = plan.run(block)
    with torch.inference_mode():
        image = torch.from_numpy(np.ascontiguousarray(source)).permute(2, 0, 1)[
            None
        ]  # channels last in memory
        stained = stainer(
            image.float().div_(255),
            torch.tensor([stain]),
            context,
            torch.tensor([[run.top, run.left]]),
        )
        rows = slice(plan.halo, plan.halo + block.rows)
        columns = slice(plan.halo, plan.halo + block.columns)
        colour = stained.colour[0, :, rows, columns].mul(255).round_().clamp_(0, 255).to(torch.uint8)
        result = BlockResult(
            colour.permute(1, 2, 0).contiguous().numpy(),
            stained.uncertainty[0, rows, columns].float().contiguous().numpy(),
        )
        if refuse is not None:
            core = source[rows, columns]
            for tile_rows, tile_columns in tiles_of(block):
                features = _features(stained.feature_map[0], plan, tile_rows, tile_columns)
                part = (tile_rows, tile_columns)
                result.refused[part] = refuse(
                    core[part], result.colour[part], result.uncertainty[part], features
                )
    return result


def tiles_of(block: Block) -> list[tuple[slice, slice]]:
    """The stored tiles of a block as rows and columns within it, row by row."""
    return [
        (
            slice(top, min(top + TILE_PIXELS, block.rows)),
            slice(left, min(left + TILE_PIXELS, block.columns)),
        )
        for top in range(0, block.rows, TILE_PIXELS)
        for left in range(0, block.columns, TILE_PIXELS)
    ]


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
