"""Where the artefacts of a run lie: ``runs/NAME/STAGE/...``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from clinimm.config import PipelineConfig
from clinimm.core.errors import MissingStageError


@dataclass(frozen=True)
class Workspace:
    """One run's folder, and the configuration that made it.

    Every stage is a function of this one value: it reads other stages' files through ``need``
    and writes its own below ``stage``.
    """

    config: PipelineConfig

    @property
    def root(self) -> Path:
        """``runs/NAME``."""
        return self.config.runs_dir / self.config.name

    @property
    def cache(self) -> Path:
        """The token cache, shared by all runs of one runs folder."""
        return self.config.encode.cache_dir or self.config.runs_dir / "cache"

    def stage(self, name: str) -> Path:
        """The folder of a stage, made where it is absent."""
        folder = self.root / name
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def need(self, stage: str, file: str) -> Path:
        """A file that an earlier stage wrote.

        Raises:
            MissingStageError: it is not there; names the verb that makes it.
        """
        path = self.root / stage / file
        if not path.exists():
            raise MissingStageError(f"{path} is missing: run `clinimm {stage} PIPELINE` first.")
        return path
