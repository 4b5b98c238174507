"""Fusion strategies, one file each, behind one signature: ``{modality: Tokens} -> Tokens``."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from clinimm.core.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from clinimm.config import ModelConfig

#: Name in the pipeline file -> module and class.
FUSIONS: dict[str, tuple[str, str]] = {
    "mid": ("clinimm.fusion.mid", "MidFusion"),
}


def build_fusion(config: ModelConfig) -> nn.Module:
    """The strategy that ``model.fusion`` names.

    Raises:
        ConfigError: the name is unknown; lists those that are known.
    """
    if config.fusion not in FUSIONS:
        raise ConfigError(f"model.fusion: {config.fusion!r} is unknown; known are {', '.join(FUSIONS)}.")
    module, name = FUSIONS[config.fusion]
    build: Callable[[ModelConfig], nn.Module] = getattr(import_module(module), name)
    return build(config)
