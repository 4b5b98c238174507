"""Stain generators, one file each, behind one signature (``generator.Generator``)."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from clinimm.core.errors import ConfigError

if TYPE_CHECKING:
    from clinimm.nn.stain.generator import Generator, GeneratorSettings

#: Name in the pipeline file -> module and class. Three differ in training alone.
GENERATORS: dict[str, tuple[str, str]] = {
    "unet": ("clinimm.nn.stain.unet", "UNet"),
    "pix2pix": ("clinimm.nn.stain.unet", "UNet"),
    "cyclegan": ("clinimm.nn.stain.unet", "UNet"),
    "cut": ("clinimm.nn.stain.unet", "UNet"),
    "vae": ("clinimm.nn.stain.vae", "VAE"),
    "flow": ("clinimm.nn.stain.flow", "Flow"),
}


def build_generator(name: str, settings: GeneratorSettings) -> Generator:
    """The generator that ``staining.generator`` names, channels last, with random weights.

    Raises:
        ConfigError: the name is unknown; lists those that are known.
        MissingExtraError: a package that it needs is not installed.
    """
    import torch

    if name not in GENERATORS:
        raise ConfigError(f"staining.generator: {name!r} is unknown; known are {', '.join(GENERATORS)}.")
    module, kind = GENERATORS[name]
    generator: Generator = getattr(import_module(module), kind)(settings)
    generator.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a gap in torch's stubs
    return generator
