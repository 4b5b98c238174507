"""The settings of a run, kept beside its results, so that a finished run speaks for itself."""

from __future__ import annotations

from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from clinimm.config import PipelineConfig, load_pipeline
from clinimm.core.errors import ConfigError
from clinimm.core.record import write_bytes, write_text

PIPELINE_COPY = "pipeline.yaml"
COHORT_COPY = "cohort.yaml"


def resolve(config: PipelineConfig) -> PipelineConfig:
    """The same settings with absolute paths of sources and of files beside them, valid in any folder."""
    sources = tuple(
        source.model_copy(update={"root": source.root.expanduser().absolute()}) for source in config.sources
    )
    changes: dict[str, Any] = {"sources": sources}
    if config.cohort is not None:
        changes["cohort"] = config.cohort.absolute()
    files = {"policy": config.audit.policy, "waivers": config.audit.waivers}
    named: dict[str, Any] = {name: path.absolute() for name, path in files.items() if path is not None}
    tried = config.audit.mitigation
    if tried is not None and tried.before is not None:
        named["mitigation"] = tried.model_copy(update={"before": tried.before.absolute()})
    if named:
        changes["audit"] = config.audit.model_copy(update=named)
    if config.explain.findings is not None:
        changes["explain"] = config.explain.model_copy(
            update={"findings": config.explain.findings.absolute()}
        )
    return config.model_copy(update=changes)


def write_settings(config: PipelineConfig, folder: Path) -> None:
    """Write the resolved settings into ``folder``, so that it needs its pipeline file no longer.

    Where the run lies is not among them: its folder says so, and may be moved.
    """
    config = resolve(config)
    if config.cohort is not None and config.cohort.is_file():
        copy = folder / COHORT_COPY
        if config.cohort != copy.absolute():
            write_bytes(copy, config.cohort.read_bytes())
    values = config.model_dump(mode="json", by_alias=True, exclude_none=True, exclude={"runs_dir"})
    text = StringIO()
    YAML(typ="safe", pure=True).dump(values, text)
    write_text(folder / PIPELINE_COPY, text.getvalue())


def load_run(folder: Path, overrides: Sequence[str] = ()) -> PipelineConfig:
    """The settings of a run that lies in ``folder``, wherever the folder was moved to.

    Raises:
        ConfigError: it is not a run's folder.
    """
    copy = folder / PIPELINE_COPY
    if not copy.is_file():
        raise ConfigError(f"{folder} is not the folder of a run: it has no {PIPELINE_COPY}.")
    config = load_pipeline(copy, overrides)
    changes: dict[str, Any] = {"runs_dir": folder.parent}
    if not any(override.startswith("name=") for override in overrides):
        changes["name"] = folder.name  # the folder may have been renamed
    kept = folder / COHORT_COPY
    if kept.is_file() and (config.cohort is None or not config.cohort.is_file()):
        changes["cohort"] = kept
    return config.model_copy(update=changes)
