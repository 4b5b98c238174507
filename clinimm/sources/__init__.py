"""Where bytes come from. Every source is reached through the one interface in ``base.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from clinimm.config import IngestConfig, PipelineConfig, SourceConfig

if TYPE_CHECKING:
    from clinimm.sources.base import Source


def build_sources(config: PipelineConfig) -> tuple[Source, ...]:
    """The sources of a pipeline file, in its order, with its rules for reading."""
    return open_sources(config.sources, config.ingest)


def open_sources(sources: Sequence[SourceConfig], rules: IngestConfig | None = None) -> tuple[Source, ...]:
    """Sources from their settings; nothing is read yet."""
    from clinimm.sources.local import LocalSource

    return tuple(
        LocalSource(source.root.expanduser(), source.site, rules or IngestConfig()) for source in sources
    )
