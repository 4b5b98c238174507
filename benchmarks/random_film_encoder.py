"""Films read by an image encoder whose weights are random: the last step of the cascade, for benchmarks.

The product's cascade ends at what CliniMM trained. A frozen image encoder keeps its ImageNet weights, and to
it a bright opacity is unusual, whatever is made of its tokens afterwards. Here its weights are shuffled and
given random signs as well (``clinimm.explain.randomise``). Its batch normalisation and the tokens' mean and
scale are fitted anew to some films, or a shuffled network would fall silent.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import nn

from clinimm.core.record import digest_file
from clinimm.explain.randomise import randomise
from clinimm.explain.subject import Explainer
from clinimm.modalities.radiology.encoder import load_frames, read_options
from clinimm.model import FusionModel, FusionNetwork
from clinimm.nn.dense import DenseEncoder, fit_dense
from clinimm.nn.image import ImageEncoder, load_image_encoder
from clinimm.nn.tokens import Batch

#: Films that batch normalisation and the tokens' mean and scale are fitted to.
_FITTED_TO = 32
FILMS = "radiology"


class _Holder(nn.Module):
    """What ``randomise`` takes for a model: its encoders are all that it has."""

    def __init__(self, encoder: nn.Module) -> None:
        super().__init__()
        self.encoders = encoder


def film_pixels(model: FusionModel, files: Iterable[Path], wanted: Iterable[str]) -> dict[str, np.ndarray]:
    """Digest -> (3, S, S) pixels as the encoder takes them, of the wanted films."""
    options, known = read_options(model.spec.modalities[FILMS]), set(wanted)
    found = {}
    for file in files:
        if (digest := digest_file(file)) in known:
            (found[digest],) = (frame.pixels for frame in load_frames(file.read_bytes(), options))
    return found


def blinded(
    model: FusionModel, films: Mapping[str, np.ndarray], seed: int
) -> tuple[FusionModel, dict[str, np.ndarray]]:
    """A copy of the model, all its weights shuffled, and (cell, dim) tokens of films by a shuffled encoder.

    Args:
        model: its films' encoder is frozen, and its tokens are standardised channel by channel.
        films: digest -> pixels.
        seed: of the shuffles.
    """
    config = model.spec.modalities[FILMS]
    size = read_options(config).size
    usual = load_image_encoder(config.encoder.name, config.encoder.fine_tune_blocks, size)
    *_, (_, holder) = randomise(_Holder(usual.trunk), seed)
    assert isinstance(holder, _Holder)
    encoder = ImageEncoder("shuffled", holder.encoders, nn.Identity(), usual.dim)
    pixels = np.stack(list(films.values()))
    _fit_normalisation(encoder.trunk, pixels[:_FITTED_TO])
    maps = encoder.features(pixels).astype(np.float32)
    tokens = maps.reshape(*maps.shape[:2], -1).swapaxes(1, 2)
    *_, (_, shuffled) = randomise(copy.deepcopy(model), seed)
    assert isinstance(shuffled, FusionModel)
    _fit_scale(shuffled, tokens[:_FITTED_TO])
    return shuffled, dict(zip(films, tokens, strict=True))


def reread(explainer: Explainer, batch: Batch, subject: str, tokens: Mapping[str, np.ndarray]) -> Batch:
    """The subject's batch with the tokens of its films exchanged."""
    rows, own = explainer.corpus.rows(subject, FILMS), batch[FILMS]
    values = own.values.clone()
    for place, (digest, cell) in enumerate(zip(rows["digest"], rows["cell"], strict=True)):
        values[0, place] = torch.from_numpy(tokens[str(digest)][int(cell)])
    return {**batch, FILMS: own.with_values(values)}


@torch.no_grad()
def _fit_normalisation(network: nn.Module, pixels: np.ndarray) -> None:
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over batches
        norm.train()
    for start in range(0, len(pixels), 8):
        network(torch.from_numpy(pixels[start : start + 8]))
    for norm in norms:
        norm.eval()


@torch.no_grad()
def _fit_scale(model: FusionModel, tokens: np.ndarray) -> None:
    fitted = DenseEncoder(fit_dense(tokens.reshape(-1, tokens.shape[-1]), components=0)).standardise
    for member in model.members:
        assert isinstance(member, FusionNetwork)
        encoder = member.encoders[FILMS]
        assert isinstance(encoder, DenseEncoder)
        standardise = encoder.standardise
        standardise.mean.copy_(fitted.mean)
        standardise.factor.copy_(fitted.factor)
