"""Tokens of a frozen encoder, brought to zero mean and unit scale before the fusion sees them."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from clinimm.nn.encoder import TokenEncoder
from clinimm.nn.tokens import Tokens

#: A channel that hardly varies is not blown up beyond this share of the typical channel.
_SMALLEST_SCALE = 0.1
_CHUNK_ROWS = 8192


def pack(array: np.ndarray) -> str:
    """A float32 array as base 64, so that large statistics stay JSON and small."""
    return base64.b64encode(np.ascontiguousarray(array, dtype="<f4").tobytes()).decode("ascii")


def unpack(text: str, shape: tuple[int, ...]) -> np.ndarray:
    """The array that ``pack`` was given."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").reshape(shape).copy()


def fit_dense(values: np.ndarray, components: int) -> dict[str, Any]:
    """Mean, scale and, where ``components`` > 0, principal axes of training rows.

    Args:
        values: (row, dim), the tokens of training subjects only.
        components: principal components to keep; 0 keeps every channel. More than the rows or
            the channels allow are not an error: fewer are kept.

    Returns:
        JSON values: ``raw_dim``, ``inputs``, ``dim``, ``mean`` and ``matrix`` (inputs, dim) or, without
        components, ``scale`` (inputs), so that ``(x - mean) @ matrix`` or ``(x - mean) / scale``
        has zero mean and about unit variance.
    """
    inputs = values.shape[1]
    if values.size == 0:
        return _statistics(np.zeros(inputs), scale=np.ones(inputs))
    mean, covariance = _moments(values, with_covariance=components > 0)
    if components <= 0:
        return _statistics(mean, scale=_scale(covariance))
    variance, axes = np.linalg.eigh(covariance)
    kept = max(1, min(components, inputs, len(values) - 1))
    variance, axes = variance[::-1][:kept], axes[:, ::-1][:, :kept]
    # One scale for all components: whitening would make the noise as loud as the signal.
    return _statistics(mean, matrix=axes * _signs(axes) / np.sqrt(max(float(variance.mean()), 1e-12)))


def _statistics(
    mean: np.ndarray, scale: np.ndarray | None = None, matrix: np.ndarray | None = None
) -> dict[str, Any]:
    dim = len(mean) if matrix is None else matrix.shape[1]
    factor = {"scale": pack(scale)} if scale is not None else {"matrix": pack(np.asarray(matrix))}
    return {"raw_dim": len(mean), "inputs": len(mean), "dim": dim, "mean": pack(mean), **factor}


def _moments(values: np.ndarray, with_covariance: bool) -> tuple[np.ndarray, np.ndarray]:
    """Mean, and the covariance or, without it, the variances; in one pass over chunks a sum."""
    chunks = range(0, len(values), _CHUNK_ROWS)
    mean = sum(values[i : i + _CHUNK_ROWS].astype(np.float64).sum(axis=0) for i in chunks) / len(values)
    second: Any = 0.0
    for i in chunks:
        centred = values[i : i + _CHUNK_ROWS].astype(np.float32) - mean.astype(np.float32)
        second = second + (centred.T @ centred if with_covariance else np.square(centred).sum(axis=0))
    return mean, np.asarray(second, dtype=np.float64) / len(values)


def _scale(variance: np.ndarray) -> np.ndarray:
    deviation = np.sqrt(variance)
    typical = float(np.median(deviation))
    return np.maximum(deviation, max(_SMALLEST_SCALE * typical, 1e-6))


def _signs(axes: np.ndarray) -> np.ndarray:
    """Turns every axis so that its largest entry is positive: the same data give the same axes."""
    return np.sign(axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])])


class Standardise(torch.nn.Module):
    """(..., inputs) -> (..., dim) with the statistics of ``fit_dense``."""

    mean: Tensor
    factor: Tensor

    def __init__(self, statistics: dict[str, Any]) -> None:
        super().__init__()
        inputs, self.dim = int(statistics["inputs"]), int(statistics["dim"])
        self.register_buffer("mean", torch.from_numpy(unpack(statistics["mean"], (inputs,))))
        self.linear = "matrix" in statistics
        factor = (
            unpack(statistics["matrix"], (inputs, self.dim))
            if self.linear
            else 1.0 / unpack(statistics["scale"], (inputs,))
        )
        self.register_buffer("factor", torch.from_numpy(factor))

    def forward(self, values: Float[Tensor, "*rows inputs"]) -> Float[Tensor, "*rows dim"]:
        """Subtract the mean, then scale or project."""
        centred = values - self.mean
        return centred @ self.factor if self.linear else centred * self.factor


class DenseEncoder(TokenEncoder):
    """For tokens that a frozen network made: one raw token stays one token.

    Zero is the average training token, so the default baseline holds.
    """

    def __init__(self, statistics: dict[str, Any]) -> None:
        super().__init__()
        self.standardise = Standardise(statistics)
        self.dim = self.standardise.dim

    def embed(self, raw: Tokens) -> Tokens:
        """(batch, row, inputs) -> (batch, row, dim)."""
        return raw.with_values(self.standardise(raw.values) * raw.mask.unsqueeze(-1))
