"""Where every generator starts: a colour for a colour, without looking at the neighbours.

A per-pixel polynomial is a hard baseline for small paired sets, and published networks often lose
to it. Here it is part of the network: fitted in closed form first, then corrected by what the
network sees around the pixel, and kept as it is where that does not help.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

#: 1, r, g, b, and their six products.
TERMS = 10
_RIDGE = 1e-5  # variance below which a term of the polynomial says nothing
_SMALLEST_VARIANCE = 1e-5


class ColourStart(nn.Module):
    """A polynomial of degree two a stain, from source colour to target colour.

    Its coefficients are data, not parameters: fitted once, and left alone by the optimiser.
    """

    coefficients: Tensor

    def __init__(self, stains: int) -> None:
        super().__init__()
        same = torch.zeros(stains, 3, TERMS)
        same[:, [0, 1, 2], [1, 2, 3]] = 1.0
        self.register_buffer("coefficients", same)

    def forward(
        self, image: Float[Tensor, "batch 3 row column"], stain: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch 3 row column"]:
        """The stain as colour alone tells it; may leave [0, 1] a little.

        Never in bfloat16: large terms of the polynomial cancel.
        """
        terms = torch.stack(
            _terms(*image.to(self.coefficients.dtype).unbind(1)), dim=1
        )  # (batch, term, row, column)
        with torch.autocast(image.device.type, enabled=False):
            colour = torch.bmm(self.coefficients[stain], terms.flatten(2))  # (batch, 3, row * column)
        return colour.unflatten(2, image.shape[2:]).contiguous(memory_format=torch.channels_last)

    @torch.no_grad()
    def fit_pairs(
        self, stain: int, source: Float[Tensor, "pixel 3"], target: Float[Tensor, "pixel 3"]
    ) -> None:
        """Least squares over registered pixels, with a touch of ridge.

        Images of few colours do not determine all terms; the ridge makes the answer one, and the same
        on every run.
        """
        design = torch.stack(_terms(*source.double().unbind(1))[1:], dim=1)
        mean, target_mean = design.mean(0), target.double().mean(0)
        centred = design - mean
        gram = centred.T @ centred / len(design)
        gram += _RIDGE * torch.eye(TERMS - 1, dtype=torch.float64)
        slopes = torch.linalg.solve(gram, centred.T @ (target.double() - target_mean) / len(design))
        self.coefficients[stain] = torch.cat([(target_mean - mean @ slopes)[None], slopes]).T.float()

    @torch.no_grad()
    def fit_unpaired(
        self, stain: int, source: Float[Tensor, "pixel 3"], target: Float[Tensor, "other 3"]
    ) -> None:
        """The linear map that gives source pixels the mean and covariance of target pixels.

        Monge-Kantorovich colour transfer (Pitié and Kokaram, 2007): of all such maps the one that
        moves colours least.
        """
        from_mean, to_mean = source.double().mean(0), target.double().mean(0)
        from_root, from_inverse = _roots(source)
        middle = from_root @ _covariance(target) @ from_root
        linear = from_inverse @ _square_root(middle) @ from_inverse
        weights = torch.zeros(3, TERMS, dtype=torch.float64)
        weights[:, 0] = to_mean - linear @ from_mean
        weights[:, 1:4] = linear
        self.coefficients[stain] = weights.float()


def _terms(red: Tensor, green: Tensor, blue: Tensor) -> tuple[Tensor, ...]:
    products = (red * red, green * green, blue * blue, red * green, red * blue, green * blue)
    return (torch.ones_like(red), red, green, blue, *products)


def _covariance(pixels: Tensor) -> Tensor:
    return torch.cov(pixels.double().T) + _SMALLEST_VARIANCE * torch.eye(3, dtype=torch.float64)


def _square_root(matrix: Tensor) -> Tensor:
    values, axes = torch.linalg.eigh(matrix)
    return axes @ torch.diag(values.clamp(min=0).sqrt()) @ axes.T


def _roots(pixels: Tensor) -> tuple[Tensor, Tensor]:
    root = _square_root(_covariance(pixels))
    return root, torch.linalg.inv(root)
