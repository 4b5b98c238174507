"""Small generators with weights that do something, for tests."""

from __future__ import annotations

import torch
from torch import nn

from clinimm.nn.stain import build_generator
from clinimm.nn.stain.generator import Generator, GeneratorSettings
from clinimm.nn.tokens import Tokens

#: The siblings that differ in more than their training.
ARCHITECTURES = ("unet", "vae", "flow")
CONTEXT_DIM = 6


def awake(name: str, seed: int = 0, **changes: object) -> Generator:
    """A generator in evaluation mode in which nothing starts at zero any more."""
    torch.manual_seed(seed)
    values: dict[str, object] = {"stains": 2, "width": 8, "levels": 4, "sampler_steps": 2}
    generator = build_generator(name, GeneratorSettings(**{**values, **changes}))  # type: ignore[arg-type]
    for module in generator.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)  # type: ignore[arg-type]
            nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        if isinstance(module, nn.Conv2d) and not module.weight.any():
            nn.init.normal_(module.weight, std=0.1)
    return generator.eval()


def context_of(batch: int, present: bool = True) -> Tokens:
    """Three tokens a patient, or none of them real."""
    return Tokens(torch.randn(batch, 3, CONTEXT_DIM), torch.full((batch, 3), present), torch.zeros(batch, 3))


def image_of(rows: int, columns: int, seed: int = 0, batch: int = 1) -> torch.Tensor:
    """Noise in [0, 1]."""
    return torch.rand(batch, 3, rows, columns, generator=torch.Generator().manual_seed(seed))
