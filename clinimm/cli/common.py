"""What several verbs share: their options, and how a target becomes settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clinimm.core.errors import ConfigError

if TYPE_CHECKING:
    from clinimm.config import PipelineConfig
    from clinimm.core.chain import Head
    from clinimm.workspace import Workspace

Target = Annotated[
    Path,
    typer.Argument(metavar="FILE", help="A pipeline file, the folder of a run, or its name below runs/."),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The folder of a run, or its name below runs/.")]
Data = Annotated[
    Path | None, typer.Option("--data", metavar="DIR", help="Read this folder instead of the file's sources.")
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change one setting, such as train.epochs=5; repeatable."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the result.")]


def load_target(target: Path, overrides: list[str] | None = None, data: Path | None = None) -> PipelineConfig:
    """The settings behind a pipeline file, a run's folder, or a run's name.

    Raises:
        ConfigError: there is no such file or run, or ``data`` is no folder.
    """
    from clinimm.config import SourceConfig, load_pipeline
    from clinimm.settings import load_run, resolve

    config = (
        load_pipeline(target, overrides or ())
        if target.is_file()
        else load_run(find_run(target, overrides), overrides or ())
    )
    if data is not None:
        if not data.is_dir():
            raise ConfigError(f"--data {data}: there is no such folder.")
        config = config.model_copy(update={"sources": (SourceConfig(root=data),)})
    return resolve(config)


def load_workspace(target: Path, overrides: list[str] | None = None) -> Workspace:
    """The workspace behind a pipeline file, a run's folder, or a run's name."""
    from clinimm.workspace import Workspace

    return Workspace(load_target(target, overrides))


def find_run(run: Path, overrides: list[str] | None = None) -> Path:
    """The folder of a run that is given by its folder or by its name.

    Raises:
        ConfigError: there is none; names the runs that there are.
    """
    if run.is_dir():
        return run if run.name not in ("", "..") else run.resolve()  # a run's name is its folder's
    runs_dir = runs_folder(overrides)
    if (runs_dir / run).is_dir():
        return runs_dir / run
    known = sorted(path.parent.name for path in runs_dir.glob("*/pipeline.yaml"))
    raise ConfigError(
        f"{run}: neither a pipeline file nor a run. "
        + (f"Runs in {runs_dir} are: {', '.join(known)}." if known else f"There are no runs in {runs_dir}.")
    )


def runs_folder(overrides: list[str] | None) -> Path:
    """The folder of all runs: ``runs``, or what ``--set runs_dir=DIR`` says."""
    for override in overrides or ():
        if override.startswith("runs_dir="):
            return Path(override.removeprefix("runs_dir="))
    return Path("runs")


def parse_head(text: str | None) -> Head | None:
    """The end of a log that somebody wrote down: ``NUMBER:SHA256``.

    Raises:
        ConfigError: it is none.
    """
    from clinimm.core.chain import Head

    if text is None:
        return None
    number, _, digest = text.partition(":")
    if not number.isdigit() or not digest:
        raise ConfigError(f"--head {text}: expected NUMBER:SHA256, as this verb prints it.")
    return Head(int(number), digest)


def find_subject(workspace: Workspace, subject: str) -> str:
    """The pseudonym of a subject that is given by pseudonym or by patient identifier.

    An identifier is hashed with the key and looked up; it is written nowhere.

    Raises:
        DataError: no subject of the run has it.
    """
    import pandas as pd

    from clinimm.core.errors import DataError
    from clinimm.core.pseudonym import load_pseudonymiser

    table = pd.read_parquet(workspace.need("ingest", "subjects.parquet"))
    if (table["subject_id"] == subject).any():
        return subject
    hashed = load_pseudonymiser(workspace.config.ingest.pseudonym_key_file).identifier(subject)
    found = sorted(set(table.loc[table["identifier_hash"] == hashed, "subject_id"]))
    if not found:
        raise DataError(
            "--subject: no subject of this run has that pseudonym or patient identifier. Identifiers "
            "are found only with the key that ingest used."
        )
    if len(found) > 1:
        raise DataError(
            "--subject: that identifier was given by more than one issuer; give the pseudonym: "
            + ", ".join(found)
        )
    return found[0]
